"""Several processes that train the same links, started by torchrun; usually there is one.

All processes run the same steps with the same links and share the questions of a step.  Gradients are summed,
so a step equals that of one process with all questions.  Only the first process evaluates and writes; the
others wait.
"""
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn

GROUP_TIMEOUT = timedelta(hours=6)
"""Time to wait for the first process while it evaluates; torchrun ends the others if one dies."""

Item = TypeVar('Item')


@dataclass(frozen=True)
class DistributedContext:
    """This process among `count`; rank 0 is the first."""

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> DistributedContext:
        """Return the processes of torch.distributed, or this one alone."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process evaluates, writes and prints."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the part of the items of this process; the parts of all processes are complete."""
        return items[self.rank::self.count]

    def any(self, flag: bool) -> bool:
        """Return whether it is true in any process; all processes wait for each other here."""
        return self.total(float(flag)) > 0

    def total(self, number: float) -> float:
        """Return the sum over all processes."""
        if self.count == 1:
            return number
        tensor = torch.tensor(number, dtype=torch.float64)
        distributed.all_reduce(tensor)
        return tensor.item()

    def of_first(self, numbers: Sequence[float]) -> list[float]:
        """Return the values of the first process; the others pass as many numbers."""
        if self.count == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64)
        distributed.broadcast(tensor, src=0)
        return tensor.tolist()

    def same(self, tensors: Iterable[torch.Tensor]) -> None:
        """Copy the floating tensors of the first process to all processes, in place."""
        if self.count > 1:
            for tensor in tensors:
                if tensor.is_floating_point():
                    distributed.broadcast(tensor, src=0)

    def add_gradients(self, parameters: Iterable[nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
        """Replace gradients by their sums over all processes; returns the sum of the losses."""
        if self.count == 1:
            return loss
        parameters = list(parameters)
        gradients = [one.grad if one.grad is not None else torch.zeros_like(one) for one in parameters]
        flat = torch.cat([*(one.flatten() for one in gradients), loss.detach().float().reshape(1)])
        distributed.all_reduce(flat)
        sizes = [one.numel() for one in parameters]
        for one, summed in zip(parameters, flat[:-1].split(sizes), strict=True):
            one.grad = summed.view_as(one)
        return flat[-1]


@contextmanager
def joined(device: str = 'auto') -> Iterator[str]:
    """Join the processes that torchrun started, until the end of the block; yields the device.

    device: as requested; 'auto' is a GPU for each process if there are GPUs.  A single process joins nothing.
    """
    if int(os.environ.get('WORLD_SIZE', '1')) < 2 or distributed.is_initialized():
        yield device
        return
    local, gpus = int(os.environ.get('LOCAL_RANK', '0')), torch.cuda.device_count()
    on_gpu = gpus > 0 and device != 'cpu'
    one_each = on_gpu and gpus >= int(os.environ.get('LOCAL_WORLD_SIZE', '1'))
    if on_gpu:
        device = f'cuda:{local % gpus}'
        torch.cuda.set_device(device)
    distributed.init_process_group('cpu:gloo,cuda:nccl' if one_each else 'gloo', timeout=GROUP_TIMEOUT)
    try:
        yield device
    finally:
        distributed.destroy_process_group()
