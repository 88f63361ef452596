"""Low-rank changes of the key and value matrices of a frozen language model (LoRA, arXiv:2106.09685)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.block_parts import BlockParts
from mpnp_ros.llm.families import BlockContext
from mpnp_ros.llm.language_model import AlteredModel, LanguageModel
from mpnp_ros.llm.text_cache import TextCache


class Lora(nn.Module):
    """W x + (alpha / r) B (A x) in place of W x, for the key and value matrices of some blocks.

    A family with one matrix for queries, keys and values (BLOOM, GPT-2) has the change of all of that
    matrix, as the authors of arXiv:2312.07886 have it for BLOOM.  Without dropout.

    down: A of each block and matrix, [blocks, matrices, r, d], initially random.  up: B, [blocks, matrices,
    outputs, r], initially zero, so that nothing is changed.
    """

    def __init__(self, blocks: Sequence[int], matrices: int, rank: int, width: int, outputs: int,
                 alpha: float) -> None:
        """matrices: changed matrices of a block, each [outputs, width]."""
        super().__init__()
        self.blocks, self.factor = tuple(blocks), alpha / rank
        bound = width ** -.5
        self.down = nn.Parameter(torch.empty(len(blocks), matrices, rank, width).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(len(blocks), matrices, outputs, rank))

    def altered(self, lm: LanguageModel) -> AlteredModel:
        """Return the model with these changes.  Raises UnsupportedModelError for one that is not pre-norm."""
        return AlteredModel(lm, {block: LoraBlock(self, place) for place, block in enumerate(self.blocks)})


class LoraMatrix(nn.Module):
    """A frozen matrix and its low-rank change; down: [r, d].  up: [outputs, r]."""

    def __init__(self, matrix: nn.Module, down: torch.Tensor, up: torch.Tensor, factor: float) -> None:
        super().__init__()
        self.matrix, self.change = matrix, (down, up, factor)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[..., d] -> [..., outputs]."""
        down, up, factor = self.change
        return self.matrix(inputs) + (factor * (inputs.float() @ down.T) @ up.T).to(inputs.dtype)


@dataclass(frozen=True, eq=False)
class LoraBlock:
    """The form of a block whose key and value matrices are changed; place: of the block in `lora.blocks`."""

    lora: Lora
    place: int
    caches: ClassVar[bool] = True

    def __call__(self, parts: BlockParts, hidden: torch.Tensor, context: BlockContext,
                 prefix: BlockPrefix | None, cache: TextCache | None) -> torch.Tensor:
        """See BlockForm."""
        lora, names = self.lora, parts.key_value_projections
        changed = {name: LoraMatrix(getattr(parts.attention, name), down, up, lora.factor)
                   for name, down, up in zip(names, lora.down[self.place], lora.up[self.place], strict=True)}
        return parts.with_projections(changed).run(hidden, context, prefix, cache)
