"""Training windows: parts of drives, varied as other robots, mountings, IMUs and drivers of them would.

Of the readings: mounting, rate, jitter, lost messages, noise, bias, gravity removed or inverted,
orientation and mounting known or not, bumps.  Of the motion: the same path larger or smaller and faster or
slower, which changes accelerations and rotations as mechanics says; vibrations stronger or weaker; errors
of the tilt.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.imu.drives import ImuDrive
from mpnp_ros.modalities.imu.axes import LevelMotion, heading, level_axes, level_motion
from mpnp_ros.modalities.imu.channels import BUMP_SPAN
from mpnp_ros.modalities.imu.features import MotionFeatures, Vibrations, combined, vibrations
from mpnp_ros.modalities.imu.frames import ImuFrame, evened
from mpnp_ros.tokens import SECOND

RATES = (100, 100, 50, 50, 40, 30, 25, 20, 15, 10)
LONGEST = 120.0
"""Seconds of a window."""
FASTEST = 38.0
"""Largest speed of varied windows, metres/second."""
CLEAR_JOLT = 1.5
"""Largest acceleration of seconds that count as without a bump where no reference tells, metres/second^2."""


@dataclass(frozen=True, eq=False)
class Window:
    """Features of S seconds and the true motion in each, [S, 4] as of ImuDrive.truth."""

    features: MotionFeatures
    truth: np.ndarray


def plain_window(drive: ImuDrive, start: float, end: float, mounted: bool = False,
                 gravity: str = 'auto') -> Window:
    """Return a window as it was recorded; mounted: with the known mounting of the IMU."""
    frame = drive.frame(start, end)
    frame = replace(frame, mount=drive.mount) if mounted else frame
    readings = evened(frame)
    motion = level_motion(frame, readings, gravity)
    features = combined(motion, vibrations(readings, motion), heading(frame, motion))
    return Window(features, drive.truth(_ends(drive, end, len(features.rotation))))


def random_part(parts: Sequence[tuple[float, float]], random: np.random.Generator) -> tuple[float, float]:
    """Return start and end of a window of 4 s to LONGEST within one of some parts of a drive, seconds."""
    sizes = np.array([end - start for start, end in parts])
    start, end = parts[random.choice(len(parts), p=sizes / sizes.sum())]
    length = min(end - start, LONGEST if random.random() < 0.4 else random.uniform(4, LONGEST))
    begin = start + random.random() * (end - start - length)
    return begin, begin + length


def varied_window(drive: ImuDrive, start: float, end: float, random: np.random.Generator) -> Window:
    """Return a varied window of a drive."""
    frame, bumped = _bumpy(drive, drive.frame(start, end), random)
    frame = _another_imu(frame, drive.mount if drive.mount is not None else np.eye(3), random)
    readings = evened(frame)
    motion = level_motion(frame, readings)
    shaking = vibrations(readings, motion)
    rows = len(shaking.power)
    truth = drive.truth(_ends(drive, end, rows))
    if drive.bumps is None:
        since = _ends(drive, end, rows)[:, None] - bumped
        truth[:, 3] = np.where(((since > 0.1) & (since < BUMP_SPAN)).any(1), 1.0,
                               np.where(shaking.jolt < CLEAR_JOLT, 0.0, np.nan))
    motion, shaking, truth = _another_path(motion, shaking, truth, random)
    motion, shaking = _shaken(motion, shaking, random)
    return Window(combined(motion, shaking, heading(frame, motion)), truth)


def _ends(drive: ImuDrive, end: float, rows: int) -> np.ndarray:
    newest = drive.times[np.searchsorted(drive.times, end, 'right') - 1]
    return newest - np.arange(rows)[::-1]


def _bumpy(drive: ImuDrive, frame: ImuFrame, random: np.random.Generator) -> tuple[ImuFrame, np.ndarray]:
    """Add bumps to a third of the drives without a reference of bumps; returns their times too."""
    if drive.bumps is not None or drive.mount is None or random.random() > 0.35:
        return frame, np.zeros(0)
    seconds = frame.stamps_ns / SECOND
    begins = random.uniform(seconds[0], seconds[-1], max(1, int((seconds[-1] - seconds[0]) / 15)))
    begins = begins[np.interp(begins, drive.reference, drive.speed) > 1.0]
    push = np.zeros(len(seconds))
    for begin in begins:
        length, size = random.uniform(0.12, 0.4), random.uniform(3, 8) * random.choice([-1, 1])
        inside = (seconds >= begin) & (seconds < begin + length)
        push[inside] += size * np.sin(2 * np.pi * (seconds[inside] - begin) / length)
    return replace(frame, acceleration=frame.acceleration + push[:, None] * drive.mount[2]), begins


def _another_imu(frame: ImuFrame, mount: np.ndarray, random: np.random.Generator) -> ImuFrame:
    """Return the readings that another IMU in another mounting would give."""
    turn = _random_rotation(random)
    rotation, acceleration = frame.rotation @ turn.T, frame.acceleration @ turn.T
    up_axis = turn @ mount[2]
    gravity, up = None, up_axis
    kind = random.choice(['plain', 'removed', 'inverted'], p=[0.72, 0.16, 0.12])
    oriented, mounted = random.random() < 0.4, random.random() < 0.2
    if kind == 'removed':
        whole = replace(frame, rotation=rotation, acceleration=acceleration)
        motion = level_motion(whole, evened(whole))
        place = np.linspace(0, len(motion.up) - 1, len(frame)).astype(int)
        gravity = motion.up[place] * motion.gravity
        acceleration = acceleration - gravity
        oriented = oriented or random.random() < 0.5
    elif kind == 'inverted':
        acceleration = -acceleration
        oriented = oriented or not mounted
    stamps, values = _another_rate(frame.stamps_ns, np.concatenate([rotation, acceleration], 1), random)
    deviations = 10 ** np.repeat(random.uniform([-4, -2.7], [-2, -0.9]), 3)
    biases = np.repeat([0.003, 0.05], 3)
    values = values + random.normal(0, deviations, values.shape) + random.normal(0, biases)
    values = values * random.normal(1, 0.01, 6)
    orientation = None
    if oriented:
        orientation = np.tile(_quaternion_with(up, random), (len(stamps), 1))
    return replace(frame, stamps_ns=stamps, rotation=values[:, :3], acceleration=values[:, 3:],
                   orientation=orientation, mount=mount @ turn.T if mounted else None)


def _another_rate(stamps: np.ndarray, values: np.ndarray, random: np.random.Generator
                  ) -> tuple[np.ndarray, np.ndarray]:
    """Return fewer readings, averaged or picked, some with jitter and some with losses."""
    step = round(100 / random.choice(RATES))
    if step > 1:
        count = len(stamps) // step * step
        stamps, values = stamps[:count], values[:count]
        averaged = random.random() < 0.6
        values = values.reshape(-1, step, 6).mean(1) if averaged else values[step - 1::step]
        stamps = stamps[step - 1::step]
    period = float(np.median(np.diff(stamps)))
    if random.random() < 0.3:
        stamps = np.sort(stamps + np.round(random.uniform(-0.4, 0.4, len(stamps)) * period).astype(np.int64))
    kept = np.append(True, np.diff(stamps) > 0)
    if random.random() < 0.2:
        kept &= random.random(len(stamps)) > random.uniform(0, 0.2)
    if random.random() < 0.1 and len(stamps) > 100:
        place = random.integers(len(stamps) // 2)
        kept[place:place + random.integers(len(stamps) // 4)] = False
    kept[-1] = True
    return stamps[kept], values[kept]


def _another_path(motion: LevelMotion, shaking: Vibrations, truth: np.ndarray, random: np.random.Generator
                  ) -> tuple[LevelMotion, Vibrations, np.ndarray]:
    """Return the motion along the same path of another size, driven through in another time."""
    if random.random() < 0.45:
        return motion, shaking, truth
    haste = 1.0 if random.random() < 0.4 else random.uniform(1.0, 2.5)
    size = min(np.exp(random.uniform(np.log(0.04), np.log(1.6))),
               FASTEST / (haste * truth[:, 0].max(initial=1)))
    rows = max(2, int(len(truth) / haste))
    blocks = max(20, int(len(motion.rotation) / haste))
    block = np.linspace(len(motion.rotation) - 1 - (blocks - 1) * haste, len(motion.rotation) - 1, blocks)
    row = np.linspace(len(truth) - 1 - (rows - 1) * haste, len(truth) - 1, rows)
    block, row = block.round().astype(int).clip(0), row.round().astype(int).clip(0)
    motion = replace(
        motion, rotation=motion.rotation[block] * haste, level=motion.level[block] * size * haste ** 2,
        vertical=motion.vertical[block], still=motion.still[block], there=motion.there[block],
        up=motion.up[block])
    rows = min(rows, blocks // 10)
    row = row[len(row) - rows:]
    shaking = replace(shaking, power=shaking.power[row], jolt=shaking.jolt[row])
    return motion, shaking, truth[row] * np.array([size * haste, haste, size * haste ** 2, 1.0])


def _shaken(motion: LevelMotion, shaking: Vibrations, random: np.random.Generator
            ) -> tuple[LevelMotion, Vibrations]:
    """Return weaker or stronger vibrations, over noise, and a tilt that is off for seconds."""
    gain = (random.normal(0, 0.3) + random.normal(0, 0.2, (4, 1))
            + random.normal(0, 0.15, shaking.power.shape[1:]))
    floor = random.uniform([-7, -7, -9, -9], [-4, -4, -6, -6])[:, None]
    power = np.log10(10 ** (shaking.power + gain) + 10 ** floor) * shaking.measured
    blocks, memory = len(motion.rotation), random.uniform(30, 150)
    kernel = np.exp(-np.arange(int(4 * memory)) / memory)
    noise = random.normal(0, 1, (blocks + len(kernel), 2))
    off = np.stack([np.convolve(column, kernel, 'valid')[:blocks] for column in noise.T], 1)
    off /= np.sqrt((kernel ** 2).sum())
    off *= random.choice([0.0, 0.05, 0.2]) * random.random()
    return replace(motion, level=motion.level + off), replace(shaking, power=power)


def _random_rotation(random: np.random.Generator) -> np.ndarray:
    """Return an evenly distributed rotation [3, 3]."""
    w, x, y, z = (quaternion := random.normal(size=4)) / np.linalg.norm(quaternion)
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                     [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                     [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def _quaternion_with(up: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return an orientation (w, x, y, z) that takes an axis of the sensor upwards, with any heading."""
    first, second = level_axes(up[None])
    angle = random.uniform(0, 2 * np.pi)
    ahead = np.cos(angle) * first[0] + np.sin(angle) * second[0]
    matrix = np.stack([ahead, np.cross(up, ahead), up])
    w = np.sqrt(max(0.0, 1 + matrix.trace())) / 2
    if w < 1e-3:  # half a turn: another heading has none
        return _quaternion_with(up, random)
    return np.array([w, (matrix[2, 1] - matrix[1, 2]) / (4 * w), (matrix[0, 2] - matrix[2, 0]) / (4 * w),
                     (matrix[1, 0] - matrix[0, 1]) / (4 * w)])
