"""Training speed of this machine: a few rates, fitted to measurements and kept on disk."""
from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mpnp_ros.files import write_file
from mpnp_ros.llm.language_model import LanguageModel

SCHEMA = 1


@dataclass(frozen=True)
class Speed:
    """Seconds of training, as rates that hold for any number of linked blocks and any batch.

    per_step, per_block: seconds of a step, and of each linked block of it, however little there is to
    compute.  per_link_mac, per_block_mac, per_reading_mac: seconds per multiply-accumulate in links, in
    linked blocks and in reading questions.  startup: seconds until a new process can train.
    process_bytes: memory that it has before it loads anything.  measured: when, seconds since 1970.
    """

    per_step: float
    per_block: float
    per_link_mac: float
    per_block_mac: float
    per_reading_mac: float = 0.
    startup: float = 0.
    process_bytes: float = 0.
    measured: float = 0.

    def step(self, linked_blocks: int, link_macs: float, block_macs: float) -> float:
        """Seconds of one training step."""
        return self.per_step + self.per_block * linked_blocks + self.work(link_macs, block_macs)

    def work(self, link_macs: float, block_macs: float) -> float:
        """Seconds of computing alone."""
        return self.per_link_mac * link_macs + self.per_block_mac * block_macs

    def reading(self, macs: float) -> float:
        """Seconds of running texts through the language model."""
        return self.per_reading_mac * macs

    def save(self, path: Path) -> None:
        """Write what :meth:`load` reads."""
        write_file(path, json.dumps({'schema': SCHEMA, **asdict(self)}).encode())

    @classmethod
    def load(cls, path: Path, since: float = -math.inf) -> Speed | None:
        """Read the measurement made after a time (seconds since 1970); None if there is no usable one."""
        try:
            entries = json.loads(path.read_bytes())
            if entries.pop('schema') != SCHEMA:
                return None
            speed = cls(**entries)
            usable = all(0 <= getattr(speed, entry.name) < math.inf for entry in fields(cls))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return speed if usable and speed.measured > since else None


class TimedStep(NamedTuple):
    """A step that was timed: linked blocks, MACs in links and in blocks, seconds."""

    linked_blocks: int
    link_macs: float
    block_macs: float
    seconds: float


def fit_rates(steps: Sequence[TimedStep]) -> tuple[float, float, float, float]:
    """Return the rates of :class:`Speed` that fit timed steps best, by relative error; none is negative.

    So a deeper link or a larger batch never seems cheaper.  Every subset of non-zero rates is tried (there
    are 15).
    """
    table = np.array([(1, *step[:3]) for step in steps], float)
    table /= np.array([step.seconds for step in steps])[:, None]
    scale = table.max(0)
    best, error = np.zeros(4), math.inf
    for size in range(1, 5):
        for chosen in map(list, combinations(range(4), size)):
            rates = np.zeros(4)
            rates[chosen] = np.linalg.lstsq(table[:, chosen] / scale[chosen], np.ones(len(table)))[0]
            missed = float(np.square(table / scale @ rates - 1).sum())
            if (rates >= 0).all() and missed < error:
                best, error = rates, missed
    return tuple(float(rate) for rate in best / scale)


def machine_key(lm: LanguageModel, reach: str) -> str:
    """Return the key of a measurement, 16 digits: machine, threads, torch, model, number format, reach."""
    device = torch.cuda.get_device_name(lm.device) if lm.device.type == 'cuda' else _processor()
    facts = (device, platform.machine(), os.cpu_count(), torch.get_num_threads(), torch.__version__,
             lm.fingerprint, str(lm.dtype), reach)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _processor() -> str:
    """Return the name of the processor, as far as the system reports it."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(':')[2].strip() for line in lines if line.lower().startswith('model name'))
    return next(names, platform.processor())
