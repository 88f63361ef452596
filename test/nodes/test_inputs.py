"""What an encoder node reads by itself, and what it says where input does not come as it should."""
from __future__ import annotations

import itertools
import os
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from builtin_interfaces.msg import Time
from mpnp_ros.msg import EncoderInfo, ModalityTokens
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from mpnp_ros.conversions.images import from_rgb
from mpnp_ros.conversions.pointclouds import Points, from_points
from mpnp_ros.nodes.discovery import Topic, matching
from mpnp_ros.nodes.inputs import seconds
from mpnp_ros.transport import PROFILE_VARIABLES

pytestmark = pytest.mark.ros
CAMERA, LIDAR = 'mpnp_ros.nodes.encoder camera', 'mpnp_ros.nodes.encoder lidar'
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
UNPROFILED = """
import sys, time, rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('usb_cam')
qos = QoSProfile(depth=5, reliability=getattr(ReliabilityPolicy, sys.argv[2]))
publisher = node.create_publisher(Image, sys.argv[1], qos)
message = Image(height=480, width=640, encoding='rgb8', step=1920, data=bytes(640 * 480 * 3))
end = time.monotonic() + 60
while time.monotonic() < end:
    message.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(message)
    time.sleep(1 / 15)
"""


def image(stamp_ns=None, name='camera'):
    stamp_ns = time.time_ns() if stamp_ns is None else stamp_ns
    return from_rgb(np.full((48, 64, 3), 128, np.uint8), name, stamp_ns)


def cloud():
    rng = np.random.default_rng(0)
    points = Points(rng.normal(0, 9, (500, 3)).astype(np.float32), rng.random(500, dtype=np.float32))
    return from_points(points, 'lidar', time.time_ns())


