"""Which way is up and which way is ahead, found from the readings of an IMU.

Up is where gravity is measured.  Gravity is followed through turns and slopes by the rotation rates and
slowly corrected by the accelerations, as in a complementary filter (Mahony et al. 2008,
doi:10.1109/TAC.2008.923738). Where the driver removes gravity, up is that of the orientation or the
mounting, or else the axis about which the robot turns most.

Ahead follows from three facts.  A robot that drives forwards through a bend is accelerated towards the side
to which it turns.  A robot that starts is accelerated forwards, and one that stops backwards.  Between bends
it is accelerated along one line, whose sense the others tell.

Acceleration and rotation alone cannot tell readings of inverted acceleration from those of a mirrored robot:
mirroring everything inverts accelerations and leaves rotation rates.  So whether gravity is measured upwards
(REP 145) or downwards is taken from the mounting or the orientation, and is REP 145 where neither is there.
Mixed up, left and right are exchanged; everything else is as before.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_ros.modalities.imu.frames import EvenReadings, ImuFrame

GRAVITY = 9.80665
BLOCK_RATE = 10
"""Blocks a second; motion is followed on means of blocks."""
SETTLING, MOVING_SETTLING, STILL_SETTLING = 15.0, 40.0, 1.5
"""Seconds within which the tilt follows the accelerations: at first, then while it moves, and while it
stands."""
LEVEL_CHANGE = 0.05
"""Radians by which the tilt usually differs between the ends of a window."""
REMOVED_BELOW = 3.0
"""Mean acceleration below which gravity counts as removed, metres/second^2."""
STILL_ROTATION, STILL_ACCELERATION = 0.006, 0.12
"""Standard deviations of block means within a second below which the sensor may stand still; radians/second,
metres/second^2, of the whole vectors."""
STILL_PUSH = 0.5
"""Horizontal acceleration below which it may stand still, metres/second^2."""
LARGEST_BIAS = 0.03
"""Largest bias of a rotation rate, radians/second."""
CORRELATED = 20.0
"""Blocks over which the disturbances of accelerations are alike."""
FLOOR = 0.05
"""Smallest disturbance of horizontal accelerations, metres/second^2."""
LEAST_DEVIATION = 0.15
"""Radians that the direction ahead is off at least, where it is found."""
STRAIGHT = 0.05
"""Rotation rate below which the robot drives straight on, radians/second."""
SIGNED = 4.0
"""Information, the inverse variance of the angle, from which on ahead is not taken for back."""
STARTING = 2.0
"""Seconds after a standstill, and before one, in which the acceleration shows which way is ahead."""


@dataclass(frozen=True, eq=False)
class LevelMotion:
    """Motion in blocks of a tenth of a second, in level axes of unknown heading.

    rotation: [K] radians/second about the vertical, left positive.  level: [K, 2] horizontal acceleration
    without gravity.  still: bool [K], no sign of motion.  vertical: [K] acceleration upwards.  bias_error: of
    the rotation, radians/second.  there: bool [K], False in gaps.  up: [K, 3] in sensor axes.  axes: [2, 3]
    the two horizontal sensor axes at the end.  sided: whether left and right can be told.  gravity:
    metres/second^2 that are measured, 0 where the driver removes it.
    """

    rotation: np.ndarray
    level: np.ndarray
    vertical: np.ndarray
    still: np.ndarray
    there: np.ndarray
    up: np.ndarray
    bias_error: float
    sided: bool
    gravity: float


@dataclass(frozen=True)
class Heading:
    """The direction ahead in level axes: angle in radians, and the standard deviation of its error."""

    angle: float
    deviation: float

    @property
    def certainty(self) -> float:
        """Mean cosine of the error, 0 where the direction is unknown to 1."""
        return float(np.exp(-0.5 * self.deviation ** 2))


def block_means(readings: EvenReadings) -> tuple[np.ndarray, np.ndarray]:
    """Return means of rotation and acceleration [K, 6] by block, the last one ending with the readings.

    Also [M], the block of each reading; -1 before the first block.
    """
    count = len(readings.there)
    back = np.arange(count)[::-1] * (BLOCK_RATE / readings.rate)
    blocks = int(count * BLOCK_RATE / readings.rate + 1e-6)
    of_block = blocks - 1 - np.floor(back + 1e-9).astype(np.int64)
    of_block[of_block < 0] = -1
    values = np.concatenate([readings.rotation, readings.acceleration], 1)[of_block >= 0]
    places = of_block[of_block >= 0]
    sizes = np.bincount(places, minlength=blocks).clip(1)
    means = np.stack([np.bincount(places, column, blocks) / sizes for column in values.T], 1)
    return means, of_block


def level_motion(frame: ImuFrame, readings: EvenReadings, gravity: str = 'auto') -> LevelMotion:
    """Return the motion in level axes; gravity: auto, up, down or removed, see ImuConfig."""
    means, of_block = block_means(readings)
    rotation, acceleration = means[:, :3], means[:, 3:]
    blocks = len(means)
    there = np.ones(blocks, bool)
    there[of_block[(of_block >= 0) & ~readings.there]] = False
    still = _still(means) & there
    mean = acceleration[there].mean(0) if there.any() else acceleration.mean(0)
    bias, bias_error = _bias(rotation, still, mean)
    rotation = rotation - bias
    size = float(np.linalg.norm(mean))
    removed = gravity == 'removed' or gravity == 'auto' and size < REMOVED_BELOW
    if removed:
        up, sided = _up_without_gravity(frame, rotation, blocks)
        moved, measured = acceleration, 0.0
    else:
        facing = _products(rotation_matrices(rotation / BLOCK_RATE * (np.arange(blocks) > 0)[:, None]))
        even = np.full(blocks, 1 / (BLOCK_RATE * SETTLING))
        followed = _followed(facing, acceleration, even, np.ones(blocks))
        still &= np.linalg.norm(acceleration - followed, axis=1) < STILL_PUSH
        settling = np.where(still, STILL_SETTLING, MOVING_SETTLING)
        followed = _followed(facing, acceleration, 1 / (BLOCK_RATE * settling), np.where(still, 20.0, 1.0))
        measured = float(np.linalg.norm(followed, axis=1).mean())
        sign = _sign(frame, mean) if gravity == 'auto' else 1.0 if gravity == 'up' else -1.0
        up, sided = sign * followed / np.linalg.norm(followed, axis=1, keepdims=True), True
        moved = sign * (acceleration - followed)
    first, second = level_axes(up)
    level = np.stack([(moved * first).sum(1), (moved * second).sum(1)], 1)
    still &= np.hypot(*level.T) < STILL_PUSH
    return LevelMotion((rotation * up).sum(1), level, (moved * up).sum(1), still, there, up, bias_error,
                       sided, measured)


def level_axes(up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two horizontal axes [K, 3] each, right-handed with up [K, 3]; they turn as little as it does."""
    reference = np.eye(3)[int(np.abs(up.mean(0)).argmin())]
    first = reference - up * (up @ reference)[:, None]
    first /= np.linalg.norm(first, axis=1, keepdims=True).clip(1e-9)
    return first, np.cross(up, first)


