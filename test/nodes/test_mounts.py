"""The policy for mounts: a moment's patience, concerns while they are unknown, changes that are followed."""
from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from mpnp_ros.nodes.diagnostics import Concerns
from mpnp_ros.nodes.transforms import Mounts

pytestmark = pytest.mark.ros
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


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


def test_the_first_frame_waits_for_a_mount_that_is_on_its_way(ros, bench):
    publisher = ros.publisher('/tf_static', TFMessage, LATCHED)
    ros.wait_for_subscriber(publisher)
    threading.Timer(.2, publisher.publish, [at(3, 'late')]).start()
    assert bench.pose('late')[0, 3] == 3
    assert bench.concerns.texts() == () and bench.notes.warned == []


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
    assert 'which no transform names (known: base_link, camera, wheel)' in bench.concerns.texts()[0]


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


def test_a_sensor_that_one_publisher_mounts_anew_is_followed(ros, bench):
    publisher = ros.publisher('/tf_static', TFMessage, LATCHED)
    publisher.publish(at(1, 'arm'))
    bench.until('arm', x_is(1))
    publisher.publish(at(2, 'arm'))
    bench.until('arm', x_is(2))
    assert bench.notes.warned == [
        'eye: its mount has changed, 1.00 m and 0 degrees apart; taking the new one']
    assert bench.concerns.texts() == ()


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
