"""How much memory a program takes at most, found without running it: live storages of tensors without data.

torch's own MemTracker (torch.distributed._tools) cannot be used: in torch 2.13 it hooks every parameter and
fails at the first one that is frozen.
"""
from __future__ import annotations

import weakref
from collections.abc import Iterable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all storages that live, from each operation that makes one to its end.

    Works with real tensors and, under FakeTensorMode, with such as have sizes only.  What a kernel takes for
    itself while it runs is not seen.  held: bytes now.  peak: most of them at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._storages: dict[int, weakref.ref] = {}

    def hold(self, tensors: Iterable[torch.Tensor]) -> PeakMemory:
        """Count tensors that were there before, such as weights."""
        for tensor in tensors:
            self._add(tensor.untyped_storage())
        return self

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        """Run an operation and count what it made."""
        made = function(*arguments, **(options or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._storages:
            return
        size = storage.nbytes()

        def free(_: weakref.ref) -> None:
            del self._storages[key]
            self.held -= size

        self._storages[key] = weakref.ref(storage, free)
        self.held += size
        self.peak = max(self.peak, self.held)
