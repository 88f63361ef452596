"""Prefixes for tests of the language model."""
from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.language_model import LanguageModel


def _random_prefix(lm: LanguageModel, gate: float = 0., columns: int = 3, batch: int = 1,
                   blocks: tuple[int, ...] = (2, 3), seed: int = 1) -> dict[int, BlockPrefix]:
    generator = torch.Generator().manual_seed(seed)
    shape = batch, lm.kv_heads, columns, lm.head_dim
    return {block: BlockPrefix(*torch.randn(2, *shape, generator=generator), torch.full((columns,), gate))
            for block in blocks}


@pytest.fixture(scope='session')
def make_prefix() -> Callable[..., dict[int, BlockPrefix]]:
    """Give a function: lm, gate, columns, batch, blocks, seed -> random prefixes with one gate."""
    return _random_prefix
