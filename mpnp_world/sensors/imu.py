"""Odometry, and an IMU on the rear axle with bias, noise, the vibrations of the road, and bumps.

Vibrations are sums of sines that depend on the seed, the time and the speed.  Their sizes by frequency are
about those of the car in the PyPI package ``pntos-cobra-datasets-ros``.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from mpnp_ros.poses import wrap_angle
from mpnp_world.scene.state import WorldState

GRAVITY = 9.80665
RATE = 100
"""Readings per second; the n-th is at n / RATE seconds after the beginning of the scene."""
BIAS = (0.001, 0.001, 0.001, 0.02, 0.02, 0.02)
NOISE = (0.002, 0.002, 0.002, 0.03, 0.03, 0.03)
"""Standard deviations: of rotation rates, radians/second, then of accelerations, metres/second^2."""
BIAS_STREAM, NOISE_STREAM, ROAD_STREAM, BUMP_STREAM = 4, 5, 7, 8
BODY, WHEELS, ENGINE = (1.1, 3.2), (9.0, 14.0), (24.0, 32.0)
"""Frequencies at which the body sways, the wheels hop and the engine runs, hertz."""
SINES = 6
"""Sines of each of them along each axis."""
BODY_SHAKES, WHEELS_SHAKE, ENGINE_SHAKES = 0.3, 0.035, 0.02
"""Vertical root mean squares, metres/second^2: of the body at high speed, of the wheels for each
metre/second, of the engine at rest."""
SIDEWAYS, PITCHING = 0.4, 0.04
"""Vibrations across the vertical, and rotations about level axes (radians/second), as shares of the
vertical."""
BUMP_EVERY, BUMP_CHANCE, BUMP_SECONDS = 10.0, 0.6, 0.25
"""There is at most one bump in so many seconds, with that chance; how long it lasts."""
BUMP_SIZES = (3.0, 7.0)
"""Largest accelerations of bumps, metres/second^2, at BUMP_SPEED and above."""
BUMP_SPEED = 5.0
"""Metres/second; bumps are smaller below."""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class InertialReading:
    """A reading of the IMU.

    time: seconds since the beginning of the scene.  orientation: (w, x, y, z), ego frame -> world frame.
    rotation_rate: radians/second; acceleration: specific force, metres/second^2, so GRAVITY upwards at rest.
    Both in the ego frame (x ahead, y left, z up), with bias and noise.
    """

    time: float
    orientation: tuple[float, float, float, float]
    rotation_rate: Vector
    acceleration: Vector


@dataclass(frozen=True)
class Odometry:
    """Exact pose in the world frame and twist in the ego frame.  Metres, seconds and radians."""

    time: float
    position: Vector
    orientation: tuple[float, float, float, float]
    velocity: Vector
    rotation_rate: Vector


def odometry(state: WorldState) -> Odometry:
    """The odometry of the ego vehicle."""
    ego = state.ego
    return Odometry(state.time, (ego.x, ego.y, 0.0), _upright(ego.yaw), (ego.speed, 0.0, 0.0),
                    (0.0, 0.0, ego.yaw_rate))


def inertial_readings(before: WorldState, after: WorldState) -> list[InertialReading]:
    """All readings with before.time < time <= after.time.

    Speed and heading change linearly between the states, so that readings without noise and vibration
    integrate to the change of odometry.  Bias follows from the seed, noise from the seed and the number of
    the reading, vibration from the seed, the time and the speed; none depends on the intervals.
    """
    duration = after.time - before.time
    gain = (after.ego.speed - before.ego.speed) / duration
    turning = wrap_angle(after.ego.yaw - before.ego.yaw) / duration
    bias = np.random.default_rng([before.seed, BIAS_STREAM]).normal(0, BIAS)
    readings = []
    for number in reading_numbers(before.time, after.time):
        elapsed = number / RATE - before.time
        speed = before.ego.speed + gain * elapsed
        noise = np.random.default_rng([before.seed, number, NOISE_STREAM]).normal(0, NOISE)
        true = (0.0, 0.0, turning, gain, speed * turning, GRAVITY)
        shaken = road_vibration(before.seed, number / RATE, speed)
        measured = (np.array(true) + bias + noise + shaken).tolist()
        readings.append(InertialReading(number / RATE, _upright(before.ego.yaw + turning * elapsed),
                                        tuple(measured[:3]), tuple(measured[3:])))
    return readings


def road_vibration(seed: int, time: float, speed: float) -> np.ndarray:
    """What the road and the engine add to a reading [6]: radians/second, then metres/second^2."""
    frequency, phase = _sines(seed)
    waves = np.sin(math.tau * frequency * time + phase).sum(-1) * math.sqrt(2 / SINES)
    pace = max(0.0, speed)
    sizes = np.array([BODY_SHAKES * (1 - math.exp(-pace / 3)), WHEELS_SHAKE * pace, ENGINE_SHAKES])
    shake = sizes @ waves
    shake[:2] *= PITCHING
    shake[2] *= PITCHING / 2
    shake[3:5] *= SIDEWAYS
    start, size = bump(seed, math.floor(time / BUMP_EVERY))
    jolt = 0.0
    if 0 <= time - start < BUMP_SECONDS:
        jolt = size * min(1.0, pace / BUMP_SPEED) * math.sin(math.tau * (time - start) / BUMP_SECONDS)
    shake[1] += 2 * PITCHING * jolt
    shake[5] += jolt
    return shake


@cache
def bump(seed: int, slot: int) -> tuple[float, float]:
    """Return when the bump of the n-th BUMP_EVERY seconds begins, seconds, and its size; 0: there is none."""
    random = np.random.default_rng([seed, max(0, slot), BUMP_STREAM])
    start = (slot + random.uniform(0, 1 - BUMP_SECONDS / BUMP_EVERY)) * BUMP_EVERY
    size = random.uniform(*BUMP_SIZES)
    return start, size if random.random() < BUMP_CHANCE else 0.0


@cache
def _sines(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies, hertz, and phases [3 sources, 6 axes, SINES]."""
    random = np.random.default_rng([seed, ROAD_STREAM])
    bands = np.array([BODY, WHEELS, ENGINE])
    share = (np.arange(SINES) + random.random((3, 6, SINES))) / SINES
    frequency = bands[:, 0, None, None] * (bands[:, 1] / bands[:, 0])[:, None, None] ** share
    return frequency, random.uniform(0, math.tau, frequency.shape)


def reading_numbers(start: float, end: float) -> range:
    """Numbers n with start < n / RATE <= end; times that differ by less than a nanosecond are equal."""
    return range(math.floor(start * RATE + 1e-7) + 1, math.floor(end * RATE + 1e-7) + 1)


def _upright(yaw: float) -> tuple[float, float, float, float]:
    return math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)
