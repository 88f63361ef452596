"""Mixture-of-modality adaptation (LaVIN): adapters that are mixed by which modalities are there.

arXiv:2305.15023, corrected as in docs/guide/methods.md.  Before the attention of each block

    u' = u + sum_k w_k (B_k (A u + b_A) + b_k),   w = softmax((W_r t + b_r) / tau)

with t the normed state of the modality token in that block.  The token sees itself only and is seen by
nothing, so it is not in the text at all: what becomes of it is computed by running it alone, once for each
set of modalities.  It is t_text plus one row for each modality that is there, which that modality's link
brings.  Given w all is affine, so it folds into the first matrices of the attention.  Left out: dropout
within adapters.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.block_parts import AffineMap, BlockParts
from mpnp_ros.llm.families import BlockContext
from mpnp_ros.llm.language_model import AlteredModel, BlockForm, LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.columns.link import ColumnConfig, ColumnLink
from mpnp_ros.options import option


@dataclass(frozen=True)
class MmaConfig(ColumnConfig):
    """What an MMA link is made for; adapters are in `blocks`, and columns stand before the first of them."""

    hidden: int = option(128, 'hidden width of the neck, which makes columns of tokens', low=1)
    rank: int = option(8, 'r of the adapters', low=1)
    experts: int = option(2, 'up-projections between which the router mixes', low=1)
    groups: int = option(2, 'diagonal blocks of an up-projection', low=1)
    router_temperature: float = option(10., 'tau of the routers')

    def _requirements(self) -> list[tuple[bool, str]]:
        return [*super()._requirements(),
                (self.rank % self.groups == self.text_width % self.groups == 0,
                 'rank and the width of the language model must be multiples of groups'),
                (self.router_temperature > 0, 'router_temperature must be positive')]


class Mixture(NamedTuple):
    """What a router makes of an adapter's experts: up [S, d, r] and shift [S, d], S sets or texts."""

    up: torch.Tensor
    shift: torch.Tensor

    def of(self, rows: torch.Tensor) -> Mixture:
        """That of some rows [B]."""
        return Mixture(self.up[rows], self.shift[rows])


