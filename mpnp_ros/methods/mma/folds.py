"""Blocks folded for a set of modalities, kept for as long as what they were folded from stays as it is."""
from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch

from mpnp_ros.llm.block_parts import BlockParts

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
