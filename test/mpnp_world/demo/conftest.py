"""A terminal for what the demo prints."""
from __future__ import annotations

import io

import pytest
from rich.console import Console


@pytest.fixture
def console() -> Console:
    """A console that writes into memory, as wide as a log."""
    return Console(file=io.StringIO(), width=132)
