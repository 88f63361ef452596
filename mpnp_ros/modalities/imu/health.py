"""Quality of an IMU: rate, gaps, dead and saturated axes, gravity, and a mounting that gravity
contradicts.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mpnp_ros.modalities.health import SCALE, Health, HealthFinding, HealthLimits, grade, health, worst
from mpnp_ros.modalities.imu.axes import GRAVITY, REMOVED_BELOW
from mpnp_ros.modalities.imu.frames import GAP, ImuFrame
from mpnp_ros.options import option
from mpnp_ros.tokens import SECOND

RECENT = 10.0
"""Seconds that are judged; gravity is judged over the whole frame."""
SETTLED = 15.0
"""Seconds of readings from which on gravity is judged."""
LARGE = (2.0, 15.0)
"""Rotation rate and acceleration from which on a repeated largest value is a limit of the sensor."""
AXES = ('rotation x', 'rotation y', 'rotation z', 'acceleration x', 'acceleration y', 'acceleration z')


@dataclass(frozen=True)
class ImuLimits(HealthLimits):
    """Limits of an IMU's quality, 0 at the first value and 1 at the second."""

    rate: tuple[float, ...] = option((4.0, 9.0), f'readings a second, by their stamps: {SCALE}', unit='Hz',
                                     low=0, high=10000)
    gaps: tuple[float, ...] = option(
        (0.5, 0.1), f'share of the last ten seconds without readings: {SCALE}', low=0, high=1)
    saturated: tuple[float, ...] = option(
        (0.05, 0.005), f'share of readings at the limit of an axis: {SCALE}', low=0, high=1)
    gravity: tuple[float, ...] = option(
        (1.0, 0.6), 'difference of the mean acceleration from gravity, or from 0 where that is removed: '
                    f'{SCALE}', unit='m/s^2', low=0, high=100)
    stuck_after: float = option(
        2.0, 'seconds for which an axis, or all of them, may repeat one value other than 0; 0: for ever',
        unit='s', low=0, high=3600)

    def judge(self) -> ImuJudge:
        """Return a new judge with these limits."""
        return ImuJudge(self)


class ImuJudge:
    """Judges an :class:`ImuFrame`; a silent IMU sends no frames, which the fusion node notices."""

    def __init__(self, limits: ImuLimits) -> None:
        self._limits = limits

    def judge(self, frame: ImuFrame) -> Health:
        """Return the quality of the IMU, and its fault."""
        return health({frame.name: worst(self._findings(frame))})

    def _findings(self, frame: ImuFrame) -> Iterator[HealthFinding]:
        limits = self._limits
        seconds = (frame.stamps_ns - frame.stamps_ns[-1]) / SECOND
        recent = seconds > -RECENT
        values = np.concatenate([frame.rotation, frame.acceleration], 1)[recent]
        yield HealthFinding(grade(frame.rate, limits.rate), f'sends seldom ({frame.rate:.2g} Hz)')
        apart = np.diff(seconds[recent])
        lost = float(apart[apart > max(GAP, 3 / max(frame.rate, 1e-3))].sum()) / RECENT
        yield HealthFinding(grade(lost, limits.gaps), f'has gaps ({lost:.0%} of the last {RECENT:.0f} s)')
        if 0 < limits.stuck_after < -seconds[0]:
            yield HealthFinding(*_stuck(values[seconds[recent] > -limits.stuck_after]))
        share, axis = _saturation(values)
        yield HealthFinding(grade(share, limits.saturated), f'is at the limit of {axis} ({share:.0%})')
        yield from self._directions(frame, -float(seconds[0]))

    def _directions(self, frame: ImuFrame, span: float) -> Iterator[HealthFinding]:
        if span < SETTLED:
            return
        mean = frame.acceleration.mean(0)
        size = float(np.linalg.norm(mean))
        off = min(size, abs(size - GRAVITY))
        yield HealthFinding(grade(off, self._limits.gravity),
                            f'has an impossible gravity ({size:.2f} m/s^2; it must be 9.8, or 0 where it is '
                            'removed): publish m/s^2, or calibrate it')
        if frame.mount is not None and size > REMOVED_BELOW:
            cosine = abs(float(frame.mount[2] @ mean)) / size
            yield HealthFinding(1.0 if cosine > 0.7 else 0.4,
                                'is mounted otherwise than tf says: gravity is '
                                f'{np.degrees(np.arccos(cosine)):.0f} degrees off the vertical of the base '
                                'frame; correct the transform')


def _stuck(values: np.ndarray) -> tuple[float, str]:
    """Return a grade and words for readings [N, 6] of which some axis may be dead."""
    if len(values) < 3:
        return 1.0, ''
    constant = (values == values[0]).all(0)
    if constant.all():
        return (0.0, 'repeats one reading') if values[0].any() else (0.0, 'sends nothing but zeros')
    dead = [name for name, still, value in zip(AXES, constant, values[0], strict=True) if still and value]
    return (0.2 if dead else 1.0), f'has stuck values: {", ".join(dead)}'


def _saturation(values: np.ndarray) -> tuple[float, str]:
    """Return the largest share of readings at a limit, and the axis."""
    sizes = np.abs(values)
    largest = sizes.max(0)
    at_limit = (sizes >= largest * (1 - 1e-6)).sum(0)
    large = largest > np.repeat(LARGE, 3)
    share = np.where(large & (at_limit > 2), at_limit / len(values), 0.0)
    return float(share.max()), AXES[int(share.argmax())]
