"""Peak memory of a program without running it, from the live storages of fake tensors.

MemTracker of torch.distributed._tools cannot be used: in torch 2.13 it hooks every parameter and fails at
frozen ones.
"""
from __future__ import annotations

import weakref
from collections.abc import Iterable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all live storages that operations create.

    Works with real tensors and with fake tensors under FakeTensorMode.  Workspace of kernels is not counted.
    held: bytes now.  peak: maximum of held.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._storages: dict[int, weakref.ref] = {}

    def hold(self, tensors: Iterable[torch.Tensor]) -> PeakMemory:
        """Also count existing tensors, such as weights."""
        for tensor in tensors:
            self._add(tensor.untyped_storage())
        return self

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        """Run an operation and count its results."""
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
