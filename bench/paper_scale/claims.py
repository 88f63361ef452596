"""Ratios of our costs to those of peers, with their limits, under every accounting."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.paper_scale.costs import FULL, KEPT, OURS, PROMPT_FUSE, PUBLISHED, Cost, Memory
from bench.paper_scale.models import AdaptationTask

OPERATIONS = {PROMPT_FUSE: .25, FULL: .18}
MEMORY = .5
"""Limits of the ratios."""


@dataclass(frozen=True)
class Claim:
    """A ratio of ours to a peer's.  of: quantity and peer; reading: accounting; limit: upper bound."""

    of: str
    reading: str
    ratio: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the ratio is within its limit."""
        return self.ratio <= self.limit


def find(found: Iterable[Cost], method: str, way: str) -> Cost:
    """The cost of a method in one way; raises StopIteration if it is missing."""
    return next(cost for cost in found if (cost.method, cost.way) == (method, way))


def claims(found: Sequence[Cost], task: AdaptationTask) -> list[Claim]:
    """All claims about the costs of one model and adaptation."""
    ours = find(found, OURS, KEPT)
    made = [claim for rival, limit in OPERATIONS.items() for claim in _operations(
        ours, find(found, rival, PUBLISHED), find(found, rival, KEPT), task, limit)]
    return made + _memory(ours.memory, *(find(found, PROMPT_FUSE, way).memory for way in (PUBLISHED, KEPT)))


def _operations(ours: Cost, published: Cost, kept: Cost, task: AdaptationTask, limit: float) -> list[Claim]:
    apart = ours.encoders_always / task.epochs
    ratios = {
        'each as it is run: theirs as published, ours kept': ours.macs / published.macs,
        'both kept': ours.macs / kept.macs,
        'both kept, and every question about a frame of its own':
            (ours.macs - ours.encoders + apart) / (kept.macs - kept.encoders + apart),
        'encoders in every epoch for both': ours.macs_encoding_always / published.macs,
    }
    return [Claim(f'operations / {kept.method}', reading, ratio, limit) for reading, ratio in ratios.items()]


def _memory(ours: Memory, published: Memory, kept: Memory) -> list[Claim]:
    whole = max(ours.peak, ours.reading)
    ratios = {
        'training step: theirs as published, ours kept': ours.peak / published.peak,
        'training step: both kept': ours.peak / kept.peak,
        'with reading beforehand: theirs as published, ours kept': whole / published.peak,
        'with reading beforehand: both kept': whole / kept.peak,
        'what was read of all questions in memory too: both kept': (ours.peak + ours.stored) / kept.peak,
    }
    return [Claim(f'memory / {PROMPT_FUSE}', reading, ratio, MEMORY) for reading, ratio in ratios.items()]
