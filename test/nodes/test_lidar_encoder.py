"""The LiDAR encoder as a process: clouds in, tokens out."""
from __future__ import annotations

import array

import numpy as np
import pytest
import torch

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from mpnp_ros.msg import ModalityTokens
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from mpnp_ros.conversions.messages import from_message, from_nanoseconds, to_nanoseconds
from mpnp_ros.conversions.pointclouds import Points, from_points
from mpnp_ros.modalities.heads import Head, HeadManifest, save_head
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.questions.vocabulary import CHANNELS

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


@pytest.fixture
def finder(tmp_path):
    """The parameters of an encoder that finds objects with random weights."""
    manifest = HeadManifest('lidar', CHANNELS, 30., 5, '', {'min_range': 1.}, {'hidden': 4},
                            form='detections')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = manifest.build().eval()
    network.out.bias.data[0] = -9.5
    network.out.weight.data[0] *= 150
    save_head(tmp_path / 'head', Head(manifest, network))
    return {'backbone': 'polar', 'head': str(tmp_path / 'head')}


def drive(x, stamp_ns):
    pose = Odometry(child_frame_id='base_link')
    pose.header.frame_id, pose.header.stamp = 'odom', from_nanoseconds(stamp_ns)
    pose.pose.pose.position.x, pose.pose.pose.orientation.w = x, 1.
    return pose


def test_an_earlier_sweep_is_moved_as_the_robot_has_moved(ros, finder):
    """Sweeps every 0.1 s of a robot that drives at 2 m/s; the tokens are those of the sweep 0.5 s before."""
    encoder = create_encoder('lidar', finder)
    publisher, odometry = ros.publisher('/lidar_top', PointCloud2), ros.publisher('/odom', Odometry)
    tokens = ros.collect('/tokens/lidar', ModalityTokens)
    vision = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    shown = ros.collect('/lidar_encoder/objects', vision.Detection3DArray)
    ros.start(MODULE, parameters={f'encoder.{name}': value for name, value in finder.items()})
    ros.wait_for_subscriber(odometry)
    ros.publish_until(lambda: publisher.publish(sweep(STAMP)), tokens)
    blind = from_message(tokens.messages[0])
    assert any('lidar_top: motion cannot be seen: the pose of the robot is not known; publish odom to '
               'base_link on /tf' in concern for concern in blind.concerns)
    world = np.random.default_rng(1).normal(0, 9, (3000, 3)).astype(np.float32) * np.float32([1, 1, .1])
    world += np.float32([0, 0, 1])
    for frame in range(7):
        stamp, x = STAMP + 20 * SECOND + frame * SECOND // 10, .2 * frame
        odometry.publish(drive(x, stamp))
        publisher.publish(from_points(Points(world - np.float32([x, 0, 0]), None), 'lidar_top', stamp))
        tokens.wait(where=lambda message, stamp=stamp: to_nanoseconds(message.header.stamp) == stamp)
    read = from_message(next(message for message in tokens.messages
                             if to_nanoseconds(message.header.stamp) == stamp))
    assert not any('motion' in concern for concern in read.concerns)
    here = world - np.float32([1.2, 0, 0])
    before = LidarFrame(world - np.float32([.2, 0, 0]), translation=np.array([-1., 0, 0]))
    wanted, alone = encoder.encode(LidarFrame(here, earlier=before)), encoder.encode(LidarFrame(here))
    assert read.encoder == encoder.fingerprint and read.values.shape[1] == 24
    differ = np.abs(read.values - wanted.values) > 1e-3  # a few points on borders of cells are rounded apart
    assert differ.mean() < 1e-3
    shown.wait(where=lambda message: to_nanoseconds(message.header.stamp) == stamp)
    boxes = next(message for message in shown.messages if to_nanoseconds(message.header.stamp) == stamp)
    found = encoder.detect(LidarFrame(here, earlier=before))
    assert len(boxes.detections) == len(found) and boxes.header.frame_id == 'base_link'
    assert wanted.values.shape != alone.values.shape or np.abs(wanted.values - alone.values).max() > .01


def test_a_lidar_that_is_too_slow_says_that_motion_cannot_be_seen(ros, finder):
    publisher, odometry = ros.publisher('/lidar_top', PointCloud2), ros.publisher('/odom', Odometry)
    tokens = ros.collect('/tokens/lidar', ModalityTokens)
    ros.start(MODULE, parameters={f'encoder.{name}': value for name, value in finder.items()})
    ros.wait_for_subscriber(odometry)
    ros.wait_for_subscriber(publisher)
    for frame in range(3):
        stamp = STAMP + frame * 9 * SECOND // 10
        odometry.publish(drive(0., stamp))
        publisher.publish(sweep(stamp))
        tokens.wait(where=lambda message, stamp=stamp: to_nanoseconds(message.header.stamp) == stamp)
    read = from_message(tokens.messages[-1])
    assert any('motion cannot be seen: no sweep is 0.3 to 0.7 s older' in concern
               for concern in read.concerns)
