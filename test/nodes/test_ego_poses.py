"""Where the robot was at a time."""
from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from tf2_msgs.msg import TFMessage

from mpnp_ros.nodes.ego_poses import EgoPoses, PoseHistory
from mpnp_ros.poses import Transform, rotation_about_z

SECOND = 1_000_000_000


def at(x, yaw=0.):
    return Transform(rotation_about_z(yaw), np.array([x, 0., 0.]))


def driven(parent='odom', speed=2., frames=5):
    history = PoseHistory()
    for second in range(frames):
        history.add(parent, 'base_link', second * SECOND, at(speed * second, .1 * second))
    return history


def test_a_pose_between_two_lies_between_them():
    pose = driven().pose('base_link', 'odom', round(1.5 * SECOND))
    assert pose.translation[0] == pytest.approx(3) and pose.yaw == pytest.approx(.15, abs=1e-3)


def test_a_pose_goes_on_a_little_and_not_for_long():
    history = driven()
    assert history.pose('base_link', 'odom', round(4.3 * SECOND)).translation[0] == pytest.approx(8.6)
    assert history.pose('base_link', 'odom', 6 * SECOND) is None
    assert history.pose('base_link', 'odom', -2 * SECOND) is None


def test_frames_are_chained_through_fixed_ones():
    history = PoseHistory()
    history.fix('base_footprint', '/base_link', at(.5))
    for second in range(3):
        history.add('odom', 'base_footprint', second * SECOND, at(2. * second, math.pi / 2))
        history.add('map', 'odom', second * SECOND, at(100.))
    pose = history.pose('base_link', 'map', SECOND)
    np.testing.assert_allclose(pose.translation, [102, .5, 0], atol=1e-9)


def test_the_frame_that_does_not_move_is_odom_then_map_then_the_topmost():
    history = driven('map')
    assert history.pose('base_link', '', SECOND).translation[0] == 2
    history.add('odom', 'base_link', SECOND, at(7.))
    assert history.pose('base_link', '', SECOND).translation[0] == 7
    assert driven('start').pose('base_link', '', SECOND).translation[0] == 2


def test_what_never_moves_is_no_pose_of_the_robot():
    history = PoseHistory()
    history.fix('vehicle', 'base_link', at(.5))
    assert history.pose('base_link', '', SECOND) is None
    assert history.pose('base_link', 'vehicle', SECOND).translation[0] == .5
    assert history.pose('base_link', 'odom', SECOND) is None


def test_time_that_goes_back_starts_anew_and_cycles_end():
    history = driven()
    history.add('odom', 'base_link', SECOND, at(50.))
    assert history.pose('base_link', 'odom', SECOND).translation[0] == 50
    assert history.pose('base_link', 'odom', 3 * SECOND) is None
    history.fix('base_link', 'odom', at(1.))
    assert history.pose('base_link', 'odom', SECOND).translation[0] == 50


def test_memory_is_bounded():
    history = driven(frames=100)
    assert len(history._moving['base_link']['odom']) <= 11


def test_a_late_pose_is_left_out_and_time_that_goes_back_starts_anew():
    history = driven()
    history.add('odom', 'base_link', round(3.5 * SECOND), at(70.))
    assert history.pose('base_link', 'odom', round(3.5 * SECOND)).translation[0] == pytest.approx(7)
    history.add('odom', 'base_link', SECOND, at(1.))
    assert history.pose('base_link', 'odom', 4 * SECOND) is None
    assert history.pose('base_link', 'odom', SECOND).translation[0] == 1


def test_odometry_is_used_only_where_tf_does_not_have_the_frame():
    poses = EgoPoses(SimpleNamespace(create_subscription=lambda *_, **__: None), 'odom', None)
    odometry, moved = Odometry(child_frame_id='base_link'), TransformStamped(child_frame_id='/base_link')
    odometry.header.frame_id = moved.header.frame_id = 'odom'
    odometry.header.stamp.sec, odometry.pose.pose.position.x = 3, 5.
    poses._take_odometry(odometry)
    assert poses.pose('base_link', 'odom', 3 * SECOND).translation[0] == 5
    moved.header.stamp.sec, moved.transform.translation.x = 2, 4.
    poses._take_moving(TFMessage(transforms=[moved]))
    poses._take_odometry(odometry)
    assert poses.pose('base_link', 'odom', 2 * SECOND).translation[0] == 4
    assert poses.pose('base_link', 'odom', 3 * SECOND) is None


def test_a_way_is_taken_in_one_frame_though_another_is_known_at_one_of_its_times():
    history = PoseHistory()
    for second in range(3):
        history.add('map', 'base_link', second * SECOND, at(100. + second))
    history.add('odom', 'base_link', 2 * SECOND, at(0.))
    way = history.way('base_link', '', SECOND, 2 * SECOND)
    assert way.translation == pytest.approx([-1., 0., 0.])
    assert history.way('base_link', 'odom', SECOND, 2 * SECOND) is None


def test_before_the_first_pose_the_robot_is_taken_to_have_moved_as_after_it():
    history = PoseHistory()
    for tenth in range(3):
        history.add('odom', 'base_link', tenth * SECOND // 10, at(float(tenth)))
    assert history.pose('base_link', '', -SECOND // 10).translation == pytest.approx([-1., 0., 0.])


def test_frames_of_which_nothing_comes_any_more_are_dropped():
    history = PoseHistory()
    for number in range(100):
        history.add('map', f'object_{number}', number * SECOND, at(0.))
    assert len(history._moving) < 15
