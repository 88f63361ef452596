"""From readings of an IMU to what the motion network reads: one row a second, the last one ending with the
frame.

Nothing here depends on how the IMU is mounted: vibrations are powers along the vertical and across it, and
accelerations are along the direction ahead and to the left of it (:mod:`mpnp_ros.modalities.imu.axes`).
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mpnp_ros.modalities.imu.axes import (
    BLOCK_RATE,
    Heading,
    LevelMotion,
    block_means,
    heading,
    level_axes,
    level_motion,
)
from mpnp_ros.modalities.imu.channels import BUMP_SPAN
from mpnp_ros.modalities.imu.frames import EvenReadings, ImuFrame, checked, evened

VERSION = 1
"""Goes up whenever the same readings give other features."""
BAND_EDGES = (0.5, 1.0, 2.0, 3.5, 6.0, 10.0, 14.0, 20.0, 30.0, 45.0)
"""Borders of the bands of vibration, hertz."""
BANDS = len(BAND_EDGES) - 1
KINDS = 4
"""Vibrations: of acceleration along the vertical and across it, then of rotation about it and across it."""
SPAN = 2
"""Seconds over which the spectrum of a row is taken."""
SILENT = 1e-9
"""Spectral power below which there is no vibration, (metres/second^2)^2/hertz; a hundredth of it for
rotations."""
BUMP_FILTER = 20.0
"""Readings a second on which jolts are looked for."""
SHORTEST = float(SPAN)
"""Seconds of readings below which there is nothing to tell."""


@dataclass(frozen=True, eq=False)
class Vibrations:
    """Powers of vibrations by second.

    power: [S, KINDS, BANDS] log10 of the spectral density, 0 in bands that are not measured.  measured: bool
    [BANDS], whether the rate is high enough.  jolt: [S] metres/second^2, the largest upward or downward
    acceleration of the last BUMP_SPAN seconds; 0 below BUMP_FILTER.
    """

    power: np.ndarray
    measured: np.ndarray
    jolt: np.ndarray


@dataclass(frozen=True, eq=False)
class MotionFeatures:
    """What the network reads: S rows of one second.

    rotation: [S] radians/second, left positive.  ahead: [S] metres/second^2 in the direction ahead, left: to
    its left; size: of the horizontal acceleration.  certainty: of that direction, 0 to 1.  still: [S] share
    of the second without any sign of motion.  there: bool [S], False in gaps.  bias_error: of the rotation.
    sided: whether left and right can be told.
    """

    rotation: np.ndarray
    ahead: np.ndarray
    left: np.ndarray
    size: np.ndarray
    still: np.ndarray
    there: np.ndarray
    vibrations: Vibrations
    certainty: float
    bias_error: float
    sided: bool
    gravity: float


def motion_features(frame: ImuFrame, gravity: str = 'auto') -> MotionFeatures:
    """Return the features of a frame; raises ImuError where its arrays cannot be read."""
    readings = evened(checked(frame))
    motion = level_motion(frame, readings, gravity)
    return combined(motion, vibrations(readings, motion), heading(frame, motion))


def combined(motion: LevelMotion, shaking: Vibrations, ahead: Heading) -> MotionFeatures:
    """Return the features of level motion with its vibrations and the direction ahead."""
    rows = len(shaking.power)

    def by_second(values: np.ndarray) -> np.ndarray:
        """Means [rows] of the last blocks."""
        return values[len(values) - rows * BLOCK_RATE:].reshape(rows, BLOCK_RATE, *values.shape[1:]).mean(1)

    level = by_second(motion.level)
    direction = np.array([np.cos(ahead.angle), np.sin(ahead.angle)])
    return MotionFeatures(
        by_second(motion.rotation), level @ direction, level @ np.array([-direction[1], direction[0]]),
        np.hypot(*level.T), by_second(motion.still.astype(np.float64)),
        by_second(motion.there.astype(np.float64)) > 0.5, shaking, ahead.certainty, motion.bias_error,
        motion.sided, motion.gravity)


def vibrations(readings: EvenReadings, motion: LevelMotion) -> Vibrations:
    """Return the vibrations of all seconds that have SPAN seconds of readings before their end."""
    rate, count = readings.rate, len(readings.there)
    length = max(2, round(SPAN * rate))
    rows = max(0, math.floor((count - length) / rate + 1e-6) + 1)
    rows = min(rows, len(motion.rotation) // BLOCK_RATE)
    if not rows:
        return Vibrations(np.zeros((0, KINDS, BANDS)), np.zeros(BANDS, bool), np.zeros(0))
    ends = count - np.round(np.arange(rows)[::-1] * rate).astype(np.int64)
    levelled = _levelled(readings, motion)
    windows = levelled[ends[:, None] - length + np.arange(length)]
    windows = windows - windows.mean(1, keepdims=True)
    taper = np.hanning(length)
    spectrum = np.abs(np.fft.rfft(windows * taper[:, None], axis=1)) ** 2 * 2 / (rate * (taper ** 2).sum())
    along = np.stack([spectrum[..., 2], spectrum[..., :2].sum(-1), spectrum[..., 5],
                      spectrum[..., 3:5].sum(-1)], 1)
    frequency = np.fft.rfftfreq(length, 1 / rate)
    measured = np.array([edge <= 0.45 * rate for edge in BAND_EDGES[1:]])
    power = np.zeros((rows, KINDS, BANDS))
    floor = np.array([SILENT, SILENT, SILENT / 100, SILENT / 100])
    for place in np.flatnonzero(measured):
        inside = (frequency >= BAND_EDGES[place]) & (frequency < BAND_EDGES[place + 1])
        power[:, :, place] = np.log10(along[..., inside].mean(-1) + floor)
    return Vibrations(power, measured, _jolts(levelled[:, 2], rate, ends))


def _levelled(readings: EvenReadings, motion: LevelMotion) -> np.ndarray:
    """Return acceleration and rotation [M, 6] in level axes, each x y z with z up."""
    _, of_block = block_means(readings)
    up = motion.up[of_block.clip(0)]
    first, second = (axis[of_block.clip(0)] for axis in level_axes(motion.up))
    return np.stack([(values * axis).sum(1) for values in (readings.acceleration, readings.rotation)
                     for axis in (first, second, up)], 1)


def _jolts(vertical: np.ndarray, rate: float, ends: np.ndarray) -> np.ndarray:
    """Return the largest jolt before each end [S]; zeros where the rate is too low."""
    if rate < BUMP_FILTER - 0.5:
        return np.zeros(len(ends))
    group = max(1, round(rate / BUMP_FILTER))
    smooth = _running_mean(vertical, group)
    jolts = np.abs(smooth - _running_mean(smooth, max(3, round(rate))))
    span = round(BUMP_SPAN * rate)
    return np.array([jolts[max(0, end - span):end].max() for end in ends])


def _running_mean(values: np.ndarray, size: int) -> np.ndarray:
    """Return means over `size` neighbours [N]; the first and the last value go on beyond the ends."""
    padded = np.pad(values, (size // 2, size - 1 - size // 2), mode='edge')
    return np.convolve(padded, np.ones(size) / size, 'valid')
