"""Whether a detector works: it sends often enough, is not silent, and finds something now and then."""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mpnp_ros.detection.detections import Detections
from mpnp_ros.modalities.health import (
    SCALE,
    Attendance,
    Health,
    HealthFinding,
    HealthLimits,
    grade,
    health,
    worst,
)
from mpnp_ros.options import option
from mpnp_ros.tokens import SECOND

GAPS = 5
"""Intervals between frames whose median gives the rate."""


@dataclass(frozen=True)
class DetectionsLimits(HealthLimits):
    """When a detector is worth nothing, and when nothing is lost."""

    rate: tuple[float, ...] = option(
        (0.2, 1.0), f'frames a second, by their stamps: {SCALE}', unit='Hz', low=0, high=1000)
    silent_after: float = option(
        2.0, 'a detector is worth nothing when it has been there before and nothing has come from it for so '
             'long; 0: never', unit='s', low=0, high=3600)
    empty_after: float = option(
        30.0, 'a detector is worth nothing when it has found objects before and none for so long; 0: never',
        unit='s', low=0, high=86400)

    def judge(self) -> DetectionsJudge:
        """Return a new judge with these limits."""
        return DetectionsJudge(self)


class DetectionsJudge:
    """Judges :class:`~mpnp_ros.detection.detections.Detections`; remembers each detector by its name."""

    def __init__(self, limits: DetectionsLimits) -> None:
        self._limits = limits
        self._attendance = Attendance(limits.silent_after)
        self._stamps: dict[str, deque[int]] = {}
        self._found: dict[str, int] = {}

    def judge(self, frame: Detections) -> Health:
        """Return the mean quality of the detectors and one concern a detector."""
        findings = {name: worst(self._findings(frame, place, name))
                    for place, name in enumerate(frame.sources)}
        missed = self._attendance.missed(dict.fromkeys(frame.sources, frame.stamp_ns))
        return health(findings | missed)

    def _findings(self, frame: Detections, place: int, name: str) -> Iterator[HealthFinding]:
        now, limits = frame.stamp_ns, self._limits
        stamps = self._stamps.setdefault(name, deque(maxlen=GAPS + 1))
        if stamps and now < stamps[-1]:  # time has begun again
            stamps.clear()
            self._found.pop(name, None)
        stamps.append(now)
        gap = float(np.median(np.diff(stamps))) / SECOND if len(stamps) > GAPS else 0.
        rate = 1 / gap if gap > 0 else max(limits.rate)
        yield HealthFinding(grade(rate, limits.rate), f'sends seldom ({rate:.2g} Hz)')
        if (frame.source_index == place).any():
            self._found[name] = now
        empty = (now - self._found.get(name, now)) / SECOND
        bad = 0 < limits.empty_after <= empty
        yield HealthFinding(0. if bad else 1., f'has found nothing for {empty:.0f} s')
