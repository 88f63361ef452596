"""The paper's accounting of operations, by its formula and by torch's counter on its models.

Its FLOPs are multiply-accumulates: a forward pass of all blocks, the head on all positions and a LiDAR
encoder of 256 tokens, and one backward pass through the linked blocks, to activations only.  It counts one
sample at a time.  The optimiser and trained parts are not counted.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.paper_scale.models import LIDAR, MODELS, SWITCH, TOKEN_WIDTH, encoder, language_model
from mpnp_ros.llm.cost import head_macs, macs
from mpnp_ros.llm.families import ModelShape
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.training.budget import measure_macs

PETA = 1e15
#: Tokens of the text and of the LiDAR; the paper counts all as rows of every block.
ROWS = SWITCH.text + SWITCH.tokens
#: Patches of a LiDAR sweep as counted by the paper; RangeViT has 4096 and a CLS token.
COUNTED_PATCHES, TRUE_PATCHES = 256, 4097
VIT_BLOCKS = 12


@dataclass(frozen=True)
class AccountingRow:
    """A row of the paper: model, method and PFLOPs as published.

    linked: blocks in the backward pass.  derived: by the formula of the paper.  whole: all weights are
    trained, which doubles the backward pass.  figure: read from a figure, to about 0.02.
    """

    model: str
    method: str
    linked: int
    published: float
    derived: float
    whole: bool = False
    figure: bool = False


ROWS_OF_THE_PAPER = (
    *(AccountingRow('OPT-1.3B', f'mPnP N={linked}', linked, published, derived)
      for linked, published, derived in (
        (4, .68, .683), (7, .74, .743), (10, .81, .804), (13, .87, .865), (16, .93, .926), (19, .99, .987),
        (22, 1.05, 1.048))),
    AccountingRow('OPT-1.3B', 'PromptFuse', 24, 1.09, 1.088),
    AccountingRow('OPT-1.3B', 'Full LLM', 24, 1.58, 1.575, whole=True),
    AccountingRow('BLOOMZ-1.1B', 'mPnP N=10', 10, .73, .730),
    AccountingRow('BLOOMZ-1.1B', 'mPnP N=13', 13, .76, .764),
    AccountingRow('BLOOMZ-1.1B', 'Full LLM', 24, 1.16, 1.164, whole=True),
    AccountingRow('OPT-2.7B', 'mPnP N=17', 17, 1.67, 1.69, figure=True),
    AccountingRow('OPT-2.7B', 'mPnP N=21', 21, 1.81, 1.81, figure=True),
    AccountingRow('OPT-2.7B', 'PromptFuse', 32, 2.15, 2.16, figure=True),
)
#: (model, method) -> PFLOPs as printed; the formula gives the same full-depth value for all of a model.
NOT_DERIVED = {('OPT-1.3B', 'eP-ALM'): 1.11, ('BLOOMZ-1.1B', 'eP-ALM'): .91,
               ('BLOOMZ-1.1B', 'PromptFuse'): .90}


def encoder_macs(tokens: int, width: int = TOKEN_WIDTH, blocks: int = VIT_BLOCKS) -> int:
    """MACs of the blocks of a vision transformer with a feed-forward ratio of 4."""
    return blocks * (12 * tokens * width ** 2 + 2 * tokens ** 2 * width)


def sample_macs(shape: ModelShape, linked: int, whole: bool = False) -> float:
    """MACs of one sample by the formula."""
    forward, head = macs(shape, 0, shape.blocks, ROWS), head_macs(shape, ROWS)
    back = 2 * forward if whole else linked / shape.blocks * forward
    return encoder_macs(COUNTED_PATCHES) + forward + head + back + head


def petas(sample: float) -> float:
    """The cost of all samples in all epochs, in 1e15 MACs.  sample: MACs of one."""
    return sample * SWITCH.seen / PETA


def full_depth(model: str) -> float:
    """The formula for frozen weights and gradients through all blocks, in 1e15 MACs."""
    shape = shape_of(model)
    return petas(sample_macs(shape, shape.blocks))


def shape_of(model: str) -> ModelShape:
    """The sizes of one of the paper's models."""
    with torch.device('meta'):
        return language_model(model).shape


def count_sample(row: AccountingRow) -> int:
    """MACs of one sample by torch's counter, on real modules with meta tensors."""
    with torch.device('meta'):
        patches = torch.zeros(1, COUNTED_PATCHES, TOKEN_WIDTH)
        with torch.no_grad():
            frames = measure_macs(lambda: torch.nn.Sequential(*encoder(LIDAR).blocks)(patches))
        lm = language_model(row.model)
        if row.whole:
            for parameter in lm.family.blocks.parameters():
                parameter.requires_grad_()

        def step() -> None:  # with gradients through the linked blocks only, as in the paper
            layout = TextLayout.causal(torch.zeros(1, ROWS, dtype=torch.long))
            first = lm.blocks - row.linked
            with torch.no_grad():
                hidden = lm.run_blocks(lm.embed(layout), layout, 0, first)
            hidden = lm.run_blocks(hidden.requires_grad_(), layout, first, lm.blocks)
            lm.logits(hidden).float().logsumexp(-1).sum().backward()

        return frames + measure_macs(step)


@dataclass(frozen=True)
class Reproduced:
    """A row of the paper by formula and by torch's counter, in 1e15 MACs."""

    row: AccountingRow
    formula: float
    counted: float


def reproduce() -> list[Reproduced]:
    """All rows of the paper that the formula gives."""
    shapes = {model: shape_of(model) for model in MODELS}
    return [Reproduced(row, petas(sample_macs(shapes[row.model], row.linked, row.whole)),
                       petas(count_sample(row))) for row in ROWS_OF_THE_PAPER]
