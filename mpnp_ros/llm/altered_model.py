"""A view of a frozen language model with some blocks replaced."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.block_parts import BlockParts
from mpnp_ros.llm.families import BlockContext
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.text_cache import TextCache


class BlockForm(Protocol):
    """The replacement of a block.

    caches: whether it appends to the cache as the block does; a form without attention over the text appends
    nothing.
    """

    caches: bool

    def __call__(self, parts: BlockParts, hidden: torch.Tensor, context: BlockContext,
                 prefix: BlockPrefix | None, cache: TextCache | None) -> torch.Tensor:
        """Return the block's output [B, T, d]; parts: of the stock block; the rest as in run_block."""


class AlteredModel(LanguageModel):
    """A language model that shares all weights with another one and replaces some blocks.

    Creating it is cheap and does not change the other one.
    """

    def __init__(self, lm: LanguageModel, forms: Mapping[int, BlockForm],
                 identity: str | None = None) -> None:
        """identity: key of prepared questions on disk; default: that of `lm`."""
        self.__dict__.update(lm.__dict__)
        self.stock, self.forms = lm, dict(forms)
        self.identity = identity or lm.identity

    def caching_blocks(self, first: int) -> Sequence[int]:
        """Return the blocks from `first` on that append to a cache."""
        return [block for block in self.stock.caching_blocks(first)
                if block not in self.forms or self.forms[block].caches]

    def run_block(self, index: int, hidden: torch.Tensor, context: BlockContext, prefix: BlockPrefix | None,
                  cache: TextCache | None) -> torch.Tensor:
        """Run one block in its replaced form."""
        form = self.forms.get(index)
        if form is None:
            return self.stock.run_block(index, hidden, context, prefix, cache)
        return form(self.parts(index), hidden, context, prefix, cache)
