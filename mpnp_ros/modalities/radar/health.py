"""Quality of radar scans: all radars present, enough returns from far enough, and speeds.

Measured (lowest / median / highest of 400 scans of single radars in the world by day; light and weather do
not change its radars): 13 / 52 / 133 returns, all of them usable; 5 % are beyond 37 / 124 / 146 m; no speed
is exactly zero.  All have quality 1.  Real radars have not been measured.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

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
from mpnp_ros.modalities.radar.frames import RadarFrame, RadarScan, usable_returns
from mpnp_ros.options import option


@dataclass(frozen=True)
class RadarLimits(HealthLimits):
    """Limits of a radar's quality, 0 at the first value and 1 at the second."""

    min_range: float = option(1.0, 'nearer returns are of the robot itself, or of dirt on the sensor, and '
                                   'are not usable', unit='m', low=0, high=100)
    returns: tuple[float, ...] = option(
        (0.0, 8.0), f'number of usable returns of a scan: {SCALE}', low=0, high=1e6)
    usable: tuple[float, ...] = option(
        (0.1, 0.5), f'share of the points that are usable returns: {SCALE}', low=0, high=1)
    far_range: tuple[float, ...] = option(
        (3.0, 15.0), f'range beyond which 5 % of the usable returns are: {SCALE}', unit='m', low=0, high=1000)
    still: tuple[float, ...] = option(
        (1.0, 0.9), 'share of the usable returns that have no speed at all relative to the radar, while '
                    f'another radar sees speeds: {SCALE}', low=0, high=1)
    silent_after: float = option(
        2.0, 'time a radar that was present may be missing before its quality is 0; 0: never', unit='s',
        low=0, high=3600)

    def judge(self) -> RadarJudge:
        """Return a new judge with these limits."""
        return RadarJudge(self)


class RadarJudge:
    """Judges a :class:`RadarFrame`; remembers by name when each radar was last present.

    A standing robot among standing things sees no speeds: they are missed only where another radar of the
    frame has some.
    """

    def __init__(self, limits: RadarLimits) -> None:
        self._limits = limits
        self._attendance = Attendance(limits.silent_after)

    def judge(self, frame: RadarFrame) -> Health:
        """Return the mean quality of the radars and one concern a radar."""
        usable = [usable_returns(scan, self._limits.min_range) for scan in frame.scans]
        moving = any(scan.velocity.any() for scan in usable)
        findings = {scan.name: worst(self._findings(len(scan.points), kept, moving))
                    for scan, kept in zip(frame.scans, usable, strict=True)}
        return health(findings | self._attendance.missed({scan.name: scan.stamp_ns for scan in frame.scans}))

    def _findings(self, points: int, usable: RadarScan, moving: bool) -> Iterator[HealthFinding]:
        limits, count = self._limits, len(usable.points)
        yield HealthFinding(grade(count, limits.returns), f'has few returns ({count})')
        if not count:
            return
        far = np.percentile(np.linalg.norm(usable.points, axis=1), 95)
        still = np.mean(~usable.velocity.any(axis=1))
        yield HealthFinding(grade(count / points, limits.usable),
                            f'has few usable points ({count / points:.0%})')
        yield HealthFinding(grade(far, limits.far_range), f'does not see far (95 % within {far:.1f} m)')
        if moving:
            yield HealthFinding(grade(still, limits.still), f'has returns without speed ({still:.0%})')