def heading(frame: ImuFrame, motion: LevelMotion) -> Heading:
    """Return the direction ahead: that of the mounting, or what bends, starts and stops show.

    A mounting whose upward axis is not where gravity is measured is not believed.
    """
    if frame.mount is not None and float(frame.mount[2] @ motion.up[-1]) > 0.7:
        ahead = frame.mount[0]
        first, second = level_axes(motion.up)
        return Heading(float(np.arctan2(second[-1] @ ahead, first[-1] @ ahead)), 0.0)
    return found_heading(motion.rotation, motion.level, motion.still, motion.there)


def found_heading(rotation: np.ndarray, level: np.ndarray, still: np.ndarray, there: np.ndarray) -> Heading:
    """Return the direction ahead that bends, starts and stops show.

    rotation: [K]; level: [K, 2]; still, there: bool [K].
    """
    evidence = np.zeros(2)
    turning, power = rotation[there], float((rotation[there] ** 2).sum())
    if power > 1e-6:
        inward = turning @ level[there] / power  # metres/second to the left, about the speed
        rest = level[there] - turning[:, None] * inward
        error = (float((rest ** 2).mean()) / 2 + FLOOR ** 2) * CORRELATED / power
        if (size := float(np.hypot(*inward))) > 0:
            ahead = np.array([inward[1], -inward[0]]) / size  # a quarter turn to the right of left
            evidence += ahead * max(0.0, size ** 2 / (error + 1e-9) - 1)
    span, blocks = int(STARTING * BLOCK_RATE), len(rotation)
    pushes = []
    for place in np.flatnonzero(still[1:] != still[:-1]) + 1:
        after = still[place - 1]  # it stood until here
        window = slice(place, place + span) if after else slice(max(0, place - span), place)
        if not still[window].any() and there[window].all() and (place + span <= blocks or not after):
            pushes.append(level[window].sum(0) / BLOCK_RATE * (1.0 if after else -1.0))
    if pushes:
        total = np.sum(pushes, 0)
        size = float(np.hypot(*total))
        error = len(pushes) * (0.25 * STARTING) ** 2
        if size > 0:
            evidence += total / size * max(0.0, size ** 2 / error - 1)
    information = float(np.hypot(*evidence))
    straight = level[there & (np.abs(rotation) < STRAIGHT)]
    if information > SIGNED and len(straight) > 2 * CORRELATED:
        (small, large), axes = np.linalg.eigh(straight.T @ straight / len(straight) + np.eye(2) * FLOOR ** 2)
        line = axes[:, 1] * (1.0 if axes[:, 1] @ evidence > 0 else -1.0)
        evidence += line * (large - small) ** 2 / (large * small) * len(straight) / CORRELATED
        information = float(np.hypot(*evidence))
    deviation = np.hypot(LEAST_DEVIATION, 1 / np.sqrt(information + 1e-2))
    return Heading(float(np.arctan2(evidence[1], evidence[0])), float(deviation))


