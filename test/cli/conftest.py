"""A tiny language model on disk, for nodes in processes of their own."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def tiny_lm_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable,
                   tiny_tokenizer: object) -> Path:
    """Folder of a random model in the format of transformers."""
    folder = tmp_path_factory.mktemp('tiny-llama')
    tiny_model('llama').save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
