"""The world node as a process: what a robot's topics carry while day turns into night."""
from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
pytest.importorskip('moderngl', reason='moderngl is not installed: the world cannot be drawn')

from mpnp_ros.msg import LabelledQuestions
from nav_msgs.msg import Odometry
from PIL import Image
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Imu, PointCloud2
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from mpnp_ros.conversions.camera_info import intrinsics
from mpnp_ros.conversions.messages import to_nanoseconds
from mpnp_ros.conversions.pointclouds import to_points
from mpnp_ros.nuscenes.sensor_files import RADAR_DTYPE
from mpnp_ros.questions.rule import parse_question
from mpnp_world.scene.identity import Conditions, SceneIdentity
from mpnp_world.sensors.rig import CAMERAS, LIDAR

pytestmark = pytest.mark.ros
MODULE = 'mpnp_world.node'
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SEED, SIZE = 3, (96, 54)
SMALL = {'seed': SEED, 'width': SIZE[0], 'height': SIZE[1]}
PATIENCE = 120.


def set_parameter(ros, name, kind, **value):
    """Set a parameter of the running world; return the result."""
    change = Parameter(name=name, value=ParameterValue(type=kind, **value))
    request = SetParameters.Request(parameters=[change])
    return ros.call(SetParameters, '/world/set_parameters', request, PATIENCE).results[0]


def turn(ros, **light_or_weather):
    """Change light or weather by name."""
    (name, value), = light_or_weather.items()
    return set_parameter(ros, name, ParameterType.PARAMETER_STRING, string_value=value)


def stamp(message):
    """Nanoseconds in its header."""
    return to_nanoseconds(message.header.stamp)


def brightness(message):
    """Mean grey of a compressed image, 0..255."""
    image = Image.open(io.BytesIO(bytes(message.data)))
    assert image.size == SIZE
    return np.asarray(image.convert('L')).mean()


def test_a_drive_from_day_into_night(ros):
    """Everything that a bag would have comes, belongs together, and only cameras lose by the night."""
    images = ros.collect('/cam_front/image_rect/compressed', CompressedImage, 50)
    infos = ros.collect('/cam_front/camera_info', CameraInfo, 50)
    clouds = ros.collect('/lidar_top', PointCloud2, 50)
    radars = ros.collect('/radar_front', PointCloud2, 50)
    boxes = ros.collect('/markers/annotations', MarkerArray, 50)
    questions = ros.collect('/labelled_questions', LabelledQuestions, 50)
    mounting = ros.collect('/tf_static', TFMessage, LATCHED)
    imu, odometry = ros.collect('/imu', Imu, 1000), ros.collect('/odom', Odometry, 1000)
    clock = ros.collect('/clock', Clock)
    process = ros.start(MODULE, parameters={**SMALL, 'wait_for': ['/cam_front/image_rect/compressed']})

    questions.wait(2, PATIENCE)
    begin = SceneIdentity(SEED, Conditions()).start * 1000
    stamps = [stamp(message) for message in questions.messages]
    assert all(abs(later - earlier - 500_000_000) < 1_000_000
               for earlier, later in zip(stamps, stamps[1:], strict=False))
    assert begin < stamps[0] < begin + 10 ** 9
    for collected in (images, infos, clouds, radars):
        assert stamp(collected.wait(1, PATIENCE)[0]) == stamps[0]
    assert images.messages[0].header.frame_id == 'cam_front'
    scale = np.array([[SIZE[0] / 1600], [SIZE[1] / 900], [1]])
    np.testing.assert_allclose(intrinsics(infos.messages[0]), CAMERAS['CAM_FRONT'].intrinsics * scale)
    points = to_points(clouds.messages[0])
    assert len(points.xyz) > 10_000
    height = LIDAR.pose.apply(points.xyz)[:, 2]
    assert (np.abs(height) < .2).mean() > .1
    assert {field.name for field in radars.messages[0].fields} == set(RADAR_DTYPE.names)
    labelled = questions.messages[0].questions
    assert {entry.type for entry in labelled} >= {'exist', 'count', 'status'}
    assert len(boxes.messages[0].markers) > 20
    frames = {item.child_frame_id for item in mounting.wait(1)[0].transforms}
    assert len(frames) == 16 and {'lidar_top', 'mic_front_left'} <= frames

    assert turn(ros, light='night').successful
    by_day = brightness(images.messages[0])
    dark = images.wait(1, PATIENCE, where=lambda message: brightness(message) < by_day / 2)[0]
    later = clouds.wait(1, PATIENCE, where=lambda message: stamp(message) == stamp(dark))[0]
    assert .5 < len(to_points(later).xyz) / len(points.xyz) < 2
    refused = turn(ros, light='noon')
    assert not refused.successful and 'day, dusk, night' in refused.reason

    readings = [stamp(message) for message in imu.messages]
    assert set(np.diff(readings).tolist()) == {10_000_000}
    assert stamp(odometry.messages[0]) > begin
    ticks = [to_nanoseconds(message.clock) for message in clock.messages]
    assert ticks == sorted(ticks) and ticks[-1] >= stamp(dark)
    assert process.stop() == 0


