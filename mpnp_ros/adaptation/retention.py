"""Selection of moments to keep in a full replay buffer; no input or output here.

A quarter is for the newest moments, so that a change of light is there at once.  The rest is an even sample
over all earlier time: every moment draws a number, fixed by its stamp, and of the questions of one cell
(source, type, answer, conditions) those of the lowest numbers stay, equally many in every cell that has
enough.  So a cell is an even sample of all its questions ever (bottom-k sampling: Cohen and Kaplan, PODC
2007), whatever the order of adding and evicting, and a rare cell keeps all it has.
"""
from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mpnp_ros.adaptation.moments import Cell
from mpnp_ros.errors import ConfigurationError

RECENT = .25
"""Share of the limits for the newest moments."""
UNASKED: Cell = ('unasked',)
"""The cell of a moment without questions, which counts as one question."""


@dataclass(frozen=True)
class Limits:
    """Limits of a buffer: bytes of its files, and questions.  Raises ConfigurationError below 1."""

    bytes: int = 256_000_000
    questions: int = 40_000

    def __post_init__(self) -> None:
        if self.bytes < 1 or self.questions < 1:
            raise ConfigurationError(f'a replay buffer of {self.bytes} bytes and {self.questions} questions '
                                     'is too small; use at least 1 of each')

    def share(self, part: float) -> Limits:
        """Return a share of both, at least 1."""
        return Limits(max(1, int(part * self.bytes)), max(1, int(part * self.questions)))


@dataclass(frozen=True)
class Holding:
    """A moment without its file: its size in bytes and the cells of its questions."""

    stamp_ns: int
    size: int
    cells: tuple[Cell, ...]

    @property
    def units(self) -> tuple[Cell, ...]:
        """Return the cells it counts in, at least one."""
        return self.cells or (UNASKED,)


def retained(holdings: Iterable[Holding], limits: Limits) -> dict[int, tuple[int, ...]]:
    """Stamps of the moments to keep, with the places of the questions that each keeps.

    Neither limit is ever exceeded.  A cell that holds no more questions than three quarters of those that
    may be, divided by the number of cells, keeps all of them, as far as the bytes of their moments fit.
    """
    newest_first = sorted(holdings, key=lambda one: -one.stamp_ns)
    recent = newest_first[:_recent(newest_first, limits.share(RECENT))]
    older = sorted(newest_first[len(recent):], key=_draw)
    kept = {one.stamp_ns: tuple(range(len(one.cells))) for one in recent}
    questions = limits.questions - sum(len(one.units) for one in recent)
    return kept | _sampled(older, questions, limits.bytes - sum(one.size for one in recent))


def _recent(newest_first: Sequence[Holding], limits: Limits) -> int:
    """Return the number of newest moments that fit."""
    size = questions = 0
    for place, one in enumerate(newest_first):
        size, questions = size + one.size, questions + len(one.units)
        if size > limits.bytes or questions > limits.questions:
            return place
    return len(newest_first)


def _sampled(drawn: Sequence[Holding], questions: int, size: int) -> dict[int, tuple[int, ...]]:
    """Return the first questions of every cell, up to one level for all, then the moments that fit.

    Moments with a question that is early in its cell come first, so that cells share bytes too.
    """
    seen: Counter[Cell] = Counter()
    ranks: list[list[int]] = []
    for one in drawn:
        ranks.append([])
        for cell in one.units:
            ranks[-1].append(seen[cell])
            seen[cell] += 1
    level = _level(sorted(seen.values()), questions)
    kept: dict[int, tuple[int, ...]] = {}
    for one, places in sorted(zip(drawn, ranks, strict=True), key=lambda pair: min(pair[1])):
        size -= one.size
        if min(places) >= level or size < 0:
            break
        chosen = tuple(place for place, rank in enumerate(places) if rank < level)
        kept[one.stamp_ns] = chosen if one.cells else ()
    return kept


def _level(counts: Sequence[int], room: int) -> int:
    """Return the number per cell so that all fit; counts ascending."""
    for place, count in enumerate(counts):
        cells = len(counts) - place
        if count * cells > room:
            return room // cells
        room -= count
    return counts[-1] if counts else 0


def _draw(one: Holding) -> bytes:
    return hashlib.blake2b(str(one.stamp_ns).encode(), digest_size=8).digest()
