"""A drive of known motion, and what an IMU on it reads."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mpnp_ros.modalities.imu.frames import ImuFrame

GRAVITY = 9.80665
START = 1_700_000_000 * 10 ** 9


def rotation_of(seed: int) -> np.ndarray:
    """An evenly distributed rotation [3, 3]."""
    matrix, triangle = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    matrix = matrix * np.sign(np.diag(triangle))
    return matrix if np.linalg.det(matrix) > 0 else -matrix


class KnownDrive:
    """Standing for five seconds, then starts, bends to both sides, and braking, over and over.

    times: [N] seconds; speed, acceleration, turning: [N] of the vehicle.  The road shakes it.
    """

    def __init__(self, seconds: float = 60.0, rate: float = 100.0, top: float = 8.0) -> None:
        self.times = np.arange(round(seconds * rate)) / rate
        phase = self.times % 30
        self.speed = top * np.interp(phase, (0, 5, 10, 20, 25, 30), (0, 0, 1, 1, 0, 0))
        self.acceleration = top * np.interp(phase, (0, 4.999, 5, 9.999, 10, 19.999, 20, 24.999, 25),
                                            (0, 0, .2, .2, 0, 0, -.2, -.2, 0))
        self.turning = 0.25 * np.sin(2 * np.pi * (phase - 10) / 10) * ((phase > 10) & (phase < 20))
        random, share = np.random.default_rng(1), np.sqrt(self.speed / top)
        shake = np.stack([np.sin(2 * np.pi * frequency * self.times + start) for frequency, start in
                          zip(random.uniform(1, 4, 6), random.uniform(0, 6, 6), strict=True)], 1)
        zeros = np.zeros_like(self.speed)
        self.rotation = np.stack([zeros, zeros, self.turning], 1) + 0.01 * share[:, None] * shake[:, :3]
        self.specific = np.stack([self.acceleration, self.speed * self.turning, zeros + GRAVITY], 1)
        self.specific += np.array([.05, .05, .25]) * share[:, None] * shake[:, 3:]

    def frame(self, end: float, turn: np.ndarray | None = None, every: int = 1, sign: float = 1.0,
              removed: bool = False, noise: float = 0.003, **changes: object) -> ImuFrame:
        """What an IMU reads until ``end``, seconds; turn: [3, 3], vehicle axes -> sensor axes."""
        part = self.times <= end
        turn = np.eye(3) if turn is None else turn
        random = np.random.default_rng(2)
        push = self.specific[part] - removed * np.array([0, 0, GRAVITY])
        rotation, push = (values + random.normal(0, noise, values.shape)
                          for values in (self.rotation[part], push))
        stamps = START + np.round(self.times[part] * 1e9).astype(np.int64)
        frame = {'name': 'imu', 'stamps_ns': stamps[::-1][::every][::-1],
                 'rotation': (rotation @ turn.T)[::-1][::every][::-1],
                 'acceleration': sign * (push @ turn.T)[::-1][::every][::-1]}
        return ImuFrame(**(frame | changes))


@pytest.fixture(scope='session')
def drive() -> KnownDrive:
    """A minute at 100 readings a second."""
    return KnownDrive()


@pytest.fixture(scope='session')
def turned() -> Callable[[int], np.ndarray]:
    """Rotations by a number."""
    return rotation_of
