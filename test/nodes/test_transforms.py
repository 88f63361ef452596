"""Mounts of sensors from static transforms."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.nodes.transforms import TransformTree, pose_matrix

QUARTER = pose_matrix((1., 0., 0., 1.), (1., 2., 3.))


@given(st.tuples(*[st.floats(-2, 2)] * 4), st.tuples(*[st.floats(-9, 9)] * 3))
def test_any_quaternion_gives_a_rotation_or_none(quaternion, translation):
    pose = pose_matrix(quaternion, translation)
    if pose is None:
        assert np.linalg.norm(quaternion) < 1e-6
    else:
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3))
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)


@pytest.mark.parametrize('quaternion, translation', [
    ((0, 0, 0, 0), (0, 0, 0)), ((np.nan, 0, 0, 1), (0, 0, 0)), ((1, 0, 0, 0), (np.inf, 0, 0))])
def test_nonsense_is_no_pose(quaternion, translation):
    assert pose_matrix(quaternion, translation) is None


def test_a_quarter_turn_about_z_turns_x_to_y():
    assert np.allclose(QUARTER @ [1, 0, 0, 1], [1, 3, 3, 1])


def test_chains_and_siblings_are_composed():
    tree = TransformTree()
    tree.add('base', 'mast', QUARTER)
    tree.add('/mast', '/camera', QUARTER)
    tree.add('base', 'lidar', np.linalg.inv(QUARTER))
    assert np.allclose(tree.lookup('base', 'camera'), QUARTER @ QUARTER)
    assert np.allclose(tree.lookup('camera', 'base') @ tree.lookup('base', 'camera'), np.eye(4))
    assert np.allclose(tree.lookup('lidar', 'camera'), QUARTER @ QUARTER @ QUARTER)
    assert np.allclose(tree.lookup('x', 'x'), np.eye(4))


def test_frames_that_are_not_connected_have_no_transform():
    tree = TransformTree()
    tree.add('base', 'camera', QUARTER)
    assert tree.lookup('base', 'other') is None
    assert tree.lookup('other', 'camera') is None


def test_a_cycle_ends():
    tree = TransformTree()
    tree.add('a', 'b', QUARTER)
    tree.add('b', 'a', QUARTER)
    assert tree.lookup('base', 'a') is None


def test_a_placement_tells_whether_it_is_fixed_and_what_is_disputed_on_the_way():
    tree = TransformTree()
    tree.add('map', 'base', QUARTER, fixed=False)
    tree.add('base', 'mast', QUARTER, fixed=False)
    tree.add('mast', 'camera', QUARTER)
    tree.add('base', 'lidar', QUARTER)
    tree.dispute('mast', 'two masts')
    tree.dispute('base', 'two maps')
    camera, lidar = tree.place('base', 'camera'), tree.place('base', 'lidar')
    assert (camera.fixed, camera.disputes) == (False, ('two masts',))
    assert (lidar.fixed, lidar.disputes) == (True, ())
    assert tree.frames() == ('base', 'camera', 'lidar', 'map', 'mast')


def test_another_parent_or_a_clearly_different_fixed_pose_is_a_contradiction():
    near, far = QUARTER.copy(), QUARTER.copy()
    near[0, 3] += 0.01
    far[0, 3] += 0.5
    tree = TransformTree()
    assert tree.add('base', 'camera', QUARTER) == ''
    assert tree.add('base', 'camera', near) == ''
    assert "'camera' is announced at two places of 'base', 0.49 m" in tree.add('base', 'camera', far)
    assert "part of 'base' and of 'mast'" in tree.add('mast', 'camera', far)
    assert tree.add('mast', 'arm', QUARTER, fixed=False) == ''
    assert tree.add('mast', 'arm', far, fixed=False) == ''  # it moves
