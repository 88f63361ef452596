"""The quality of sensor input, judged from the input itself, and its faults in words.

A modality with a judge has a ``health.py`` with a class of limits derived from :class:`HealthLimits` and
names it in its registration; input of a modality without a judge is not judged.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mpnp_ros.options import Options
from mpnp_ros.tokens import SECOND

WORTH_SAYING = 0.5
SCALE = 'quality is 0 at the first value and 1 at the second'


@dataclass(frozen=True)
class Health:
    """The verdict on one frame: quality, 0 (nothing can be perceived) to 1, and the faults that lower it."""

    quality: float
    concerns: tuple[str, ...] = ()


class Judge(Protocol):
    """Judges the frames of one stream in their order, and may remember earlier ones."""

    def judge(self, frame: Any) -> Health:
        """Return the health of a frame of this modality's type."""
        ...


@dataclass(frozen=True)
class HealthLimits(Options):
    """Limits of a judge.  Every option that is a pair of numbers is one criterion, see :func:`grade`.

    Raises ConfigurationError unless every pair has two different numbers.
    """

    def check(self) -> Iterator[str]:
        """Every pair must be two different numbers."""
        for row in type(self).declared():
            value = self[row.name]
            if row.is_list and (len(value) != 2 or value[0] == value[1]):
                yield (f'{row.name} is {list(value)}; give two different numbers: the value of quality 0 '
                       'and that of quality 1')

    def judge(self) -> Judge:
        """Return a new judge with these limits."""
        raise NotImplementedError


@dataclass(frozen=True)
class HealthFinding:
    """One criterion of one sensor: its grade, 0 to 1, and the words for a low grade."""

    grade: float
    words: str


def grade(value: float | np.floating[Any], limits: Sequence[float]) -> float:
    """Return 0 where ``value`` is at the first of two limits or beyond, 1 at the second or beyond."""
    nothing, everything = limits
    return float(np.clip((value - nothing) / (everything - nothing), 0, 1))


def worst(findings: Iterable[HealthFinding]) -> HealthFinding:
    """Return the finding with the lowest grade, of equal ones the first.

    A sensor is as good as its worst property: an image that is sharp but black shows nothing.
    """
    return min(findings, key=lambda finding: finding.grade)


class Attendance:
    """Remembers when each of the sensors that share a frame was last present, by sensor time."""

    def __init__(self, silent_after: float) -> None:
        """silent_after: seconds after which a sensor that was present is missed; 0: never."""
        self._silent_after = silent_after
        self._seen: dict[str, int] = {}

    def missed(self, stamps: Mapping[str, int]) -> dict[str, HealthFinding]:
        """Return a finding for each sensor that is missed; stamps: ns by name of all in the frame."""
        now = max(stamps.values())
        before = {name: min(seen, now) for name, seen in self._seen.items()}  # time may have begun again
        self._seen = before | dict.fromkeys(stamps, now)
        silent = {name: (now - seen) / SECOND for name, seen in self._seen.items()}
        return {name: HealthFinding(0., f'is silent ({seconds:.1f} s)') for name, seconds in silent.items()
                if 0 < self._silent_after <= seconds}


def health(findings: Mapping[str, HealthFinding]) -> Health:
    """Return the health of sensors that share a frame, from the worst finding of each by name.

    The quality is the mean, as each sensor sees its own part of the surroundings: one blind camera of six
    costs a sixth.  The concern names it.
    """
    quality = sum(finding.grade for finding in findings.values()) / len(findings)
    return Health(quality, tuple(f'{name} {finding.words}' for name, finding in findings.items()
                                 if finding.grade < WORTH_SAYING))
