"""The grid of two sweeps."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.detection_grid import (
    BEFORE,
    HIGHEST,
    INTENSITY,
    KNOWN,
    PLANES,
    detection_grid,
)
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.poses import Transform, rotation_about_z

CONFIG = LidarConfig(min_range=0.)


def street(rng: np.random.Generator) -> np.ndarray:
    """Points of a flat road, and some above it."""
    road = np.column_stack([rng.uniform(-40, 40, (20000, 2)), np.zeros(20000)])
    return np.concatenate([road, np.column_stack([rng.normal(0, 9, (4000, 2)), rng.uniform(.3, 3, 4000)])])


def test_a_cell_has_the_points_of_each_slice_and_the_mean_intensity() -> None:
    points = np.array([[3.3, .01, .2], [3.4, .01, .3], [3.4, .01, 1.], [3.3, .01, 0.], [0, 9.8, 3.],
                       [50, 0, 1]])
    grid = detection_grid(LidarFrame(points, np.array([51., 102, 0, 255, 255, 255])), CONFIG)
    assert grid.shape == (PLANES, 288, 72) and grid.dtype == np.float32
    one, two = np.log1p([1, 2]) / np.log1p(60)
    assert grid[:, 144, 6] == pytest.approx([one, two, 0, one, 0, 0, 0, 0, 1 / 4.5, .2, 0, 0, 0, 0, 0])
    assert np.argwhere(grid[INTENSITY]).tolist() == [[144, 6], [216, 19]]
    assert grid[HIGHEST, 216, 19] == pytest.approx(3 / 4.5) and (grid > 0).any(0).sum() == 2


def test_an_earlier_sweep_has_planes_of_its_own() -> None:
    points = np.array([[9., .01, 1.]])
    alone = detection_grid(LidarFrame(points), CONFIG)
    both = detection_grid(LidarFrame(points, earlier=LidarFrame(points - [2, 0, 0])), CONFIG)
    assert not alone[BEFORE:].any() and (both[KNOWN] == 1).all()
    assert np.array_equal(alone[:BEFORE], both[:BEFORE])
    assert np.argwhere(both[BEFORE:KNOWN]).tolist() == [[1, 144, 14]]


@pytest.mark.parametrize('lost', [np.full((3, 3), np.nan), np.zeros((0, 3))])
def test_an_earlier_sweep_without_a_usable_point_is_none(lost: np.ndarray) -> None:
    frame = LidarFrame(np.array([[9., 0, 1.]]), earlier=LidarFrame(lost))
    assert not detection_grid(frame, CONFIG)[BEFORE:].any()
    with pytest.raises(PointCloudError, match='min_range'):
        detection_grid(frame.earlier, CONFIG)


def test_what_stands_is_in_one_place_however_the_robot_has_moved() -> None:
    rng = np.random.default_rng(0)
    world = street(rng)
    mount = Transform(rotation_about_z(1.), np.array([1., 0, 1.8]))
    before, now = (Transform(rotation_about_z(yaw), np.array([x, 0., 0])) for yaw, x in ((.2, 0.), (.5, 4.)))
    moved = now.inverse() @ before @ mount
    sweeps = [(pose @ mount).inverse().apply(world) for pose in (before, now)]
    frame = LidarFrame(sweeps[1], None, mount.rotation, mount.translation,
                       earlier=LidarFrame(sweeps[0], None, moved.rotation, moved.translation))
    grid = detection_grid(frame, CONFIG)
    here = LidarFrame(now.inverse().apply(world))
    plain = detection_grid(replace(here, earlier=here), CONFIG)
    assert (grid > 0).sum() > 3000 and np.mean(np.abs(grid - plain) > 1e-3) < 1e-3


def test_heights_are_above_a_road_that_rises() -> None:
    rng = np.random.default_rng(0)
    points = street(rng)
    risen = points + points[:, :1] * [0, 0, .04] + [0, 0, -.3]
    flat, hill = (detection_grid(LidarFrame(cloud, earlier=LidarFrame(cloud)), CONFIG)
                  for cloud in (points, risen))
    assert np.mean(np.abs(flat - hill) > .02) < .01 and np.array_equal(flat[0] > 0, hill[0] > 0)


def test_turning_a_sensor_by_whole_cells_turns_the_grid() -> None:
    rng = np.random.default_rng(0)
    points = street(rng)
    frame = LidarFrame(points, rng.uniform(0, 255, len(points)), earlier=LidarFrame(points))
    turn = rotation_about_z(np.radians(13 * 1.25))
    turned = replace(frame, rotation=turn, earlier=replace(frame.earlier, rotation=turn))
    assert np.mean(np.abs(np.roll(detection_grid(frame, CONFIG), 13, 1) -
                          detection_grid(turned, CONFIG)) > 1e-3) < 1e-3
