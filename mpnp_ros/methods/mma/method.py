"""LaVIN's way: columns before the text, and adapters mixed by the modalities present (arXiv:2305.15023)."""
from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from mpnp_ros.llm.block_parts import BlockParts
from mpnp_ros.llm.language_model import AlteredModel, BlockForm, LanguageModel
from mpnp_ros.methods.columns.link import ColumnConnections
from mpnp_ros.methods.columns.method import ColumnMethod, Seen
from mpnp_ros.methods.mma.link import MmaLink
from mpnp_ros.methods.registry import MethodSpec

FoldedBlocks = Mapping[int, BlockParts]


@dataclass(frozen=True, eq=False)
class _Fold:
    """Folded blocks, and of which tensors in which state."""

    sources: tuple[torch.Tensor, ...]
    versions: tuple[int, ...]
    blocks: FoldedBlocks

    def fits(self, sources: Sequence[torch.Tensor]) -> bool:
        """Whether the sources are the same tensors and none of them has been written to since."""
        return len(sources) == len(self.sources) and all(
            own is given and given._version == version
            for own, given, version in zip(self.sources, sources, self.versions, strict=True))


class Folds:
    """Of the sets used last so many; safe among threads."""

    def __init__(self, limit: int = 8) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._kept: OrderedDict[Hashable, _Fold] = OrderedDict()

    def clear(self) -> None:
        """Forget all: what they were folded from may change unseen, as by fused optimisers."""
        with self._lock:
            self._kept.clear()

    def get(self, key: Hashable, sources: Sequence[torch.Tensor],
            make: Callable[[], FoldedBlocks]) -> FoldedBlocks:
        """What was folded under a key, made anew if one of the tensors it depends on has changed."""
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

    Where no gradients are wanted they are folded into the model's matrices, once for each set of modalities
    and state of the links; texts of one batch may see different sets.
    """

    def __init__(self, lm: LanguageModel, *, fold: bool = True, **options: Any) -> None:
        """fold: False runs adapters as such also when answering, to compare with."""
        super().__init__(lm, **options)
        self.fold = fold
        self._folds = Folds()

    def model_for(self, connections: ColumnConnections, seen: Sequence[Seen]) -> LanguageModel:
        """The model in the form that the modalities of each text ask for."""
        if connections.shared is None:
            return self.lm
        always = {name for name, link in connections.links.items() if link.soft_tokens is not None}
        each = [one | always for one in seen]
        sets = list(dict.fromkeys(each))
        choice = torch.tensor([sets.index(one) for one in each], device=self.lm.device)
        if torch.is_grad_enabled():
            self._folds.clear()
        forms = self._folded if self.fold and not torch.is_grad_enabled() else self._unfolded
        return AlteredModel(self.lm, forms(connections, sets, choice))

    def _unfolded(self, connections: ColumnConnections, sets: Sequence[Seen],
                  choice: torch.Tensor) -> dict[int, BlockForm]:
        shared = connections.shared
        mixtures = shared.mixtures(self.lm, [_links(connections, one) for one in sets])
        return {block: shared.form(block, mixture.of(choice)) for block, mixture in mixtures.items()}

    def _folded(self, connections: ColumnConnections, sets: Sequence[Seen],
                choice: torch.Tensor) -> dict[int, BlockForm]:
        folds = [self._fold_of(connections, one) for one in sets]
        return {block: connections.shared.folded(BlockParts.of_rows([fold[block] for fold in folds], choice))
                for block in folds[0]}

    def _fold_of(self, connections: ColumnConnections, one: Seen) -> FoldedBlocks:
        """The altered blocks for one set of modalities."""
        shared, links = connections.shared, _links(connections, one)

        def fold() -> FoldedBlocks:
            return {block: shared.fold(self.lm.parts(block), mixture, 0)
                    for block, mixture in shared.mixtures(self.lm, [links]).items()}

        own = chain.from_iterable(link.routing for link in links)
        return self._folds.get(one, (*shared.parameters(), *shared.buffers(), *own), fold)


def _links(connections: ColumnConnections, modalities: Seen) -> list[MmaLink]:
    return [connections.links[name] for name in sorted(modalities)]


SPEC = MethodSpec(
    'mma', 'Mixture-of-Modality Adaptation of LaVIN (arXiv:2305.15023): tokens in front, an adapter before '
    'every attention, mixed by the modalities present', Mma, MmaLink)