def _still(means: np.ndarray) -> np.ndarray:
    """Return which blocks lie in seconds without change, bool [K]; means: [K, 6] of rotation, acceleration.

    Means of blocks, because engines at rest shake too, but faster.
    """
    size, blocks = BLOCK_RATE, len(means)
    if blocks < size:
        return np.zeros(blocks, bool)
    seconds = np.lib.stride_tricks.sliding_window_view(means, size, axis=0)
    spread, middle = seconds.var(-1), seconds.mean(-1)
    quiet = np.flatnonzero((spread[:, :3].sum(1) < STILL_ROTATION ** 2)
                           & (spread[:, 3:].sum(1) < STILL_ACCELERATION ** 2)
                           & (np.abs(middle[:, :3]).max(1) < LARGEST_BIAS))
    marks = np.zeros(blocks + 1)
    np.add.at(marks, quiet, 1)
    np.add.at(marks, quiet + size, -1)
    return np.cumsum(marks[:-1]) > 0


def _bias(rotation: np.ndarray, still: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the bias of the rotation rates [3] and the deviation of its error about the vertical.

    rotation: [K, 3] radians/second; mean: [3] of the accelerations.  Without a standstill only that about
    level axes is found: no robot tilts on and on.
    """
    if still.sum() >= BLOCK_RATE:
        return np.median(rotation[still], axis=0), 0.002
    up = mean / max(float(np.linalg.norm(mean)), 1e-9)
    level = rotation.mean(0)
    level = level - up * (up @ level) if np.linalg.norm(mean) > REMOVED_BELOW else np.zeros(3)
    error = LEVEL_CHANGE * BLOCK_RATE / len(rotation)
    return level.clip(-LARGEST_BIAS, LARGEST_BIAS) * 0.004 ** 2 / (0.004 ** 2 + error ** 2), 0.006


def _followed(facing: np.ndarray, acceleration: np.ndarray, share: np.ndarray, weight: np.ndarray
              ) -> np.ndarray:
    """Return gravity in sensor axes by block [K, 3].

    facing: [K, 3, 3], sensor axes -> axes that do not turn, in which gravity is a mean of the accelerations
    [K, 3].  share: [K] of each block in it.  weight: [K] of the first seconds in the mean with which it
    begins.
    """
    steady = np.einsum('kij,kj->ki', facing, acceleration)
    first = slice(0, int(2 * SETTLING * BLOCK_RATE))
    begin = np.average(steady[first], 0, weight[first])
    decay, moved = (1 - share)[:, None], share[:, None] * (steady - begin)
    step = 1
    while step < len(steady):  # a linear recurrence, by doubling
        moved[step:] += decay[step:] * moved[:-step]
        decay[step:] = decay[step:] * decay[:-step]
        step *= 2
    return np.einsum('kji,kj->ki', facing, moved + begin)


def _products(turns: np.ndarray) -> np.ndarray:
    """Return the products of the first 1, 2, ... rotations [K, 3, 3], by doubling."""
    products, step = turns.copy(), 1
    while step < len(products):
        products[step:] = products[:-step] @ products[step:]
        step *= 2
    return products


def rotation_matrices(vectors: np.ndarray) -> np.ndarray:
    """Return the rotations [K, 3, 3] about vectors [K, 3] by their lengths, radians (Rodrigues)."""
    angle = np.linalg.norm(vectors, axis=1)
    x, y, z = (vectors / angle.clip(1e-12)[:, None]).T
    cross = np.zeros((len(vectors), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -z, y, -x
    cross -= cross.transpose(0, 2, 1)
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)


def _sign(frame: ImuFrame, mean: np.ndarray) -> float:
    """Return 1 where gravity is measured upwards, -1 where downwards."""
    for up in (_up_of_mount(frame), _up_of_orientation(frame)):
        if up is not None and abs(cosine := float(up @ mean) / float(np.linalg.norm(mean))) > 0.5:
            return 1.0 if cosine > 0 else -1.0
    return 1.0


def _up_of_mount(frame: ImuFrame) -> np.ndarray | None:
    return None if frame.mount is None else frame.mount[2]


def _up_of_orientation(frame: ImuFrame) -> np.ndarray | None:
    """Return the mean direction [3] that the orientation calls up, in sensor axes; None where there is
    none.
    """
    if frame.orientation is None:
        return None
    total = ups_of(frame.orientation).mean(0)
    size = float(np.linalg.norm(total))
    return total / size if size > 0.5 else None


def ups_of(orientation: np.ndarray) -> np.ndarray:
    """Return the third row of the rotation of each quaternion (w, x, y, z), [N, 4] -> [N, 3]."""
    w, x, y, z = orientation.T
    return np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1)


def _up_without_gravity(frame: ImuFrame, rotation: np.ndarray, blocks: int) -> tuple[np.ndarray, bool]:
    """Return up by block [K, 3], and whether it can be told from down."""
    for up in (_up_of_mount(frame), _up_of_orientation(frame)):
        if up is not None:
            return np.tile(up, (blocks, 1)), True
    _, vectors = np.linalg.eigh(rotation.T @ rotation + 1e-12 * np.diag([0.0, 0.0, 1.0]))
    return np.tile(vectors[:, -1], (blocks, 1)), False
