"""The camera encoder as a process: images in, tokens out."""
from __future__ import annotations

import io
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from mpnp_ros.msg import ModalityTokens
from nav_msgs.msg import Odometry
from PIL import Image as Picture
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from mpnp_ros.conversions.images import from_encoded, from_rgb
from mpnp_ros.conversions.messages import from_message, from_nanoseconds, to_nanoseconds
from mpnp_ros.modalities.camera.calibration import facing, nominal_yaw
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView
from mpnp_ros.modalities.heads import Head, HeadManifest, save_head
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.questions.vocabulary import CHANNELS

pytestmark = pytest.mark.ros
MODULE = 'mpnp_ros.nodes.encoder camera'
SECOND = 10 ** 9
STAMP = 1_700_000_000 * SECOND


def jpeg(width=64, height=48, seed=0):
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Picture.fromarray(noise).save(stream, 'JPEG')
    return stream.getvalue()


class Rig:
    """Cameras of the test's own."""

    def __init__(self, ros, cameras, kind=CompressedImage, prefix='', suffix='/image_rect/compressed'):
        self.publishers = {camera: ros.publisher(f'{prefix}/{camera}{suffix}', kind) for camera in cameras}
        self.ros, self.stamp = ros, 0

    def connect(self, tokens):
        """Shoot with stamps of long ago until tokens come from every camera."""
        def connected():
            return any(len(message.sources) == len(self.publishers) for message in tokens.messages)
        for publisher in self.publishers.values():
            self.ros.wait_for_subscriber(publisher)
        while not connected():
            self.stamp += SECOND
            self.ros.publish_until(lambda: self.shoot(self.stamp), tokens)

    def shoot_once(self):
        self.stamp += SECOND
        self.shoot(self.stamp)

    def shoot(self, stamp_ns, cameras=None, data=None):
        for camera in cameras or self.publishers:
            self.publishers[camera].publish(from_encoded(jpeg() if data is None else data, camera, stamp_ns))


def stamp_of(message):
    return to_nanoseconds(message.header.stamp)


def recent(message):
    return stamp_of(message) >= STAMP


@pytest.fixture(scope='module')
def pair(module_ros, tiny_camera):
    """Two cameras and their encoder, connected: rig, tokens, process."""
    rig = Rig(module_ros, ['cam_front', 'cam_back'], prefix='/pair')
    tokens = module_ros.collect('/pair/tokens/camera', ModalityTokens)
    process = module_ros.start(MODULE, namespace='/pair',
                               parameters={**tiny_camera, 'cameras': ['cam_front', 'cam_back']})
    rig.connect(tokens)
    return rig, tokens, process


def test_a_set_of_images_becomes_tokens_with_the_oldest_stamp(pair):
    rig, tokens, _ = pair
    rig.shoot(STAMP + 7, ['cam_back'])
    rig.shoot(STAMP + 40_000_000, ['cam_front'])
    message = tokens.wait(where=recent)[0]
    read = from_message(message)
    assert read.modality == 'camera' and read.encoder.startswith('camera-')
    assert read.sources == ('cam_front', 'cam_back')
    assert read.stamp_ns == STAMP + 7
    assert read.source_stamps_ns == (STAMP + 40_000_000, STAMP + 7)
    assert read.frame_id == 'base_link'
    assert read.values.shape == (4, 32)
    assert abs(read.azimuth[:2].mean()) < 0.05 and np.abs(read.azimuth[2:]).min() > 2
    assert message.encode_duration > 0
    assert (read.quality, len(read.concerns)) == (0.75, 4)  # no camera has a mount or a calibration


def test_a_missing_camera_is_left_out_after_the_timeout(pair):
    rig, tokens, _ = pair
    stamp = STAMP + 100 * SECOND
    rig.shoot(stamp, ['cam_back'])
    assert tokens.wait(where=lambda message: stamp_of(message) == stamp)[0].sources == ['cam_back']