def publish_until(condition, publish, what, timeout=80.):
    """Publish ten times a second until a condition holds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, what
        publish()
        time.sleep(.1)


def test_cameras_are_found_as_they_come_and_told(ros, tiny_camera):
    tokens = ros.collect('/seek/tokens/camera', ModalityTokens)
    infos = ros.collect('/seek/encoders', EncoderInfo, LATCHED)
    front = ros.publisher('/seek/front/image_raw', Image)
    ros.publisher('/seek/front/depth/image_raw', Image)
    ros.publisher('/elsewhere/image_raw', Image)
    process = ros.start(CAMERA, namespace='/seek', parameters=tiny_camera)
    publish_until(lambda: tokens.messages, lambda: front.publish(image()), 'tokens of the camera')
    assert tokens.messages[-1].sources == ['front']
    back = ros.publisher('/seek/back/image_raw', Image)

    def both():
        now = time.time_ns()
        front.publish(image(now))
        back.publish(image(now))

    publish_until(lambda: len(tokens.messages[-1].sources) == 2, both, 'tokens of both cameras')
    assert 'found cameras: front on /seek/front/image_raw' in process.output
    told = infos.wait(where=lambda info: len(info.topics) == 2)[0]
    assert (told.modality, told.node) == ('camera', '/seek/camera_encoder')
    assert (told.encoder, told.token_width) == (tokens.messages[0].encoder, tokens.messages[0].shape[1])
    assert told.topics == ['/seek/back/image_raw', '/seek/front/image_raw']
    assert 'encoder.tokens: columns' in told.changed and 'encoder.blocks: [1, 2]' in told.changed
    assert not any(option.startswith(('encoder.device', 'encoder.dtype')) for option in told.changed)
    assert not infos.messages[0].topics


def test_the_lidar_is_found_and_what_else_it_could_be_is_said(ros, tiny_lidar):
    publishers = [ros.publisher(f'/find/{name}', PointCloud2) for name in (
        'points_filtered', 'front/velodyne_points', 'rear/velodyne_points', 'camera/depth/points')]
    tokens = ros.collect('/find/tokens/lidar', ModalityTokens)
    process = ros.start(LIDAR, namespace='/find', parameters=tiny_lidar)
    publish_until(lambda: tokens.messages, lambda: publishers[1].publish(cloud()), 'tokens of the LiDAR')
    assert tokens.messages[0].sources == ['front_velodyne_points']
    process.wait_for_output('reading /find/front/velodyne_points, not /find/rear/velodyne_points')


def test_where_nothing_is_found_it_is_said_what_there_is(ros, tiny_camera, tiny_lidar):
    ros.publisher('/lost/depth/image_raw', Image)
    ros.publisher('/lost/camera/depth/points', PointCloud2)
    camera = ros.start(CAMERA, namespace='/lost', parameters=tiny_camera)
    lidar = ros.start(LIDAR, namespace='/lost', parameters=tiny_lidar)
    camera.wait_for_output('no topic of cameras found below /lost; similar: /lost/depth/image_raw '
                           '(sensor_msgs/msg/Image): set `image_topic` to read one')
    lidar.wait_for_output('no topic of a LiDAR found below /lost; similar: /lost/camera/depth/points')


def test_a_named_topic_that_is_silent_is_said_with_others_that_there_are(ros, tiny_camera):
    ros.publisher('/camera/image_raw', Image)
    process = ros.start(CAMERA, parameters={**tiny_camera, 'cameras': ['cam_front']})
    process.wait_for_output('no messages on /cam_front/image_rect/compressed: no publisher; '
                            'similar: /camera/image_raw: set `image_topic`')


def test_another_type_is_read_or_said(ros, tiny_camera):
    publisher = ros.publisher('/eye/image/compressed', Image)  # a name that promises another type
    tokens = ros.collect('/auto/tokens/camera', ModalityTokens)
    named = {**tiny_camera, 'cameras': ['eye'], 'image_topic': '/{camera}/image/compressed'}
    process = ros.start(CAMERA, namespace='/fixed', parameters={**named, 'transport': 'compressed'})
    process.wait_for_output('/eye/image/compressed: type mismatch: test publishes sensor_msgs/msg/Image, '
                            'this node subscribes to sensor_msgs/msg/CompressedImage; set transport: raw')
    ros.start(CAMERA, namespace='/auto', parameters=named)
    publish_until(lambda: tokens.messages, lambda: publisher.publish(image()), 'tokens of raw images')


def test_one_topic_needs_no_name_of_a_camera(ros, tiny_camera):
    publisher = ros.publisher('/some/front/image', Image)
    tokens = ros.collect('/one/tokens/camera', ModalityTokens)
    ros.start(CAMERA, namespace='/one', parameters={**tiny_camera, 'image_topic': '/some/front/image'})
    publish_until(lambda: tokens.messages, lambda: publisher.publish(image()), 'tokens')
    assert tokens.messages[0].sources == ['front']


def test_an_empty_list_of_cameras_in_a_file_is_none_by_name(ros, tiny_camera, tmp_path):
    file = tmp_path / 'robot.yaml'
    file.write_text('/**/camera_encoder:\n  ros__parameters: {cameras: []}\n')
    publisher = ros.publisher('/empty/front/image_raw', Image)
    tokens = ros.collect('/empty/tokens/camera', ModalityTokens)
    ros.start(CAMERA, namespace='/empty', parameters=tiny_camera, params_file=file)
    publish_until(lambda: tokens.messages, lambda: publisher.publish(image()), 'tokens')
    assert tokens.messages[0].sources == ['front']


def test_a_pattern_narrows_what_is_found(ros, tiny_camera):
    publishers = [ros.publisher(f'/wide/{name}/picture', Image) for name in ('front', 'back')]
    ros.publisher('/wide/left/image_raw', Image)
    tokens = ros.collect('/wide/tokens/camera', ModalityTokens)
    ros.start(CAMERA, namespace='/wide', parameters={**tiny_camera, 'image_topic': '{camera}/picture'})

    def both():
        now = time.time_ns()
        for publisher in publishers:
            publisher.publish(image(now))

    publish_until(lambda: tokens.messages and len(tokens.messages[-1].sources) == 2, both, 'tokens of both')
    assert set(tokens.messages[-1].sources) == {'front', 'back'}
    topics = [Topic('/wide/a/picture', ''), Topic('/wide/c/image_raw', '')]
    assert matching(topics, '{camera}/picture', 'camera', '/wide') == {'/wide/a/picture': 'a'}


def test_a_subscription_is_reliable_while_its_publishers_are(ros, tiny_lidar):
    topic = '/adapt/lidar/points'
    reliable = ros.publisher(topic, PointCloud2)
    tokens = ros.collect('/adapt/tokens/lidar', ModalityTokens)
    ros.start(LIDAR, namespace='/adapt', parameters=tiny_lidar)

    def asked():
        return {info.qos_profile.reliability for info in ros.node.get_subscriptions_info_by_topic(topic)}

    publish_until(lambda: tokens.messages, lambda: reliable.publish(cloud()), 'tokens')
    assert asked() == {ReliabilityPolicy.RELIABLE}
    faint = ros.publisher(topic, PointCloud2, BEST_EFFORT)
    count = len(tokens.messages)
    publish_until(lambda: len(tokens.messages) > count, lambda: faint.publish(cloud()),
                  'tokens of best effort')
    publish_until(lambda: asked() == {ReliabilityPolicy.BEST_EFFORT}, lambda: None,
                  'best effort alone')
    count = len(tokens.messages)
    publish_until(lambda: len(tokens.messages) > count, lambda: reliable.publish(cloud()),
                  'tokens of reliable')


def test_an_offer_that_does_not_meet_what_is_asked_is_said(ros, tiny_lidar, tmp_path):
    ros.publisher('/offer/lidar', PointCloud2, BEST_EFFORT)
    file = tmp_path / 'params.yaml'
    file.write_text('/**:\n  ros__parameters:\n    qos_overrides:\n      /offer/lidar:\n'
                    '        subscription:\n          reliability: reliable\n')
    process = ros.start(LIDAR, namespace='/offer', parameters=tiny_lidar, params_file=file)
    process.wait_for_output('/offer/lidar: QoS mismatch: test offers less than this node requests')


@pytest.mark.parametrize('offer', ['RELIABLE', 'BEST_EFFORT'])
def test_raw_images_of_a_publisher_without_the_profile(ros, tiny_camera, offer):
    """Reliable ones arrive; best-effort ones are lost, which is said with the remedy."""
    topic = f'/{offer.lower()}/image_raw'
    tokens = ros.collect(f'/{offer.lower()}/tokens/camera', ModalityTokens)
    environment = {name: value for name, value in os.environ.items() if name not in PROFILE_VARIABLES}
    process = ros.start(CAMERA, namespace=f'/{offer.lower()}', parameters=tiny_camera)
    publisher = ros.run([sys.executable, '-c', UNPROFILED, topic, offer], environment)
    if offer == 'RELIABLE':
        tokens.wait(60)
        assert 'messages lost in the last' not in process.output
    else:
        process.wait_for_output('s; start /usb_cam with FASTRTPS_DEFAULT_PROFILES_FILE=')
    assert publisher.running


def test_two_nodes_of_one_name_are_said(ros, tiny_camera):
    first, second = (ros.start(CAMERA, namespace='/twins', parameters=tiny_camera) for _ in range(2))
    for process in first, second:
        process.wait_for_output('2 nodes are called /twins/camera_encoder')


def test_simulated_time_that_does_not_run_is_said_and_sets_do_not_wait_for_it(ros, tiny_camera):
    front = ros.publisher('/sim/front/image_raw', Image)
    tokens = ros.collect('/sim/tokens/camera', ModalityTokens)
    process = ros.start(CAMERA, namespace='/sim', parameters={
        **tiny_camera, 'use_sim_time': True, 'cameras': ['front', 'rear'],
        'image_topic': '{camera}/image_raw'})
    publish_until(lambda: tokens.messages, lambda: front.publish(image()), 'tokens of the front camera')
    assert tokens.messages[0].sources == ['front']
    process.wait_for_output('use_sim_time is true but /clock has no publisher')


def test_while_simulated_time_stands_still_nothing_is_called_silent(ros, tiny_camera):
    """As before a replay begins, which waits for this node."""
    publisher, clock = ros.publisher('/still/front/image_raw', Image), ros.publisher('/clock', Clock)
    process = ros.start(CAMERA, namespace='/still', parameters={
        **tiny_camera, 'use_sim_time': True, 'cameras': ['front'], 'image_topic': '{camera}/image_raw'})
    process.wait_for_output('simulated time does not advance: /clock')
    assert 'no messages on' not in process.output
    ticks = itertools.count(1)
    publish_until(lambda: f'no messages on {publisher.topic_name}, which' in process.output,
                  lambda: clock.publish(Clock(clock=Time(sec=next(ticks)))), 'it is silent while time runs')


def test_a_camera_whose_clock_is_wrong_is_left_out_and_said(ros, tiny_camera):
    publishers = {name: ros.publisher(f'/clocks/{name}/image_raw', Image) for name in ('front', 'rear')}
    tokens = ros.collect('/clocks/tokens/camera', ModalityTokens)
    process = ros.start(CAMERA, namespace='/clocks', parameters={
        **tiny_camera, 'cameras': ['front', 'rear'], 'image_topic': '{camera}/image_raw'})

    def publish():
        publishers['rear'].publish(image(0))
        publishers['front'].publish(image())

    publish_until(lambda: any('rear: stamps are' in concern for message in tokens.messages
                              for concern in message.concerns), publish, 'a concern')
    assert 's behind the other camera, so it is left out; check its clock' in process.output
    assert {tuple(message.sources) for message in tokens.messages[-5:]} == {('front',)}
    process.wait_for_output('/clocks/rear/image_raw: header.stamp is zero')


def test_stamps_of_the_future_are_said(ros, tiny_camera):
    publisher = ros.publisher('/ahead/image_raw', Image)
    process = ros.start(CAMERA, namespace='/ahead', parameters=tiny_camera)
    publish_until(lambda: '/ahead/image_raw: stamps are 60 s ahead of the clock' in process.output,
                  lambda: publisher.publish(image(time.time_ns() + 60 * 10 ** 9)), 'a warning')


@pytest.mark.parametrize(('value', 'text'), [
    (.123, '0.12'), (3.41, '3.41'), (250., '250'), (1.7e9, '1.7e9'), (-12_345., '-12345')])
def test_seconds(value, text):
    assert seconds(value) == text


def test_compressed_images_are_found_before_raw_ones(ros, tiny_camera):
    ros.publisher('/two/image_raw', Image)
    ros.publisher('/two/image_raw/compressed', CompressedImage)
    process = ros.start(CAMERA, namespace='/two', parameters=tiny_camera)
    process.wait_for_output('found cameras: camera on /two/image_raw/compressed; `image_topic` names others')
