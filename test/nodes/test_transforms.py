"""Mountings of sensors from transforms: poses, waiting for them, and changes that are followed."""
from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from mpnp_ros.nodes.diagnostics import Concerns
from mpnp_ros.nodes.transforms import Mounts, TransformTree, pose_matrix

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
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


class Notes:
    """Stands in for Diagnostics."""

    def __init__(self):
        self.warned = []

    def add_check(self, check):
        pass

    def warn(self, key, text):
        self.warned.append(text)

    def withdraw(self, key):
        pass


class Bench:
    """Mounts of a node, and what is said about them; every test has frames of its own."""

    def __init__(self, ros):
        self.notes = Notes()
        self.concerns = Concerns(self.notes)
        self.mounts = Mounts(ros.node, self.notes, self.concerns)

    def pose(self, frame, base='base_link'):
        return self.mounts.pose('eye', frame, base, 'guessing')

    def until(self, frame, right):
        """Look until the pose is as it should be."""
        end = time.monotonic() + 20
        while (pose := self.pose(frame)) is None or not right(pose):
            assert time.monotonic() < end, (pose, self.concerns.texts())
            time.sleep(.05)


@pytest.fixture
def bench(ros):
    made = Bench(ros)
    yield made
    made.mounts.destroy()


def at(x, frame, parent='base_link', sideways=0.):
    item = TransformStamped(child_frame_id=frame)
    item.header.frame_id = parent
    item.transform.translation.x = float(x)
    item.transform.rotation.w, item.transform.rotation.z = 1 - sideways, sideways
    return TFMessage(transforms=[item])


def x_is(value):
    return lambda pose: pose[0, 3] == pytest.approx(value)


@pytest.mark.ros
def test_the_first_frame_waits_for_a_mount_that_is_on_its_way(ros, bench):
    publisher = ros.publisher('/tf_static', TFMessage, LATCHED)
    ros.wait_for_subscriber(publisher)
    threading.Timer(.2, publisher.publish, [at(3, 'late')]).start()
    assert bench.pose('late')[0, 3] == 3
    assert bench.concerns.texts() == () and bench.notes.warned == []


@pytest.mark.ros
def test_an_unknown_mount_is_a_concern_as_long_as_it_lasts_and_waited_for_once(ros, bench):
    assert bench.pose('') is None
    assert bench.concerns.texts() == ('eye: header.frame_id is empty; set it in the driver and publish the '
                                      'transform of that frame; guessing',)
    assert bench.pose('camera') is None and bench.concerns.quality() == 0.75
    assert bench.mounts.patience() == 0
    assert "frame 'camera' is not connected to 'base_link'" in bench.concerns.texts()[0]
    publisher = ros.publisher('/tf_static', TFMessage, LATCHED)
    publisher.publish(at(1, 'wheel'))
    publisher.publish(at(2, 'camera'))
    bench.until('camera', x_is(2))
    assert bench.concerns.texts() == ()
    assert bench.pose('camera', 'robot') is None
    unknown, known = bench.concerns.texts()[0].split('which no transform names (known: ')
    assert "frame 'camera' is not connected to 'robot'" in unknown
    assert {'base_link', 'camera', 'wheel'} <= set(known.split(')')[0].split(', '))


@pytest.mark.ros
def test_a_mount_that_is_only_on_tf_is_followed_and_said_once(ros, bench, capfd):
    publisher = ros.publisher('/tf', TFMessage)
    assert bench.pose('turret') is None
    for x in range(1, 4):
        publisher.publish(at(x, 'turret'))
        bench.until('turret', x_is(x))
    assert bench.concerns.texts() == ()
    assert capfd.readouterr().err.count('its mount moves') == 1
    assert publisher.get_subscription_count() == 1
    ros.publisher('/tf_static', TFMessage, LATCHED).publish(at(7, 'turret'))
    bench.until('turret', x_is(7))
    end = time.monotonic() + 20
    while publisher.get_subscription_count():
        assert time.monotonic() < end
        time.sleep(.05)


@pytest.mark.ros
def test_a_sensor_that_one_publisher_mounts_anew_is_followed(ros, bench):
    publisher = ros.publisher('/tf_static', TFMessage, LATCHED)
    publisher.publish(at(1, 'arm'))
    bench.until('arm', x_is(1))
    publisher.publish(at(2, 'arm'))
    bench.until('arm', x_is(2))
    assert bench.notes.warned == [
        'eye: its mount has changed, 1.00 m and 0 degrees apart; taking the new one']
    assert bench.concerns.texts() == ()


@pytest.mark.ros
@pytest.mark.parametrize('other, words', [
    (at(1, 'camera_link', sideways=1.), 'two places'), (at(1, 'camera_link', 'base_link_2'), 'part of')])
def test_what_another_publisher_says_otherwise_is_a_concern(ros, bench, other, words):
    ros.publisher('/tf_static', TFMessage, LATCHED).publish(at(1, 'camera_link'))
    bench.until('camera_link', x_is(1))
    ros.publisher('/tf_static', TFMessage, LATCHED).publish(at(0, 'base_link_2', 'base_link'))
    ros.publisher('/tf_static', TFMessage, LATCHED).publish(other)
    end = time.monotonic() + 20
    while not bench.concerns.texts():
        assert time.monotonic() < end
        bench.pose('camera_link')
        time.sleep(.05)
    said, = bench.concerns.texts()
    assert words in said and '-r /tf_static:=tf_static' in said and '/test/test' in said


@pytest.mark.ros
def test_a_publisher_that_takes_the_place_of_one_that_has_gone_contradicts_nobody(ros, bench):
    ros.publisher('/tf_static', TFMessage, LATCHED).publish(at(0, 'wheel'))
    bench.until('wheel', x_is(0))
    first = ros.node.create_publisher(TFMessage, '/tf_static', LATCHED)
    first.publish(at(1, 'sonar'))
    bench.until('sonar', x_is(1))
    ros.node.destroy_publisher(first)
    end = time.monotonic() + 20
    while ros.node.count_publishers('/tf_static') > 1:
        assert time.monotonic() < end
        time.sleep(.05)
    ros.publisher('/tf_static', TFMessage, LATCHED).publish(at(2, 'sonar'))
    bench.until('sonar', x_is(2))
    assert bench.concerns.texts() == ()
    assert np.isfinite(bench.pose('sonar')).all()
