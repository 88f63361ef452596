"""The LiDAR encoder as a process: clouds in, tokens out."""
from __future__ import annotations

import array

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from mpnp_ros.msg import ModalityTokens
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from mpnp_ros.conversions.messages import from_message
from mpnp_ros.conversions.pointclouds import Points, from_points

pytestmark = pytest.mark.ros
MODULE = 'mpnp_ros.nodes.encoder lidar'
SECOND = 10 ** 9
STAMP = 1_700_000_000 * SECOND


def sweep(stamp_ns, count=500):
    rng = np.random.default_rng(0)
    azimuth, height = rng.uniform(-np.pi, np.pi, count), rng.uniform(-1, 1, count)
    points = np.stack([9 * np.cos(azimuth), 9 * np.sin(azimuth), height], axis=1).astype(np.float32)
    return from_points(Points(points, rng.random(count, dtype=np.float32)), 'lidar_top', stamp_ns)


def malformed():
    """Yield clouds that no encoder can use."""
    changes = ({'data': array.array('B')}, {'width': 501}, {'fields': []},
               {'data': array.array('B', bytes(7999))}, {'width': 0})
    for change in changes:
        message = sweep(0)
        for field, value in change.items():
            setattr(message, field, value)
        yield message
    yield from_points(Points(np.full((5, 3), np.nan, np.float32), None))


def test_sweeps_become_tokens_and_malformed_ones_are_counted(ros, tiny_lidar):
    publisher = ros.publisher('/lidar_top', PointCloud2)
    tokens = ros.collect('/tokens/lidar', ModalityTokens)
    diagnostics = ros.collect('/diagnostics', DiagnosticArray, 10)
    process = ros.start(MODULE, parameters={**tiny_lidar, 'health.returns': [400., 800.]})
    ros.publish_until(lambda: publisher.publish(sweep(STAMP)), tokens)
    read = from_message(tokens.messages[0])
    assert (read.modality, read.sources, read.stamp_ns, read.frame_id) == \
        ('lidar', ('lidar_top',), STAMP, 'base_link')
    assert read.values.shape == (8, 32) and np.isfinite(read.azimuth).all()
    assert read.quality == 0.25 and read.concerns == (
        'lidar_top has few returns (500)', "lidar_top: frame 'lidar_top' is not connected to 'base_link', "
        'and no transform has come; publish it; taking them as the same')

    for number, message in enumerate(malformed(), start=1):
        publisher.publish(message)
        stamp = STAMP + number * SECOND
        publisher.publish(sweep(stamp))
        tokens.wait(where=lambda message, stamp=stamp: message.header.stamp.sec == stamp // SECOND)

    end = diagnostics.counters('/lidar_top')
    assert end['waiting'] == 0 and end['encoded'] >= 7
    assert end['rejected'] + end['superseded'] >= 6
    assert end['received'] == end['encoded'] + end['superseded'] + end['rejected']
    assert process.running


def test_robots_that_share_a_network_have_transforms_of_their_own_by_remapping(ros, tiny_lidar):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    for topic, half_turn in (('/tf_static', 1.), ('/r1/tf_static', 0.)):
        mount = TransformStamped(child_frame_id='lidar_top')
        mount.header.frame_id = 'base_link'
        turn = mount.transform.rotation
        turn.z, turn.w = half_turn, 1 - half_turn
        ros.publisher(topic, TFMessage, latched).publish(TFMessage(transforms=[mount]))
    publisher = ros.publisher('/r1/lidar_top', PointCloud2)
    tokens = ros.collect('/r1/tokens/lidar', ModalityTokens)
    ros.start(MODULE, parameters=tiny_lidar, namespace='/r1',
              remap={'/tf': 'tf', '/tf_static': 'tf_static'})
    ros.publish_until(lambda: publisher.publish(sweep(STAMP)), tokens)
    read = from_message(tokens.messages[0])
    assert not any('frame' in concern for concern in read.concerns)
    assert np.degrees(read.azimuth[0]) == pytest.approx(157.5)


def test_any_quality_of_service_of_the_publisher_is_matched(ros, tiny_lidar):
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publishers = [ros.publisher('/lidar_top', PointCloud2, qos) for qos in (best_effort, 5)]
    tokens = ros.collect('/tokens/lidar', ModalityTokens)
    ros.start(MODULE, parameters=tiny_lidar)
    for publisher in publishers:
        ros.publish_until(lambda publisher=publisher: publisher.publish(sweep(STAMP)), tokens)


def test_a_subscriber_that_asks_for_too_much_is_warned_about(ros, tiny_lidar):
    ros.collect('/tokens/lidar', ModalityTokens, QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE))
    process = ros.start(MODULE, parameters=tiny_lidar)
    process.wait_for_output('QoS mismatch on tokens/lidar')


def test_intensities_come_on_the_scale_of_the_encoder_or_are_a_concern(ros, tiny_lidar):
    """Shares of 1 are read as if they went to 255; photons are said to be none of that."""
    publisher = ros.publisher('/lidar_top', PointCloud2)
    tokens = ros.collect('/tokens/lidar', ModalityTokens)
    ros.start(MODULE, parameters={**tiny_lidar, 'health.returns': [100., 200.], 'health.far_range': [1., 2.]})
    ros.publish_until(lambda: publisher.publish(sweep(STAMP)), tokens)
    seen = []
    for number, factor in enumerate((1., 255., 25500.), start=1):
        message, second = sweep(STAMP + number * SECOND), STAMP // SECOND + number
        columns = np.frombuffer(message.data, np.float32).reshape(-1, 4).copy()
        columns[:, 3] *= np.float32(factor)
        message.data = array.array('B', columns.tobytes())
        publisher.publish(message)
        tokens.wait(where=lambda got, second=second: got.header.stamp.sec == second)
        seen += [from_message(got) for got in tokens.messages if got.header.stamp.sec == second][:1]
    np.testing.assert_allclose(seen[0].values, seen[1].values, atol=1e-4)
    said = [[text for text in one.concerns if 'intensities' in text] for one in seen]
    assert [len(texts) for texts in said] == [0, 0, 1]
    assert 'of the intensities are above 255' in said[2][0] and seen[2].quality == 0.75
