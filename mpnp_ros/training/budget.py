"""Budget of an adaptation, and its costs so far: counted, timed and measured."""
from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mpnp_ros.errors import ConfigurationError

_UNITS = {'seconds': (1, 's'), 'macs': (1e9, 'GMACs'), 'bytes': (1e6, 'MB of memory')}

KIB = 1024
ADAMW = 6
"""Multiply-adds of AdamW for a parameter and step: two for each moment, one for decay, one for the change."""
START_TIME = 19
"""Place of the start time, in clock ticks since boot, in /proc/self/stat behind the name of the process."""


@dataclass(frozen=True)
class Spent:
    """Costs of a training, measured or expected.

    seconds: of wall time from the decision on.  macs: multiply-accumulates of reading questions, training and
    evaluating.  bytes: peak memory of the training process.
    """

    seconds: float = 0.
    macs: float = 0.
    bytes: float = 0.


@dataclass(frozen=True)
class Budget:
    """Limits of an adaptation; 0 is no limit.  Raises ConfigurationError for values out of range.

    seconds, macs, bytes: as in :class:`Spent`.  accuracy: in [0, 1], training stops when it is reached.
    """

    seconds: float = 0.
    macs: float = 0.
    bytes: float = 0.
    accuracy: float = 0.

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not 0 <= value < math.inf:
                raise ConfigurationError(f'the budget of {entry.name} is {value}; it must be 0 (no limit) or '
                                         'positive and finite')
        if self.accuracy > 1:
            raise ConfigurationError(f'the accuracy to reach is {self.accuracy}; it must be at most 1')

    def or_else(self, default: Budget) -> Budget:
        """Return the budget with missing limits taken from another budget."""
        return Budget(*(getattr(self, entry.name) or getattr(default, entry.name) for entry in fields(self)))

    def too_small_for(self, cost: Spent) -> tuple[str, ...]:
        """Return the limits that a cost exceeds: seconds, macs, bytes."""
        return tuple(name for name in _UNITS if 0 < getattr(self, name) < getattr(cost, name))

    def reached(self, accuracy: float) -> bool:
        """Return whether an accuracy reaches the target; False without a target."""
        return 0 < self.accuracy <= accuracy

    def seconds_left(self, spent: Spent) -> float:
        """Return the seconds left, at least 0; inf without a limit."""
        return max(0., self.seconds - spent.seconds) if self.seconds else math.inf


def format_amount(name: str, value: float) -> str:
    """Return seconds, macs or bytes with their unit, rounded up to a tenth."""
    size, unit = _UNITS[name]
    return f'{math.ceil(10 * value / size) / 10:.1f} {unit}'


def measure_macs(step: Callable[[], object]) -> int:
    """Return the MACs of all matrix products that `step()` runs, forward and backward.

    A rough check by llm/cost.py: 3 x the MACs of the linked blocks, for the forward pass (1) and the
    gradients of states (1) and of weights (at most 1, links only).
    """
    def attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    def attention_backward(gradient: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size,
                           *_: object, **__: object) -> int:
        return sdpa_backward_flop_count(gradient, query, key, value)

    counted = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
               torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter:
        step()
    return counter.get_total_flops() // 2


def process_seconds() -> float:
    """Return the seconds since this process started; on Linux including the loading of its code."""
    try:
        began = int(Path('/proc/self/stat').read_text().rpartition(')')[2].split()[START_TIME])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf('SC_CLK_TCK')
    except (OSError, ValueError, AttributeError):
        return time.process_time()


def reset_peak_memory(device: torch.device) -> None:
    """Start a measurement of GPU memory; the peak of a process cannot be reset."""
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: of torch on a GPU since the reset, or of this process since its start.

    It is not that of getrusage, which a process inherits from the one that started it.
    """
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    status = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith('VmHWM')) * KIB