def test_bad_images_are_counted_and_the_good_ones_of_the_same_set_are_used(pair, ros):
    rig, tokens, process = pair
    diagnostics = ros.collect('/diagnostics', DiagnosticArray, 10)
    for number, broken in enumerate((b'', b'not an image', jpeg()[:300], b'\xff\xd8\xff' + bytes(50))):
        stamp = STAMP + (200 + number) * SECOND
        rig.shoot(stamp, ['cam_front'], broken)
        rig.shoot(stamp, ['cam_back'])
        message = tokens.wait(where=lambda message, stamp=stamp: stamp_of(message) == stamp)[0]
        assert message.sources == ['cam_back']
    rig.shoot(STAMP + 300 * SECOND)
    tokens.wait(where=lambda message: stamp_of(message) == STAMP + 300 * SECOND and len(message.sources) == 2)
    front, back = (diagnostics.counters(f'/pair/{name}/image_rect/compressed') for name in rig.publishers)
    assert front['rejected'] == 4 and back['rejected'] == 0
    for each in front, back:
        assert each['waiting'] == 0
        assert each['received'] == each['encoded'] + each['superseded'] + each['rejected']
    assert process.running
    assert 'not a readable image' in process.output


def test_a_damaged_jpeg_is_encoded_with_a_concern(pair):
    rig, tokens, _ = pair
    data = jpeg(320, 180)
    for number, (part, damaged) in enumerate((
            (data, False), (data[:-2], False), (data[:len(data) * 8 // 10], True))):
        stamp = STAMP + (400 + number) * SECOND
        rig.shoot(stamp, ['cam_front'], part)
        rig.shoot(stamp, ['cam_back'])
        message = tokens.wait(where=lambda message, stamp=stamp: stamp_of(message) == stamp)[0]
        assert message.sources == ['cam_front', 'cam_back']
        assert (message.quality < 0.75) == damaged  # without calibration it is never higher
        assert any('cam_front is a damaged JPEG' in text for text in message.concerns) == damaged


def test_raw_images_of_any_encoding(ros, tiny_camera):
    publisher = ros.publisher('/cam_front/image_raw', Image)
    tokens = ros.collect('/tokens/camera', ModalityTokens)
    process = ros.start(MODULE, parameters={**tiny_camera, 'cameras': ['cam_front'], 'transport': 'raw',
                                            'image_topic': '/{camera}/image_raw'})
    ros.wait_for_subscriber(publisher)
    message = from_rgb(np.zeros((900, 1600, 3), np.uint8), 'cam_front', STAMP)
    ros.publish_until(lambda: publisher.publish(message), tokens)
    black = tokens.messages[0]
    assert black.quality == 0 and black.concerns[0] == 'cam_front is dark (mean 0 of 255)'
    message.step = 5
    publisher.publish(message)
    process.wait_for_output('step is 5; it needs 4800')
    message.step, message.encoding, message.header.stamp.nanosec = 4800, 'bgr8', 5
    publisher.publish(message)
    tokens.wait(where=lambda message: stamp_of(message) == STAMP + 5)


def test_directions_follow_the_mount_and_the_calibration(ros, tiny_camera):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    mounts = ros.publisher('/tf_static', TFMessage, latched)
    mount = TransformStamped(child_frame_id='left_optical')
    mount.header.frame_id = 'base_link'
    turn = mount.transform.rotation
    turn.x, turn.y, turn.z, turn.w = -0.7071068, 0.0, 0.0, 0.7071068  # z of the camera along +y: left
    mounts.publish(TFMessage(transforms=[mount]))
    rig = Rig(ros, ['eye'])
    info = ros.publisher('/eye/camera_info', CameraInfo)
    tokens = ros.collect('/tokens/camera', ModalityTokens)
    ros.start(MODULE, parameters={**tiny_camera, 'cameras': ['eye']})
    ros.wait_for_subscriber(info)
    calibration = CameraInfo(width=64, height=48, p=[32., 0., 31.5, 0., 0., 32., 23.5, 0., 0., 0., 1., 0.])

    def left_of(message):
        azimuth = from_message(message).azimuth
        return np.allclose(azimuth, np.pi / 2 + np.array([1, -1]) * np.arctan(0.5), atol=0.05)

    def shoot():
        info.publish(calibration)
        rig.publishers['eye'].publish(from_encoded(jpeg(), 'left_optical', STAMP))

    for _ in range(20):  # the three topics are connected one after the other
        ros.publish_until(shoot, tokens)
        if left_of(tokens.messages[-1]):
            return
    pytest.fail(f'azimuths stay {from_message(tokens.messages[-1]).azimuth}')


def test_detections_stand_where_the_mount_of_the_camera_says(ros, tiny_detector):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    mount = turned('eye_optical', -.5, .5, -.5, .5)  # z of the camera along +x: ahead
    shift = mount.transforms[0].transform.translation
    shift.x, shift.z = 1.0, 2.0
    ros.publisher('/tf_static', TFMessage, latched).publish(mount)
    rig = Rig(ros, ['eye'])
    info = ros.publisher('/eye/camera_info', CameraInfo)
    tokens = ros.collect('/tokens/camera', ModalityTokens)
    ros.start(MODULE, parameters={'encoder.tokens': 'detections', 'encoder.detector': str(tiny_detector),
                                  'encoder.device': 'cpu', 'cameras': ['eye']})
    ros.wait_for_subscriber(info)
    calibration = CameraInfo(width=64, height=48, p=[96., 0., 31.5, 0., 0., 96., 23.5, 0., 0., 0., 1., 0.])

    def shoot():
        info.publish(calibration)
        rig.publishers['eye'].publish(from_encoded(jpeg(), 'eye_optical', STAMP))

    for _ in range(20):
        ros.publish_until(shoot, tokens)
        read = from_message(tokens.messages[-1])
        # The box is 24 of 48 rows high and ends 12.5 below the middle: by its height it is 6.6 m away, by the
        # ground 15.4 m, and its middle is farther.
        if abs(read.azimuth[0]) < .02 and 1 + 6.6 + 1.2 < read.distance[0] < 1 + 15.4 + 1.2:
            assert read.values.shape == (1, 24) and 0 < read.values.sum() <= 1
            assert read.max_distance == 30 and not read.known.all() and read.looked.sum() == 6
            return
    pytest.fail(f'azimuths stay {read.azimuth}, distances {read.distance}')


@pytest.fixture(scope='module')
def ranged(module_ros, tiny_detector):
    """A camera that detects a car in the middle of its image, a LiDAR beside it, and odometry."""
    from nav_msgs.msg import Odometry
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import PointCloud2

    mount, lidar = turned('ranged_optical', -.5, .5, -.5, .5), turned('ranged_lidar', 0., 0., 0., 1.)
    shift = mount.transforms[0].transform.translation
    shift.x, shift.z = 1.0, 2.0
    lidar.transforms[0].transform.translation.z = 1.5
    latched = QoSProfile(depth=2, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    frames = module_ros.publisher('/tf_static', TFMessage, latched)
    frames.publish(TFMessage(transforms=[*mount.transforms, *lidar.transforms]))
    rig = Rig(module_ros, ['eye'], prefix='/ranged')
    info = module_ros.publisher('/ranged/eye/camera_info', CameraInfo)
    publishers = [module_ros.publisher(topic, kind) for topic, kind in (
        ('/ranged/lidar/points', PointCloud2), ('/ranged/odom', Odometry))]
    tokens = module_ros.collect('/ranged/tokens/camera', ModalityTokens)
    process = module_ros.start(MODULE, namespace='/ranged', parameters={
        'encoder.tokens': 'detections', 'encoder.detector': str(tiny_detector), 'encoder.device': 'cpu',
        'cameras': ['eye'], 'image_topic': '{camera}/image_rect/compressed',
        'points_topic': 'lidar/points'})
    for publisher in (rig.publishers['eye'], info, *publishers):
        module_ros.wait_for_subscriber(publisher)
    return RangedCar(rig, info, *publishers, tokens, process)


class RangedCar:
    """Publishes what a robot and its sensors say; reads the tokens."""

    def __init__(self, rig, info, points, odometry, tokens, process):
        self.rig, self.info, self.points, self.odometry = rig, info, points, odometry
        self.tokens, self.process = tokens, process

    def sweep(self, stamp_ns, x):
        """A car's back, x metres ahead of the base frame."""
        from mpnp_ros.conversions.pointclouds import Points, from_points
        side, height = np.meshgrid(np.linspace(-.9, .9, 12), np.linspace(.4, 1.5, 8))
        plate = np.column_stack([np.full(side.size, x), side.ravel(), height.ravel() - 1.5])
        self.points.publish(from_points(Points(plate.astype(np.float32), None), 'ranged_lidar', stamp_ns))

    def stand(self, stamp_ns, x):
        """The robot is x metres ahead of where it began."""
        from nav_msgs.msg import Odometry

        from mpnp_ros.conversions.messages import from_nanoseconds
        pose = Odometry(child_frame_id='base_link')
        pose.header.frame_id, pose.header.stamp = 'odom', from_nanoseconds(stamp_ns)
        pose.pose.pose.position.x, pose.pose.pose.orientation.w = float(x), 1.
        self.odometry.publish(pose)

    def see(self, stamp_ns, before=lambda: None, right=lambda read: True):
        """Publish what comes before, and an image, until the tokens of that time are right."""
        read = None
        for _ in range(40):
            before()
            time.sleep(.1)
            self.info.publish(CameraInfo(
                width=64, height=48, p=[96., 0., 31.5, 0., 0., 96., 23.5, 0., 0., 0., 1., 0.]))
            self.rig.publishers['eye'].publish(from_encoded(jpeg(), 'ranged_optical', stamp_ns))
            for _ in range(20):
                found = [message for message in list(self.tokens.messages) if stamp_of(message) == stamp_ns]
                read = from_message(found[-1]) if found else None
                if read is not None and right(read):
                    return read
                time.sleep(.02)
        raise AssertionError(f'tokens stay {read}')


def test_without_a_sweep_the_image_tells_the_distance_and_it_is_said(ranged):
    read = ranged.see(STAMP, right=lambda read: abs(read.azimuth[0]) < .02)
    assert any('no point cloud of /ranged/lidar/points is within 0.25 s' in text for text in read.concerns)
    assert any('the pose of the robot is not known' in text for text in read.concerns)


def test_a_cluster_in_the_box_tells_the_distance_where_the_robot_is_then(ranged):
    def near(distance):
        return lambda read: abs(read.distance[0] - distance) < .2

    stamp = STAMP + 100 * SECOND
    read = ranged.see(stamp, lambda: ranged.sweep(stamp, 13.), near(13.96))
    assert not any('point cloud' in text for text in read.concerns)

    later = STAMP + 200 * SECOND

    def drive():
        ranged.stand(later, 0.)
        ranged.stand(later + SECOND // 10, 1.5)
        time.sleep(.05)
        ranged.sweep(later, 13.)

    read = ranged.see(later + SECOND // 10, drive, near(12.46))
    assert not read.concerns
    ranged.see(STAMP + 300 * SECOND, right=lambda read: any('point cloud' in text for text in read.concerns))


def test_what_moves_is_known_and_shown_as_boxes(ranged, module_ros):
    vision = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    from mpnp_ros.questions.vocabulary import CHANNELS
    shown = module_ros.collect('/ranged/camera_encoder/objects', vision.Detection3DArray)
    moving = CHANNELS.index(('car', 'moving'))
    chances = []
    for number, speed in enumerate((5., 0.)):
        for tenth in range(12):
            stamp = STAMP + (400 + 100 * number) * SECOND + tenth * SECOND // 10

            def before(stamp=stamp, x=11 + speed * tenth / 10):
                ranged.stand(stamp, 0.)
                ranged.sweep(stamp, x)

            read = ranged.see(stamp, before, lambda read: not read.concerns)
        chances.append(read.values[0, moving] / read.values.sum())
    assert chances[0] > .9 and chances[1] < .1
    message = next(message for message in shown.messages if stamp_of(message) == stamp)
    (found,) = message.detections
    assert message.header.frame_id == 'base_link'
    assert found.bbox.center.position.x == pytest.approx(11.96, abs=.2) and found.bbox.size.x > 3
    assert found.results[0].hypothesis.class_id == 'car'


def turned(child, *quaternion):
    """Return a transform to base_link with x, y, z, w of a rotation."""
    mount = TransformStamped(child_frame_id=child)
    mount.header.frame_id = 'base_link'
    turn = mount.transform.rotation
    turn.x, turn.y, turn.z, turn.w = quaternion
    return TFMessage(transforms=[mount])


def degrees(message):
    return np.degrees(from_message(message).azimuth)


def test_a_camera_of_which_nothing_is_known_looks_ahead_and_says_what_is_assumed(ros, tiny_camera):
    publisher = ros.publisher('/camera/image_raw', Image)
    info = ros.publisher('/camera/camera_info', CameraInfo)
    tokens = ros.collect('/tokens/camera', ModalityTokens)
    process = ros.start(MODULE, parameters={**tiny_camera, 'cameras': ['camera'], 'transport': 'raw',
                                            'image_topic': '{camera}/image_raw'})
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    message = from_rgb(noise, '', STAMP)
    ros.publish_until(lambda: publisher.publish(message), tokens)
    bare = tokens.messages[0]
    assert degrees(bare) == pytest.approx([17.7, -17.7], abs=0.1)
    assert bare.quality == 0.75
    mount, calibration = bare.concerns
    assert mount.startswith('camera: header.frame_id is empty')
    assert mount.endswith('taking it as looking ahead')
    assert calibration == ('camera: no calibration on /camera/camera_info; taking a field of view of '
                           '65 degrees')

    message.header.frame_id = 'eye'
    sharp = CameraInfo(width=128, height=96, k=[32., 0., 63.5, 0., 32., 47.5, 0., 0., 1.])

    def shoot():
        info.publish(sharp)
        publisher.publish(message)

    for _ in range(20):
        ros.publish_until(shoot, tokens)
        if len(tokens.messages[-1].concerns) == 1:
            break
    assert degrees(tokens.messages[-1]) == pytest.approx([45, -45], abs=0.1)
    assert "frame 'eye' is not connected to 'base_link'" in tokens.messages[-1].concerns[0]
    assert process.output.count('no calibration on') == 1


def test_a_calibration_latched_before_for_another_size_and_a_frame_that_is_not_optical(ros, tiny_camera):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros.publisher('/tf_static', TFMessage, latched).publish(turned('camera_link', 0., 0., 0., 1.))
    calibration = CameraInfo(width=1600, height=900, k=[600., 0., 799.5, 0., 600., 449.5, 0., 0., 1.])
    ros.publisher('/eye/camera_info', CameraInfo, latched).publish(calibration)
    image = ros.publisher('/eye/image_rect/compressed', CompressedImage)
    tokens = ros.collect('/tokens/camera', ModalityTokens)
    ros.start(MODULE, parameters={**tiny_camera, 'cameras': ['eye'], 'encoder.columns': 4})
    ros.wait_for_subscriber(image)
    message = from_encoded(jpeg(800, 450), 'camera_link', STAMP)
    ros.publish_until(lambda: image.publish(message), tokens)
    assert degrees(tokens.messages[0]) == pytest.approx([45, 18.4, -18.4, -45], abs=0.1)
    concern, = (text for text in tokens.messages[0].concerns if text.startswith('eye: '))
    assert "'camera_link' is not an optical frame" in concern and "put 'camera_optical_frame'" in concern


def test_raw_images_are_undistorted_unless_it_is_told_that_they_are_rectified(ros, tiny_camera):
    image, info = (ros.publisher(f'/eye/{name}', kind) for name, kind in
                   (('image_raw', Image), ('camera_info', CameraInfo)))
    tokens = ros.collect('/tokens/camera', ModalityTokens)
    process = ros.start(MODULE, parameters={
        **tiny_camera, 'cameras': ['eye'], 'image_topic': '{camera}/image_raw', 'transport': 'raw'})
    message = from_rgb(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8), '', STAMP)
    calibration = CameraInfo(width=64, height=48, distortion_model='equidistant', d=[0.] * 4,
                             k=[16., 0., 31.5, 0., 16., 23.5, 0., 0., 1.],
                             p=[32., 0., 31.5, 0., 0., 32., 23.5, 0., 0., 0., 1., 0.])

    def shoot():
        info.publish(calibration)
        image.publish(message)

    def angle_becomes(wanted):
        for _ in range(20):
            ros.publish_until(shoot, tokens)
            if degrees(tokens.messages[-1]) == pytest.approx([wanted, -wanted], abs=0.1):
                return
        pytest.fail(f'azimuths stay {degrees(tokens.messages[-1])}\n{process.output}')

    angle_becomes(np.degrees(1.))
    request = SetParameters.Request(parameters=[Parameter('rectified', value=True).to_parameter_msg()])
    assert ros.call(SetParameters, '/camera_encoder/set_parameters', request).results[0].successful
    angle_becomes(np.degrees(np.arctan(.5)))
    calibration.p = [0.] * 12  # of rectified images nothing else is known now
    angle_becomes(45.)
    assert 'P is empty' in tokens.messages[-1].concerns[1]


def test_of_two_cameras_the_one_of_which_the_direction_is_unknown_is_left_out(ros, tiny_camera):
    rig, tokens = Rig(ros, ['cam_front', 'mast']), ros.collect('/tokens/camera', ModalityTokens)
    process = ros.start(MODULE, parameters={**tiny_camera, 'cameras': ['cam_front', 'mast']})
    for _ in range(20):
        ros.publish_until(rig.shoot_once, tokens)
        if any('mast: ' in concern for concern in tokens.messages[-1].concerns):
            break
    assert tokens.messages[-1].sources == ['cam_front']
    said, = (concern for concern in tokens.messages[-1].concerns if concern.startswith('mast: '))
    assert said.endswith('leaving it out')
    process.wait_for_output('add its name to encoder.nominal_views')


def test_transitions_repeat_and_impossible_ones_are_refused(ros, tiny_camera):
    rig = Rig(ros, ['cam_front'])
    tokens = ros.collect('/tokens/camera', ModalityTokens)
    process = ros.start(MODULE, parameters={**tiny_camera, 'cameras': ['cam_front'], 'autostart': False})
    node = '/camera_encoder'
    ros.wait_for_state(node, 'unconfigured')
    assert not ros.change_state(node, 'activate')
    for cycle in range(1, 4):
        for transition, state in (('configure', 'inactive'), ('activate', 'active')):
            assert ros.change_state(node, transition)
            assert ros.state(node) == state
        assert not ros.change_state(node, 'configure')
        rig.connect(tokens)
        rig.shoot(STAMP + cycle)
        tokens.wait(where=lambda message, cycle=cycle: stamp_of(message) == STAMP + cycle)
        assert ros.change_state(node, 'deactivate')
        assert rig.publishers['cam_front'].get_subscription_count() == 0
        assert ros.change_state(node, 'cleanup')
    assert ros.change_state(node, 'shutdown')
    assert process.stop() == 0


def test_namespace_remapping_and_two_instances_side_by_side(ros, tiny_camera):
    parameters = {**tiny_camera, 'cameras': ['cam_front']}
    first, second = Rig(ros, ['cam_front'], prefix='/robot1'), Rig(ros, ['elsewhere'], suffix='')
    tokens1 = ros.collect('/robot1/tokens/camera', ModalityTokens)
    tokens2 = ros.collect('/robot2/seen', ModalityTokens)
    ros.start(MODULE, parameters=parameters, namespace='/robot1')
    ros.start(MODULE, parameters=parameters, namespace='/robot2', name='eye',
              remap={'cam_front/image_rect/compressed': '/elsewhere', 'tokens/camera': 'seen'})
    first.connect(tokens1)
    second.connect(tokens2)
    first.shoot(STAMP + 1)
    second.shoot(STAMP + 2)
    tokens1.wait(where=lambda message: stamp_of(message) == STAMP + 1)
    tokens2.wait(where=lambda message: stamp_of(message) == STAMP + 2)
    assert STAMP + 2 not in map(stamp_of, tokens1.messages)
    assert STAMP + 1 not in map(stamp_of, tokens2.messages)


def test_a_signal_ends_it_in_order_and_it_starts_again(ros, tiny_camera):
    rig = Rig(ros, ['cam_front'])
    tokens = ros.collect('/tokens/camera', ModalityTokens)
    for stamp, number in ((STAMP + 1, signal.SIGINT), (STAMP + 2, signal.SIGTERM)):
        process = ros.start(MODULE, parameters={**tiny_camera, 'cameras': ['cam_front']})
        ros.publish_until(lambda stamp=stamp: rig.shoot(stamp), tokens)
        assert stamp_of(tokens.messages[-1]) == stamp
        assert process.stop(number) == 0
        assert 'Traceback' not in process.output


@pytest.mark.parametrize('parameters, code, words', [
    ({'slop': -1.0}, 2, 'slop is -1; it must be 0 to 10 s'),
    ({'cameras': ['a', 'a']}, 2, 'each its own name'),
    ({'encoder.backbone': '/nowhere'}, 1, "backbone '/nowhere'"),
])
def test_wrong_parameters_end_it_with_the_reason(ros, tiny_camera, parameters, code, words):
    process = ros.start(MODULE, parameters={**tiny_camera, **parameters})
    assert process.wait() == code
    assert words in process.output
    assert 'Traceback' not in process.output


@pytest.fixture
def finder(tmp_path):
    """The options of an encoder that finds objects with random weights."""
    manifest = HeadManifest('camera', CHANNELS, 30., 5, '', {'height': 32, 'width': 64},
                            {'height': 32, 'width': 64, 'hidden': 4}, form='detections')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = manifest.build().eval()
    network.objects.out.bias.data[0] = -9.5
    network.objects.out.weight.data[0] *= 300
    save_head(tmp_path / 'head', Head(manifest, network))
    return {'head': str(tmp_path / 'head')}


def test_earlier_images_are_moved_as_the_robot_has_moved(ros, finder):
    """Images every 0.25 s of a robot that drives at 2 m/s; tokens are those of the images 0.5 s before."""
    encoder, rig = create_encoder('camera', finder), Rig(ros, ['cam_front', 'cam_back'])
    odometry, tokens = ros.publisher('/odom', Odometry), ros.collect('/tokens/camera', ModalityTokens)
    vision = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    shown = ros.collect('/camera_encoder/objects', vision.Detection3DArray)
    ros.start(MODULE, parameters={**{f'encoder.{name}': value for name, value in finder.items()},
                                  'cameras': ['cam_front', 'cam_back']})
    ros.wait_for_subscriber(odometry)
    rig.connect(tokens)
    blind = from_message(tokens.messages[-1])
    assert any('motion cannot be seen: the pose of the robot is not known; publish odom to base_link on /tf'
               in concern for concern in blind.concerns)
    for frame in range(3):
        stamp = STAMP + frame * SECOND // 4
        pose = Odometry(child_frame_id='base_link')
        pose.header.frame_id, pose.header.stamp = 'odom', from_nanoseconds(stamp)
        pose.pose.pose.position.x, pose.pose.pose.orientation.w = .5 * frame, 1.
        odometry.publish(pose)
        rig.shoot(stamp, data=jpeg(seed=frame))
        tokens.wait(where=lambda message, stamp=stamp: stamp_of(message) == stamp)
    read = from_message(next(message for message in tokens.messages if stamp_of(message) == stamp))
    assert not any('motion' in concern for concern in read.concerns)

    def view(camera, seed, x):
        yaw = nominal_yaw(camera, encoder.config)
        return CameraView(camera, jpeg(seed=seed), rotation=facing(yaw), position=np.array([x, 0, 0.]))

    views = [replace(view(camera, 2, 0.), earlier=view(camera, 0, -1.)) for camera in rig.publishers]
    wanted = encoder.encode(CameraFrame(tuple(views)))
    alone = encoder.encode(CameraFrame(tuple(replace(each, earlier=None) for each in views)))
    assert read.encoder == encoder.fingerprint and read.values.shape == wanted.values.shape
    np.testing.assert_allclose(read.values, wanted.values, atol=1e-4)
    assert wanted.values.shape != alone.values.shape or np.abs(wanted.values - alone.values).max() > .01
    shown.wait(where=lambda message: stamp_of(message) == stamp)
    boxes = next(message for message in shown.messages if stamp_of(message) == stamp)
    assert len(boxes.detections) == len(encoder.detect(CameraFrame(tuple(views))))
