"""Sweeps that show the surroundings and sweeps that do not."""
from __future__ import annotations

import numpy as np
import pytest

from mpnp_ros.modalities.health import Health
from mpnp_ros.modalities.lidar.health import LidarLimits
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.modalities.registry import create_judge


def sweep(count: int = 20_000, nearest: float = 2., farthest: float = 60.,
          turn: float = 2 * np.pi) -> np.ndarray:
    """Points at ranges evenly between two, in the given part of a turn, float32 [count, 3]."""
    rng = np.random.default_rng(0)
    azimuth, distance = rng.uniform(0, turn, count), rng.uniform(nearest, farthest, count)
    points = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros(count)], axis=1)
    return (points * distance[:, None]).astype(np.float32)


def judged(points: np.ndarray) -> Health:
    return LidarLimits().judge().judge(LidarFrame(points, name='lidar_top'))


def test_a_real_sweep_is_good_with_or_without_intensity(key_frame, lidar_frame):
    frame = lidar_frame(key_frame)
    assert LidarLimits().judge().judge(frame) == Health(1.)
    assert judged(frame.points) == Health(1.)


@pytest.mark.parametrize(('points', 'concern'), [
    (sweep(1500), 'has few returns (1500)'),
    (np.zeros((0, 3), np.float32), 'has few returns (0)'),
    (np.full((9000, 3), np.nan, np.float32), 'has few returns (0)'),
    (np.concatenate([sweep(6000), np.full((60_000, 3), np.inf, np.float32)]), 'has few usable points (9%)'),
    (sweep(nearest=1.1, farthest=1.3), 'sees too near (median range 1.2 m)'),
    (sweep(farthest=6.), 'does not see far (95 % within 5.8 m)'),
    (sweep(turn=np.pi / 2), 'sees nothing in 75% of all directions'),
])
def test_what_is_wrong_with_a_sweep_is_said(points, concern):
    said = judged(points)
    assert said.quality < .5
    assert said.concerns == (f'lidar_top {concern}',)


def test_a_sensor_that_looks_ahead_only_is_good_where_the_limits_say_so():
    ahead = LidarFrame(sweep(turn=np.pi / 2))
    assert create_judge('lidar', {'empty': [1.0, 0.8]}).judge(ahead) == Health(1.)


def test_a_sensor_on_its_side_is_judged_by_the_directions_of_the_world():
    points, side = sweep(turn=np.pi), np.array([[1., 0, 0], [0, 0, -1], [0, 1, 0]])
    lying = LidarFrame(points @ side, rotation=side, name='lidar_top')
    assert LidarLimits().judge().judge(lying) == judged(points)