def test_it_stands_still_goes_on_and_ends(ros):
    """Without cameras, so that it is fast."""
    clock = ros.collect('/clock', Clock)
    process = ros.start(MODULE, parameters={
        **SMALL, 'sensors': ['lidar'], 'rate': 5.0, 'duration': 4.0, 'scene_duration': 2.0,
        'key_frame_rate': 1.0, 'wait_for': ['/clock']})
    clock.wait(1, PATIENCE)
    assert set_parameter(ros, 'paused', ParameterType.PARAMETER_BOOL, bool_value=True).successful
    assert set_parameter(ros, 'rate', ParameterType.PARAMETER_DOUBLE, double_value=20.0).successful
    assert set_parameter(ros, 'paused', ParameterType.PARAMETER_BOOL, bool_value=False).successful
    assert process.wait(PATIENCE) == 0
    assert 'the world ended after 4 s' in process.output


def test_sweeps_come_half_a_second_before_key_frames_of_the_same_scene(ros):
    questions = ros.collect('/labelled_questions', LabelledQuestions, 50)
    clouds, images = (ros.collect(topic, kind, 50) for topic, kind in (
        ('/lidar_top', PointCloud2), ('/cam_front/image_rect/compressed', CompressedImage)))
    odometry = ros.collect('/odom', Odometry, 1000)
    process = ros.start(MODULE, parameters={
        **SMALL, 'sensors': ['lidar', 'camera'], 'sweeps': ['lidar'], 'rate': 20.0, 'key_frame_rate': 0.5,
        'motion_rate': 6.0, 'scene_duration': 4.0, 'duration': 7.0,
        'wait_for': ['/lidar_top', '/labelled_questions', '/odom']})
    assert process.wait(PATIENCE) == 0
    key_frames = [stamp(message) for message in questions.messages]
    assert len(key_frames) == 4 and stamp(images.messages[-1]) in key_frames
    assert len(images.messages) <= 4
    swept = [stamp(message) for message in clouds.messages]
    known = {stamp(message) for message in odometry.messages}
    for key_frame in key_frames:
        before = swept[swept.index(key_frame) - 1]
        assert abs(key_frame - before - 500_000_000) < 1_000_000
        assert {key_frame, before} <= known
    jumps = np.hypot(*np.diff([[message.pose.pose.position.x, message.pose.pose.position.y]
                               for message in odometry.messages], axis=0).T) > 10
    scene_begins = stamp(odometry.messages[int(np.flatnonzero(jumps)[0]) + 1])
    assert all((before < scene_begins) == (key_frame < scene_begins)
               for before, key_frame in zip(swept[::2], swept[1::2], strict=False))


def test_it_holds_at_every_key_frame_and_asks_what_it_is_told_to(ros):
    questions = ros.collect('/labelled_questions', LabelledQuestions, 50)
    clock, clouds = ros.collect('/clock', Clock), ros.collect('/lidar_top', PointCloud2, 50)
    process = ros.start(MODULE, parameters={
        **SMALL, 'sensors': ['lidar'], 'hold': True, 'rate': 20.0, 'key_frame_rate': 1.0, 'questions': 100,
        'question_distance': 25.0, 'question_points': 5, 'question_anchors': False,
        'wait_for': ['/labelled_questions', '/clock']})
    questions.wait(1, PATIENCE)
    asked = GetParameters.Request(names=['paused'])
    for count in (2, 3):
        assert set_parameter(ros, 'paused', ParameterType.PARAMETER_BOOL, bool_value=False).successful
        questions.wait(count, PATIENCE)
        paused = ros.call(GetParameters, '/world/get_parameters', asked, PATIENCE)
        assert paused.values[0].bool_value
    assert set_parameter(ros, 'light', ParameterType.PARAMETER_STRING, string_value='night').successful
    stamps = [stamp(message) for message in questions.messages]
    assert np.diff(stamps).tolist() == [10 ** 9, 10 ** 9]
    assert to_nanoseconds(clock.messages[-1].clock) == stamps[-1]
    clouds.wait(6, PATIENCE)  # half a second before each key frame there is a sweep
    assert np.diff([stamp(message) for message in clouds.messages]).tolist() == [10 ** 9 // 2] * 5
    texts = [entry.question.text for message in questions.messages for entry in message.questions]
    assert len(texts) > 50 and all(map(parse_question, texts))  # which knows no relations between things
    assert process.stop() == 0


def test_a_wrong_light_ends_it_with_the_reason(ros):
    process = ros.start(MODULE, parameters={'light': 'noon'})
    assert process.wait(PATIENCE) == 2
    assert "light is 'noon'; it must be one of day, dusk, night" in process.output


def test_without_those_who_must_listen_the_world_fails_and_says_so(ros):
    """The name is remapped first, as a publisher's would be."""
    process = ros.start(MODULE, parameters={**SMALL, 'wait_for': ['question'], 'wait_timeout': .5,
                                            'require_listeners': True}, remap={'question': '/r1/question'})
    assert process.wait(PATIENCE) == 1
    assert 'the world failed: /r1/question without a subscriber after 0.5 s' in process.output
