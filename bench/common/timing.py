"""Timing of alternatives in turn, summaries of the times, and the machine."""
from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

MILLISECONDS = 1000.
Key = TypeVar('Key')


@dataclass(frozen=True)
class Summary:
    """Median and 95th percentile of `count` times in milliseconds; NaN if there are none."""

    count: int
    p50: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Summary:
        """The summary of times in seconds; percentiles are interpolated linearly."""
        if not seconds:
            return cls(0, float('nan'), float('nan'))
        p50, p95 = (float(value) * MILLISECONDS for value in np.percentile(seconds, (50, 95)))
        return cls(len(seconds), p50, p95)


def take_turns(runs: Mapping[Key, Callable[[int], object]], rounds: int, warm_up: int,
               clock: Callable[[], float] = time.perf_counter) -> dict[Key, list[float]]:
    """Call every run once per round with the number of the round; returns the seconds of each.

    clock: seconds; time.process_time leaves out the time in which other programs run.

    Taking turns spreads the load of other programs over all runs.  A random order in each round avoids
    systematic effects of the processor caches.  The first `warm_up` rounds are not in the result.  clock: in
    seconds; time.process_time leaves out what other programs take.
    """
    seconds: dict[Key, list[float]] = {name: [] for name in runs}
    order, rng = list(runs.items()), random.Random(0)
    for number in range(warm_up + rounds):
        rng.shuffle(order)
        for name, run in order:
            started = clock()
            run(number)
            seconds[name].append(clock() - started)
    return {name: measured[warm_up:] for name, measured in seconds.items()}


def machine() -> dict[str, object]:
    """The machine: CPU model, cores, threads of torch, versions and current load (1 min)."""
    facts = Path('/proc/cpuinfo')
    lines = facts.read_text().splitlines() if facts.is_file() else []
    models = (line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    return {'cpu': next(models, platform.processor() or platform.machine()), 'cores': os.cpu_count(),
            'threads': torch.get_num_threads(), 'torch': torch.__version__,
            'python': platform.python_version(), 'load': round(os.getloadavg()[0], 2)}


def machine_text() -> str:
    """CPU model, cores and version of torch, for a page."""
    facts = machine()
    return f'{facts["cpu"]}, {facts["cores"]} cores, torch {facts["torch"]}'
