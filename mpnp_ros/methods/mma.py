"""Mixture-of-modality adaptation (LaVIN): columns, and adapters mixed by the modalities present.

arXiv:2305.15023, corrected as in docs/guide/methods.md.  Before the attention of each block

    u' = u + sum_k w_k (B_k (A u + b_A) + b_k),   w = softmax((W_r t + b_r) / tau)

with t the normed state of the modality token in that block.  The token sees itself only and is seen by
nothing, so it is not in the text at all: it is run alone, once for each set of modalities.  It is t_text plus
one row of the link of each modality present.  Given w all is affine, so it folds into the first matrices of
the attention.  Left out: dropout within adapters.
"""
from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.block_parts import AffineMap, BlockParts
from mpnp_ros.llm.families import BlockContext
from mpnp_ros.llm.language_model import AlteredModel, BlockForm, LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.columns.link import ColumnConfig, ColumnConnections, ColumnLink
from mpnp_ros.methods.columns.method import ColumnMethod, Seen
from mpnp_ros.methods.registry import MethodSpec
from mpnp_ros.options import option

FoldedBlocks = Mapping[int, BlockParts]


@dataclass(frozen=True)
class MmaConfig(ColumnConfig):
    """Options of an MMA link; adapters are in `blocks`, and columns stand before the first of them."""

    hidden: int = option(128, 'hidden width of the neck, which makes columns of tokens', low=1)
    rank: int = option(8, 'r of the adapters', low=1)
    experts: int = option(2, 'up-projections between which the router mixes', low=1)
    groups: int = option(2, 'diagonal blocks of an up-projection', low=1)
    router_temperature: float = option(10., 'tau of the routers')

    def check(self) -> Iterator[str]:
        """Groups must divide the sizes of adapters."""
        yield from super().check()
        if self.rank % self.groups or self.text_width % self.groups:
            yield 'rank and the width of the language model must be multiples of groups'
        if not self.router_temperature > 0:
            yield 'router_temperature must be positive'


class Mixture(NamedTuple):
    """The experts of an adapter, mixed by a router: up [S, d, r] and shift [S, d], S sets or texts."""

    up: torch.Tensor
    shift: torch.Tensor

    def of(self, rows: torch.Tensor) -> Mixture:
        """Return the mixture of some rows [B]."""
        return Mixture(self.up[rows], self.shift[rows])


