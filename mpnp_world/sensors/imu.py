"""Odometry, and an IMU on the rear axle with bias and noise."""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mpnp_ros.poses import wrap_angle
from mpnp_world.scene.state import WorldState

GRAVITY = 9.80665
RATE = 100
"""Readings per second; the n-th is at n / RATE seconds after the beginning of the scene."""
BIAS = (0.001, 0.001, 0.001, 0.02, 0.02, 0.02)
NOISE = (0.002, 0.002, 0.002, 0.03, 0.03, 0.03)
"""Standard deviations: of rotation rates, radians/second, then of accelerations, metres/second^2."""
BIAS_STREAM, NOISE_STREAM = 4, 5

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

    Speed and heading change linearly between the states, so that noiseless readings integrate to the change
    of odometry.  Bias follows from the seed, noise from the seed and the number of the reading; it does not
    depend on the intervals.
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
        measured = (np.array(true) + bias + noise).tolist()
        readings.append(InertialReading(number / RATE, _upright(before.ego.yaw + turning * elapsed),
                                        tuple(measured[:3]), tuple(measured[3:])))
    return readings


def reading_numbers(start: float, end: float) -> range:
    """Numbers n with start < n / RATE <= end; times that differ by less than a nanosecond are equal."""
    return range(math.floor(start * RATE + 1e-7) + 1, math.floor(end * RATE + 1e-7) + 1)


def _upright(yaw: float) -> tuple[float, float, float, float]:
    return math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)
