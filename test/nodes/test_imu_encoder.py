"""The IMU encoder as a process: readings in, tokens of own motion out."""
from __future__ import annotations

import math
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from diagnostic_msgs.msg import DiagnosticArray
from mpnp_ros.msg import ModalityTokens
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Imu

from mpnp_ros.conversions.messages import from_message, from_nanoseconds
from mpnp_ros.modalities.imu.channels import CHANNELS, GROUPS

pytestmark = pytest.mark.ros
MODULE = 'mpnp_ros.nodes.encoder imu'
SECOND = 10 ** 9
STAMP = 1_700_000_000 * SECOND
SPEED = [place for place, (group, _) in enumerate(CHANNELS) if group == 'speed']


def reading(stamp_ns, turning=0.0, seed=0):
    """A reading of an IMU on its side, that stands or turns."""
    noise = np.random.default_rng([stamp_ns // 10 ** 6, seed]).normal(0, 0.002, 6)
    message = Imu()
    message.header.stamp, message.header.frame_id = from_nanoseconds(stamp_ns), 'imu_link'
    turn, push = message.angular_velocity, message.linear_acceleration
    turn.x, turn.y, turn.z = noise[0], noise[1] + turning, noise[2]
    push.x, push.y, push.z = noise[3], noise[4] + 9.81, noise[5]
    message.orientation_covariance[0] = -1.0
    return message


@pytest.fixture(scope='module')
def imu(module_ros):
    """The encoder and an IMU that it finds: publisher, tokens, diagnostics, process."""
    publisher = module_ros.publisher('/robot/imu/data', Imu, QoSProfile(depth=1000))
    tokens = module_ros.collect('/robot/tokens/imu', ModalityTokens)
    diagnostics = module_ros.collect('/diagnostics', DiagnosticArray, 10)
    process = module_ros.start(MODULE, namespace='/robot')
    module_ros.wait_for_subscriber(publisher)
    return publisher, tokens, diagnostics, process


def drive(publisher, tokens, start, seconds, turning=0.0):
    """Publish a hundred readings a second, no faster than tokens come; returns those of the last moment."""
    for half in range(round(2 * seconds) + 1):
        first = start + half * SECOND // 2
        for number in range(50):
            publisher.publish(reading(first + number * SECOND // 100, turning))

        def newest(message, first=first):
            return first - SECOND < stamp(message) <= first + SECOND

        if half > 5:
            tokens.wait(where=newest)
        else:
            time.sleep(0.1)
    return tokens.wait(where=newest)[-1]


def stamp(message):
    return message.header.stamp.sec * SECOND + message.header.stamp.nanosec


def test_readings_become_one_token_without_a_direction(imu):
    publisher, tokens, _, _ = imu
    read = from_message(drive(publisher, tokens, STAMP, 12))
    assert (read.modality, read.sources, read.frame_id) == ('imu', ('imu',), 'base_link')
    assert read.values.shape == (1, len(CHANNELS)) and math.isnan(read.azimuth[0])
    assert read.looked.all() and read.quality == 1
    for group in GROUPS.values():
        assert read.values[0, group].sum() == pytest.approx(1, abs=1e-3)
    assert int(read.values[0, SPEED].argmax()) == 0
    assert read.values[0, CHANNELS.index(('turn', 'none'))] > 0.9
    assert not read.known[GROUPS['pace']].any() and read.known[SPEED].all()


def test_turns_are_seen_and_time_may_begin_again(imu):
    publisher, tokens, _, _ = imu
    read = from_message(drive(publisher, tokens, STAMP - 1000 * SECOND, 5, turning=-0.4))
    assert read.values[0, CHANNELS.index(('turn', 'right'))] > 0.9
    assert read.stamp_ns < STAMP


def test_readings_that_cannot_be_used_are_counted_and_the_next_ones_used(imu):
    publisher, tokens, diagnostics, process = imu
    start = STAMP + 2000 * SECOND
    drive(publisher, tokens, start, 3)
    before = diagnostics.counters('/robot/imu/data')
    broken = [reading(start + 4 * SECOND), reading(start + SECOND + 5), reading(start + 5 * SECOND)]
    broken[0].angular_velocity.x = math.nan
    broken[1].header.stamp = from_nanoseconds(start + 2_900_000_000)
    broken[2].linear_acceleration_covariance[0] = -1.0
    for message in broken:
        publisher.publish(message)
    drive(publisher, tokens, start + 6 * SECOND, 3)
    after = diagnostics.counters('/robot/imu/data')
    assert after['rejected'] == before['rejected'] + len(broken)
    assert after['received'] == after['encoded'] + after['superseded'] + after['rejected'] + after['waiting']
    assert process.running
