"""Sweeps of a LiDAR that an encoder of another sensor uses."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.conversions.pointclouds import Points, from_points
from mpnp_ros.nodes.sweeps import KEPT, SweepHistory
from mpnp_ros.poses import Transform

SECOND = 10 ** 9
SLOP = SECOND // 10


def at(x):
    return Transform(np.eye(3), np.array([x, 0., 0.]))


def block(x, y=0.):
    side, height = np.meshgrid(np.linspace(-.5, .5, 8), np.linspace(.4, 1.4, 8))
    return np.column_stack([np.full(side.size, x), side.ravel() + y, height.ravel()]).astype(np.float32)


class Fed:
    """A history, and what became of the messages."""

    def __init__(self, pose=lambda stamp: None, mount=None):
        self.done, self.failed, self.dropped = [], [], []
        mount = np.eye(4) if mount is None else mount

        def way(then, now):
            poses = pose(then), pose(now)
            return None if None in poses else poses[1].inverse() @ poses[0]

        self.history = SweepHistory('test', pose, way, lambda item: mount, self.dropped.append,
                                    self.done.append, lambda item, error: self.failed.append(str(error)))

    def sweep(self, stamp_ns, points):
        self.history.add(SimpleNamespace(stamp_ns=stamp_ns, message=from_points(
            Points(points, None), 'lidar', stamp_ns)))
        assert self.history._worker.wait_idle(30)


@pytest.fixture
def fed():
    made = []

    def make(**given):
        made.append(Fed(**given))
        return made[-1]

    yield make
    for each in made:
        each.history.stop()


def test_the_nearest_sweep_counts_and_none_that_is_too_far_away(fed):
    with_sweeps = fed()
    for tenth in range(5):
        with_sweeps.sweep(tenth * SECOND // 10, block(10. + tenth))
    for stamp, x in ((0, 10), (.14, 11), (.16, 12), (.45, 14)):
        found = with_sweeps.history.nearest(round(stamp * SECOND), SLOP)
        assert found.centre[0] == pytest.approx([x, 0], abs=.1)
    assert with_sweeps.history.nearest(SECOND, SLOP) is None
    assert fed().history.nearest(0, SLOP) is None
    assert len(with_sweeps.done) == 5 and not with_sweeps.failed


def test_a_sweep_is_moved_by_the_way_of_the_robot_and_stands_where_it_is_mounted(fed):
    mount = np.eye(4)
    mount[:2, 3] = 0, 2
    driving = fed(pose=lambda stamp: at(10 * stamp / SECOND), mount=mount)
    driving.sweep(SECOND, block(12.))
    assert driving.history.nearest(SECOND + SLOP, SLOP).centre[0] == pytest.approx([11, 2], abs=.1)


@given(st.floats(-20, 20), st.integers(-SLOP, SLOP))
@settings(deadline=None, max_examples=15)
def test_what_stands_stays_in_the_world_whatever_the_robot_does(speed, apart):
    def pose(stamp):
        return at(speed * stamp / SECOND)

    driving = Fed(pose=pose)
    driving.sweep(SECOND, pose(SECOND).inverse().apply(block(30 + speed)).astype(np.float32))
    found = driving.history.nearest(SECOND + apart, SLOP)
    driving.history.stop()
    assert pose(SECOND + apart).apply([*found.centre[0], 0])[0] == pytest.approx(30 + speed, abs=.1)


def test_what_moves_is_known_and_a_bad_message_is_refused_alone(fed):
    driving = fed(pose=lambda stamp: at(0.))
    for tenth in range(12):
        driving.sweep(tenth * SECOND // 10, np.concatenate([block(10. + .5 * tenth, -6), block(12., 6)]))
        if tenth == 5:
            driving.sweep(tenth * SECOND // 10, np.zeros((0, 3), np.float32))
    found = driving.history.nearest(11 * SECOND // 10, SLOP)
    left = found.centre[:, 1] > 0
    assert found.evidence[left] < 0 < found.evidence[~left]
    assert len(driving.failed) == 1 and 'empty' in driving.failed[0]
    assert len(driving.history._kept) == KEPT


def test_time_that_begins_again_forgets_what_was(fed):
    again = fed()
    for second in (5, 6, 1):
        again.sweep(second * SECOND, block(10.))
    assert again.history.nearest(6 * SECOND, SLOP) is None
    assert again.history.nearest(SECOND, SLOP) is not None


def test_a_lidar_whose_place_is_unknown_is_left_out(fed):
    lost = Fed()
    lost.history._mount = lambda item: None
    lost.sweep(SECOND, block(10.))
    lost.history.stop()
    assert lost.history.nearest(SECOND, SLOP) is None and len(lost.done) == 1