class Adapter(nn.Module):
    """The adapter of one block and its router: an exact identity to begin with.

    up: [experts, groups, d / groups, r / groups], block-diagonal.  shift: [experts, d].
    """

    def __init__(self, width: int, rank: int, experts: int, groups: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.down, self.router = nn.Linear(width, rank), nn.Linear(width, experts)
        self.up = nn.Parameter(torch.zeros(experts, groups, width // groups, rank // groups))
        self.shift = nn.Parameter(torch.zeros(experts, width))
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def weigh(self, token: torch.Tensor) -> torch.Tensor:
        """Of each expert its weight [S, experts], by the normed modality token [S, d]."""
        return torch.softmax(self.router(token.float()) / self.temperature, -1)

    def mixed(self, weights: torch.Tensor) -> Mixture:
        """The experts mixed by weights [S, experts]."""
        diagonal = torch.eye(self.up.shape[1], device=weights.device)[:, None, :, None]
        blocks = torch.einsum('sk,kgor->sgor', weights, self.up)[:, :, :, None] * diagonal
        return Mixture(blocks.flatten(3).flatten(1, 2), weights @ self.shift)

    def forward(self, normed: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """[B, T, d] -> [B, T, d]; mixture: of B texts."""
        wide = normed.float()
        return (wide + self.down(wide) @ mixture.up.mT + mixture.shift[:, None]).to(normed.dtype)

    def affine(self, mixture: Mixture, row: int) -> AffineMap:
        """What the adapter does with one set of modalities."""
        up, shift = mixture.up[row], mixture.shift[row]
        return AffineMap(torch.ones_like(shift), up, self.down.weight, up @ self.down.bias + shift)


@dataclass(frozen=True, eq=False)
class AdaptedBlock:
    """The form of a block with an adapter before its attention; mixture: of the B texts of the batch."""

    adapter: Adapter
    mixture: Mixture
    caches: ClassVar[bool] = True

    def __call__(self, parts: BlockParts, hidden: torch.Tensor, context: BlockContext,
                 prefix: BlockPrefix | None, cache: TextCache | None) -> torch.Tensor:
        """See BlockForm."""
        adapted = self.adapter(parts.attention_norm(hidden), self.mixture)
        hidden = hidden + parts.attend(adapted, context, prefix, cache)
        return hidden + parts.feed_forward(parts.feed_forward_norm(hidden))


@dataclass(frozen=True, eq=False)
class FoldedBlock:
    """The form of a block whose own parts hold what was folded into them."""

    parts: BlockParts
    caches: ClassVar[bool] = True

    def __call__(self, _: BlockParts, *run: object) -> torch.Tensor:
        """See BlockForm."""
        return self.parts.run(*run)


class Adapters(nn.Module):
    """What all links share: t_text and the adapter of each block.

    A method that alters blocks in other ways too overrides what says how a block is run: :meth:`form` as
    such, :meth:`fold` and :meth:`folded` with its form in the matrices.
    """

    def __init__(self, config: MmaConfig) -> None:
        super().__init__()
        self.blocks = config.blocks
        self.token = nn.Parameter(torch.randn(config.text_width))
        self.adapters = nn.ModuleList(new_adapter(config) for _ in range(self.adapted(config)))

    @staticmethod
    def adapted(config: MmaConfig) -> int:
        """How many blocks have an adapter before their attention."""
        return len(config.blocks)

    def adapter(self, block: int) -> Adapter:
        """What a block is altered by."""
        return self.adapters[self.blocks.index(block)]

    def mix(self, block: int, weights: torch.Tensor, sets: Sequence[Sequence[MmaLink]]) -> Mixture:
        """The experts of a block, by weights [S, experts], for S sets of links."""
        return self.adapter(block).mixed(weights)

    def form(self, block: int, mixture: Mixture) -> BlockForm:
        """How a block is run; mixture: of the B texts of the batch."""
        return AdaptedBlock(self.adapter(block), mixture)

    def fold(self, parts: BlockParts, mixture: Mixture, row: int) -> BlockParts:
        """The parts of a block with all of its form in the matrices, for one set of modalities."""
        return parts.attending_after(self.adapter(parts.index).affine(mixture, row))

    def folded(self, parts: BlockParts) -> BlockForm:
        """How a block is run that was folded."""
        return FoldedBlock(parts)

    def mixtures(self, lm: LanguageModel, sets: Sequence[Sequence[MmaLink]]) -> dict[int, Mixture]:
        """Block -> mixture for S sets of links, by what becomes of their modality tokens."""
        tokens = torch.stack([self.token + sum(link.key for link in links) for links in sets])
        routed = {block: _RoutedBlock(self, block, sets) for block in self.blocks}
        layout = TextLayout.causal(torch.zeros(len(sets), 1, dtype=torch.long, device=tokens.device))
        AlteredModel(lm, routed).run_blocks(
            tokens[:, None].to(lm.dtype), layout, self.blocks[0], self.blocks[-1] + 1)
        return {block: one.mixture for block, one in routed.items()}


class MmaLink(ColumnLink):
    """Tokens of one modality -> columns, through a neck: Linear, SiLU, Linear.

    key: the row that the modality adds to the modality token; zero to begin with, so that plugging leaves the
    routing as it is.
    """

    kind = 'mma'
    config_type = MmaConfig

    def __init__(self, config: MmaConfig) -> None:
        super().__init__(config)
        self.key = nn.Parameter(torch.zeros(config.text_width))

    def new_projection(self) -> nn.Module:
        """The neck."""
        config = self.config
        neck = nn.Sequential(nn.Linear(config.token_width, config.hidden), nn.SiLU(),
                             nn.Linear(config.hidden, config.text_width))
        for layer in (neck[0], neck[2]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        return neck

    def new_shared(self) -> Adapters:
        """t_text and the adapters."""
        return Adapters(self.config)

    @property
    def routing(self) -> tuple[nn.Parameter, ...]:
        """The parameters of this link that say how blocks run."""
        return (self.key,)


class _RoutedBlock:
    """The form of a block on modality tokens that route themselves; keeps the mixture."""

    caches = False

    def __init__(self, adapters: Adapters, block: int, sets: Sequence[Sequence[MmaLink]]) -> None:
        self.adapters, self.block, self.sets = adapters, block, sets
        self.mixture: Mixture

    def __call__(self, parts: BlockParts, hidden: torch.Tensor, *run: object) -> torch.Tensor:
        """See BlockForm."""
        weights = self.adapters.adapter(self.block).weigh(parts.attention_norm(hidden)[:, 0])
        self.mixture = self.adapters.mix(self.block, weights, self.sets)
        return self.adapters.form(self.block, self.mixture)(parts, hidden, *run)


def new_adapter(config: MmaConfig, kind: type[Adapter] = Adapter, rank: int | None = None) -> Adapter:
    """An untrained adapter, by default of the configuration's rank."""
    return kind(config.text_width, rank or config.rank, config.experts, config.groups,
                config.router_temperature)