class Adapter(nn.Module):
    """The adapter of one block and its router: initially an exact identity.

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
        """Return the weight of each expert, [S, experts], by the normed modality token [S, d]."""
        return torch.softmax(self.router(token.float()) / self.temperature, -1)

    def mixed(self, weights: torch.Tensor) -> Mixture:
        """Return the experts mixed by weights [S, experts]."""
        diagonal = torch.eye(self.up.shape[1], device=weights.device)[:, None, :, None]
        blocks = torch.einsum('sk,kgor->sgor', weights, self.up)[:, :, :, None] * diagonal
        return Mixture(blocks.flatten(3).flatten(1, 2), weights @ self.shift)

    def forward(self, normed: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """[B, T, d] -> [B, T, d]; mixture: of B texts."""
        wide = normed.float()
        return (wide + self.down(wide) @ mixture.up.mT + mixture.shift[:, None]).to(normed.dtype)

    def affine(self, mixture: Mixture, row: int) -> AffineMap:
        """Return the map of the adapter for one set of modalities."""
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
    """The form of a block whose own parts have its changes in their matrices."""

    parts: BlockParts
    caches: ClassVar[bool] = True

    def __call__(self, _: BlockParts, hidden: torch.Tensor, context: BlockContext,
                 prefix: BlockPrefix | None, cache: TextCache | None) -> torch.Tensor:
        """See BlockForm."""
        return self.parts.run(hidden, context, prefix, cache)


class Adapters(nn.Module):
    """The shared part of links: t_text and the adapter of each block.

    A method that also alters blocks in other ways overrides how a block is run: :meth:`form`, and with its
    form in the matrices :meth:`fold` and :meth:`folded`.
    """

    def __init__(self, config: MmaConfig) -> None:
        super().__init__()
        self.blocks = config.blocks
        self.token = nn.Parameter(torch.randn(config.text_width))
        self.adapters = nn.ModuleList(new_adapter(config) for _ in range(self.adapted(config)))

    @staticmethod
    def adapted(config: Any) -> int:
        """Return how many blocks have an adapter before their attention; config: of the method's links."""
        return len(config.blocks)

    def adapter(self, block: int) -> Adapter:
        """Return the adapter that alters a block."""
        return self.adapters[self.blocks.index(block)]

    def mix(self, block: int, weights: torch.Tensor, sets: Sequence[Sequence[MmaLink]]) -> Mixture:
        """Return the experts of a block mixed by weights [S, experts], for S sets of links."""
        return self.adapter(block).mixed(weights)

    def form(self, block: int, mixture: Mixture) -> BlockForm:
        """Return the form of a block; mixture: of the B texts of the batch."""
        return AdaptedBlock(self.adapter(block), mixture)

    def fold(self, parts: BlockParts, mixture: Mixture, row: int) -> BlockParts:
        """Return the parts of a block with its form in the matrices, for one set of modalities."""
        return parts.attending_after(self.adapter(parts.index).affine(mixture, row))

    def folded(self, parts: BlockParts) -> BlockForm:
        """Return the form of a block that was folded."""
        return FoldedBlock(parts)

    def mixtures(self, lm: LanguageModel, sets: Sequence[Sequence[MmaLink]]) -> dict[int, Mixture]:
        """Return block -> mixture for S sets of links, by running their modality tokens."""
        tokens = torch.stack([self.token + sum(link.key for link in links) for links in sets])
        routed = {block: _RoutedBlock(self, block, sets) for block in self.blocks}
        layout = TextLayout.causal(torch.zeros(len(sets), 1, dtype=torch.long, device=tokens.device))
        AlteredModel(lm, routed).run_blocks(
            tokens[:, None].to(lm.dtype), layout, self.blocks[0], self.blocks[-1] + 1)
        return {block: form.mixture for block, form in routed.items()}


