"""Measured costs of a training step."""
from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

KIB = 1024
ADAMW = 6
"""Multiply-adds of AdamW on a parameter in a step: two for each moment, one for decay, one for the change."""
STARTED = 19
"""Place of the starting time in what Linux says of a process, behind its name; in clock ticks since boot."""


def measure_macs(step: Callable[[], object]) -> int:
    """Return the MACs of all matrix products that `step()` runs, forward and backward.

    A rough check from llm/cost.py: 3 x the MACs of the linked blocks for the forward pass (1) and the
    gradients of states (1) and of weights (at most 1, links only).
    """
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    counted = {attention: _attention, backward: _attention_backward}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter:
        step()
    return counter.get_total_flops() // 2


def process_seconds() -> float:
    """Return the seconds since this process started; on Linux including the loading of its code."""
    try:
        began = int(Path('/proc/self/stat').read_text().rpartition(')')[2].split()[STARTED])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf('SC_CLK_TCK')
    except (OSError, ValueError, AttributeError):
        return time.process_time()


def reset_peak_memory(device: torch.device) -> None:
    """Start a measurement of GPU memory; the peak of a process cannot be reset."""
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Return bytes: peak of torch on a GPU since the reset, or of this process since its start.

    Not from getrusage: a process started by a large one inherits its peak there.
    """
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    status = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith('VmHWM')) * KIB


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(gradient: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size,
                        *_: object, **__: object) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)
