"""Quality of a sweep: enough returns, from far enough, from all around.

Measured (lowest / median / highest of a set; usable: finite and farther than ``min_range``):

    ======================  ========================  =======  =================  ===================
    sweeps                  usable returns            share    median range, m    5 % are beyond, m
    ======================  ========================  =======  =================  ===================
    nuScenes, day           26660                     0.77     9.0                45
    world, clear, 82        24580 / 25850 / 26960     1.00     4.8 / 11 / 13      28 / 53 / 68
    world, rain, 12         24080 / 24200 / 24900     1.00     8.8 / 11 / 11      36 / 46 / 54
    world, fog, 12          21500 / 22670 / 23370     1.00     7.9 / 9.6 / 9.9    26 / 28 / 31
    ======================  ========================  =======  =================  ===================

All of these have quality 1, and no empty sector.  Intensity is not judged: many sensors have none.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mpnp_ros.modalities.geometry import levelled
from mpnp_ros.modalities.health import SCALE, Health, HealthFinding, HealthLimits, grade, health, worst
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.options import option

SECTORS = 36


@dataclass(frozen=True)
class LidarLimits(HealthLimits):
    """Limits of a sweep's quality, 0 at the first value and 1 at the second."""

    min_range: float = option(1.0, 'nearer returns are of the robot itself, or of dirt on the sensor, and '
                                   'are not usable', unit='m', low=0, high=100)
    returns: tuple[float, ...] = option(
        (1000.0, 5000.0), f'number of usable returns of a sweep: {SCALE}', low=0, high=1e7)
    usable: tuple[float, ...] = option(
        (0.1, 0.3), f'share of the points that are usable returns: {SCALE}', low=0, high=1)
    median_range: tuple[float, ...] = option(
        (1.5, 3.0), f'median range of the usable returns: {SCALE}', unit='m', low=0, high=1000)
    far_range: tuple[float, ...] = option(
        (5.0, 15.0), f'range beyond which 5 % of the usable returns are: {SCALE}', unit='m', low=0, high=1000)
    empty: tuple[float, ...] = option(
        (0.9, 0.3), 'share of the 36 sectors around the sensor without any usable return: '
                    f'{SCALE}', low=0, high=1)

    def judge(self) -> LidarJudge:
        """Return a new judge with these limits."""
        return LidarJudge(self)


class LidarJudge:
    """Judges a :class:`LidarFrame`, seen from the sensor."""

    def __init__(self, limits: LidarLimits) -> None:
        self._limits = limits

    def judge(self, frame: LidarFrame) -> Health:
        """Return the grade of the worst property, and that as the only concern."""
        return health({frame.name: worst(self._findings(frame))})

    def _findings(self, frame: LidarFrame) -> Iterator[HealthFinding]:
        limits, points = self._limits, np.asarray(frame.points)[:, :3]
        with np.errstate(over='ignore', invalid='ignore'):
            distance = np.sqrt(np.square(points, dtype=np.float32).sum(axis=1))
            usable = np.isfinite(distance) & (distance >= limits.min_range)
        points, distance, share = points[usable], distance[usable], usable.mean() if len(usable) else 0.
        yield HealthFinding(grade(len(points), limits.returns), f'has few returns ({len(points)})')
        yield HealthFinding(grade(share, limits.usable), f'has few usable points ({share:.0%})')
        if not len(points):
            return
        middle, far = np.percentile(distance, (50, 95))
        x, y, _ = levelled(frame, points).T
        turn = np.arctan2(y, x) / (2 * np.pi) + 0.5
        sector = np.minimum((turn * SECTORS).astype(np.int64), SECTORS - 1)
        empty = 1 - len(np.unique(sector)) / SECTORS
        yield HealthFinding(grade(middle, limits.median_range),
                            f'sees too near (median range {middle:.1f} m)')
        yield HealthFinding(grade(far, limits.far_range), f'does not see far (95 % within {far:.1f} m)')
        yield HealthFinding(grade(empty, limits.empty), f'sees nothing in {empty:.0%} of all directions')