class MmaLink(ColumnLink):
    """Tokens of one modality -> columns, through a neck: Linear, SiLU, Linear.

    key: the row that the modality adds to the modality token; initially zero, so plugging leaves the routing
    as it is.
    """

    kind = 'mma'
    config_type = MmaConfig
    config: MmaConfig

    def __init__(self, config: MmaConfig) -> None:
        super().__init__(config)
        self.key = nn.Parameter(torch.zeros(config.text_width))

    def new_projection(self) -> nn.Module:
        """Return an untrained neck."""
        config = self.config
        neck = nn.Sequential(nn.Linear(config.token_width, config.hidden), nn.SiLU(),
                             nn.Linear(config.hidden, config.text_width))
        for layer in (neck[0], neck[2]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        return neck

    def new_shared(self) -> Adapters:
        """Return t_text and the adapters, untrained."""
        return Adapters(self.config)

    @property
    def routing(self) -> tuple[nn.Parameter, ...]:
        """The parameters of this link that decide how blocks run."""
        return (self.key,)


class _RoutedBlock:
    """The form of a block on modality tokens, which route themselves; keeps the mixture."""

    caches: ClassVar[bool] = False

    def __init__(self, adapters: Adapters, block: int, sets: Sequence[Sequence[MmaLink]]) -> None:
        self.adapters, self.block, self.sets = adapters, block, sets
        self.mixture: Mixture

    def __call__(self, parts: BlockParts, hidden: torch.Tensor, context: BlockContext,
                 prefix: BlockPrefix | None, cache: TextCache | None) -> torch.Tensor:
        """See BlockForm."""
        weights = self.adapters.adapter(self.block).weigh(parts.attention_norm(hidden)[:, 0])
        self.mixture = self.adapters.mix(self.block, weights, self.sets)
        return self.adapters.form(self.block, self.mixture)(parts, hidden, context, prefix, cache)


def new_adapter(config: MmaConfig, kind: type[Adapter] = Adapter, rank: int | None = None) -> Adapter:
    """Return an untrained adapter, by default of the configuration's rank."""
    return kind(config.text_width, rank or config.rank, config.experts, config.groups,
                config.router_temperature)


@dataclass(frozen=True, eq=False)
class _Fold:
    """Folded blocks, with the tensors that they were folded from and the versions of these."""

    sources: tuple[torch.Tensor, ...]
    versions: tuple[int, ...]
    blocks: FoldedBlocks

    def fits(self, sources: Sequence[torch.Tensor]) -> bool:
        """Whether the sources are the same tensors and none of them has been written to since."""
        return len(sources) == len(self.sources) and all(
            own is given and given._version == version
            for own, given, version in zip(self.sources, sources, self.versions, strict=True))


class Folds:
    """The folded blocks of the most recently used sets; thread-safe.  limit: how many sets."""

    def __init__(self, limit: int = 8) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._kept: OrderedDict[Hashable, _Fold] = OrderedDict()

    def clear(self) -> None:
        """Remove all: the tensors they were folded from may change unseen, as by fused optimisers."""
        with self._lock:
            self._kept.clear()

    def get(self, key: Hashable, sources: Sequence[torch.Tensor],
            make: Callable[[], FoldedBlocks]) -> FoldedBlocks:
        """Return the folded blocks of a key, folded again if one of their source tensors has changed."""
        with self._lock:
            fold = self._kept.get(key)
            if fold is None or not fold.fits(sources):
                versions = tuple(source._version for source in sources)
                fold = self._kept[key] = _Fold(tuple(sources), versions, make())
            self._kept.move_to_end(key)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
            return fold.blocks


class Mma(ColumnMethod):
    """Adapters before the attention of every block, routed by the set of modalities.

    Without gradients they are folded into the model's matrices, once for each set of modalities and state of
    the links.  Texts of one batch may see different sets.
    """

    def __init__(self, lm: LanguageModel, *, fold: bool = True, **options: Any) -> None:
        """fold: False runs adapters unfolded when answering too, for comparison."""
        super().__init__(lm, **options)
        self.fold = fold
        self._folds = Folds()

    def model_for(self, connections: ColumnConnections, seen: Sequence[Seen]) -> LanguageModel:
        """Return the model in the form for the modalities of each text."""
        shared: Adapters | None = connections.shared
        if shared is None:
            return self.lm
        always = {name for name, link in connections.links.items() if link.soft_tokens is not None}
        each = [modalities | always for modalities in seen]
        sets = list(dict.fromkeys(each))
        choice = torch.tensor([sets.index(modalities) for modalities in each], device=self.lm.device)
        if torch.is_grad_enabled():
            self._folds.clear()
        if self.fold and not torch.is_grad_enabled():
            folds = [self._folded(connections, modalities) for modalities in sets]
            return AlteredModel(self.lm, {
                block: shared.folded(BlockParts.of_rows([fold[block] for fold in folds], choice))
                for block in folds[0]})
        mixtures = shared.mixtures(self.lm, [_links(connections, modalities) for modalities in sets])
        return AlteredModel(self.lm, {
            block: shared.form(block, mixture.of(choice)) for block, mixture in mixtures.items()})

    def _folded(self, connections: ColumnConnections, modalities: Seen) -> FoldedBlocks:
        """Return the altered blocks for one set of modalities."""
        shared, links = connections.shared, _links(connections, modalities)

        def fold() -> FoldedBlocks:
            return {block: shared.fold(self.lm.parts(block), mixture, 0)
                    for block, mixture in shared.mixtures(self.lm, [links]).items()}

        own = chain.from_iterable(link.routing for link in links)
        return self._folds.get(modalities, (*shared.parameters(), *shared.buffers(), *own), fold)


def _links(connections: ColumnConnections, modalities: Seen) -> list[MmaLink]:
    links: Mapping[str, Any] = connections.links
    return [links[name] for name in sorted(modalities)]


SPEC = MethodSpec(
    'mma', 'Mixture-of-Modality Adaptation of LaVIN (arXiv:2305.15023): tokens in front, an adapter before '
    'every attention, mixed by the modalities present', Mma, MmaLink)
