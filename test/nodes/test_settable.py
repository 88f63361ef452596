"""Every parameter of every node: what is accepted takes effect, and what would have none is refused."""
from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

import rclpy
from mpnp_ros.msg import Question
from rclpy.parameter import Parameter as RosParameter
from rclpy.signals import SignalHandlerOptions
from rosbags.rosbag2 import StoragePlugin, Writer
from sensor_msgs.msg import CameraInfo, CompressedImage, Imu, PointCloud2, PointField

from mpnp_ros.bags.messages import message_types
from mpnp_ros.detection.detections import Detections
from mpnp_ros.errors import ConfigurationError, ImuError
from mpnp_ros.modalities.audio.frames import AudioFrame
from mpnp_ros.nodes import adaptation, fusion, replay
from mpnp_ros.nodes.encoder import node_class
from mpnp_ros.nodes.encoder_node import Input
from mpnp_ros.options import Change

ENCODERS = {f'{sensor}_encoder': node_class(sensor) for sensor in (
    'audio', 'camera', 'detections', 'imu', 'lidar', 'radar')}
OPTIONS = {**{name: node.OPTIONS for name, node in ENCODERS.items()}, 'fusion': fusion.PARAMETERS,
           'adaptation': adaptation.PARAMETERS, 'replay': replay.PARAMETERS}
MANAGED = {**ENCODERS, 'fusion': fusion.FusionNode}
PLAIN = {'adaptation': adaptation.AdaptationNode, 'replay': replay.Replay}
if importlib.util.find_spec('embreex'):  # the world has rays
    from mpnp_world import node as world

    OPTIONS['world'], PLAIN['world'] = world.PARAMETERS, world.DrivingWorld
OTHERWISE = {'encoder.sectors': 20, 'encoder.doppler_span': 10.3, 'encoder.columns': 8, 'encoder.top': .1,
             'encoder.bottom': .9,
             'encoder.nominal_views': ['front', 'front_left', 'front_right', 'back', 'left', 'right'],
             'cameras': ['front'], 'radars': ['front'], 'modalities': ['camera'], 'method': 'eas',
             'image_topic': '{camera}/image', 'camera_info_topic': '{camera}/info', 'quality_low': .6,
             'detectors': ['front'], 'classes': 'coco', 'calibration': [2.], 'encoder.calibration': [0., 1.],
             'view': [-60., 60.], 'positions': [0., 0., 1.]}
"""Another right value where any other is not right beside the defaults."""
TAKEN = {'unconfigured': {Change.LIVE, Change.ACTIVATE, Change.CONFIGURE},
         'inactive': {Change.LIVE, Change.ACTIVATE}, 'active': {Change.LIVE}}


@pytest.fixture
def make(tiny_camera, tiny_lm_folder, ros_harness, tmp_path):
    """Make a node in this process, with tiny networks, a bag of one message and small images."""
    types, bag = message_types(), tmp_path / 'bag'
    with Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        text = writer.add_connection('/text', 'std_msgs/msg/String', typestore=types)
        writer.write(text, 1, types.serialize_cdr(types.types['std_msgs/msg/String']('a'), text.msgtype))
    on = {'encoder.device': 'cpu', 'encoder.dtype': 'float32', 'threads': 1}
    tiny = {'camera_encoder': {**tiny_camera, 'threads': 1}, 'lidar_encoder': on, 'radar_encoder': on,
            'detections_encoder': {'threads': 1}, 'imu_encoder': {'threads': 1},
            'fusion': {'llm': str(tiny_lm_folder), 'device': 'cpu', 'dtype': 'float32', 'threads': 1,
                       'links': [''], 'link_store': ''},
            'replay': {'bag': str(bag)}, 'world': {'width': 32, 'height': 18}}
    nodes = []

    def build(name, **given):
        arguments = []
        for key, value in {**tiny.get(name, {}), **given}.items():
            arguments += ['-p', f"{key}:='{value}'" if isinstance(value, str) else f'{key}:={value}']
        rclpy.init(args=['test', '--ros-args', *arguments], domain_id=int(os.environ['ROS_DOMAIN_ID']),
                   signal_handler_options=SignalHandlerOptions.NO)
        nodes.append({**MANAGED, **PLAIN}[name]())
        return nodes[-1]

    yield build
    for node in nodes:
        if name_of(node) in MANAGED:
            node.close(30.)
        node.destroy_node()
    rclpy.try_shutdown()


def name_of(node):
    return node.get_name()


def parameters(name):
    return list(OPTIONS[name].declared())


def another(entry, value):
    """Return another right value of a parameter."""
    if entry.name in OTHERWISE:
        return OTHERWISE[entry.name]
    if entry.is_list:
        items = list(value) or ['camera']
        return [another(dataclasses.replace(entry, is_list=False), items[0]), *items[1:]]
    if entry.choices:
        return next(choice for choice in entry.choices if choice != value)
    if entry.kind is bool:
        return not value
    if entry.kind is str:
        return f'{value}_x'
    step = 1 if entry.kind is int else max(abs(value) * .01, 1e-9)
    return value - step if entry.problem(value + step) else value + step


def set_one(node, name, value):
    value = list(value) if isinstance(value, tuple) else value
    return node.set_parameters([RosParameter(name, value=value)])[0]


def calibration_of(node):
    """K of a camera whose P differs."""
    node._info_topics['front'] = '/info'
    node._infos['front'] = CameraInfo(width=20, height=10, k=[9., 0, 10, 0, 9, 5, 0, 0, 1],
                                      p=[7., 0, 10, 0, 0, 7, 5, 0, 0, 0, 1, 0])
    image = Input('/front/image', 'front', CompressedImage(), 0., 0.)
    return node._calibration(image, np.zeros((10, 20, 3), np.uint8)).matrix[0, 0]


def base_of(node):
    """The frame in which the direction of a LiDAR is asked for."""
    asked = []
    node.mounts = SimpleNamespace(pose=lambda name, frame, base, otherwise: asked.append(base), destroy=int)
    field = partial(PointField, datatype=PointField.FLOAT32, count=1)
    node.part(Input('/points', 'lidar', PointCloud2(
        height=1, width=1, point_step=12, row_step=12, data=bytes(12),
        fields=[field(name=name, offset=4 * place) for place, name in enumerate('xyz')]), 0., 0.))
    return asked[0]


def readings_of(node, seconds=4):
    """The inputs that an IMU submits, one reading each second."""
    submitted = []
    node.submit = submitted.extend
    for second in range(seconds):
        message = Imu()
        message.header.stamp.sec = 1000 + second
        node._receive('imu', message)
    node._buffer.clear()
    return submitted


def imu_base_of(node):
    """The frame in which an IMU is mounted."""
    asked = []
    node.mounts = SimpleNamespace(pose=lambda name, frame, base, otherwise: asked.append(base), destroy=int)
    with contextlib.suppress(ImuError):  # it has no readings
        node.part(Input('/imu', 'imu', Imu(), 0., 0.))
    return asked[0]


def finished(node):
    """The objects of an empty message."""
    return node._finished(Input('/detections', 'front', CameraInfo(), 0., 0.),
                          Detections(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 10))))


def rectified_of(node):
    """The direction of a box in an image whose K and P differ."""
    vision = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    node._types['front'], node._info_topics['front'] = 'image_boxes', '/info'
    node._infos['front'] = CameraInfo(width=20, height=10, k=[9., 0, 9, 0, 9, 5, 0, 0, 1],
                                      p=[9., 0, 1, 0, 0, 9, 5, 0, 0, 0, 1, 0])
    node.mounts = SimpleNamespace(pose=lambda name, frame, base, otherwise: np.eye(4), destroy=int)
    box = vision.Detection2D(results=[vision.ObjectHypothesisWithPose()])
    box.results[0].hypothesis.class_id, box.results[0].hypothesis.score = 'car', 1.
    box.bbox.center.position.x, box.bbox.center.position.y = 5., 5.
    box.bbox.size_x = box.bbox.size_y = 2.
    message = vision.Detection2DArray(detections=[box])
    return float(node.part(Input('/front/detections', 'front', message, 0., 0.)).azimuth[0])


def source_of(node):
    """The name under which a sweep is submitted."""
    submitted = []
    node.submit = submitted.extend
    node._receive('lidar_top', PointCloud2())
    return submitted[0].source


def paused_by_a_key_frame(node):
    """Whether the world stands still from a key frame on."""
    set_one(node, 'paused', False)
    node._hold()
    return node.values.paused


def slop_of(node):
    """The time within which a camera looks for a sweep."""
    node._sweeps = SimpleNamespace(nearest=lambda stamp, slop: slop)
    slop = node._clusters(0)
    node._sweeps = None
    return slop


OBSERVED = {
    ('camera_encoder', 'base_frame'): lambda node: node.frame(()).frame_id,
    ('camera_encoder', 'rectified'): calibration_of,
    ('camera_encoder', 'points_slop'): slop_of,
    ('imu_encoder', 'base_frame'): imu_base_of,
    ('imu_encoder', 'sensor'): lambda node: readings_of(node)[0].source,
    ('imu_encoder', 'period'): lambda node: (readings_of(node), node._due_ns)[1],
    ('lidar_encoder', 'base_frame'): base_of,
    ('lidar_encoder', 'sensor'): source_of,
    ('radar_encoder', 'base_frame'): lambda node: node.frame(()).frame_id,
    ('audio_encoder', 'base_frame'): lambda node: node.frame([AudioFrame(np.zeros((1, 1)), 1)]).frame_id,
    ('detections_encoder', 'base_frame'): lambda node: finished(node).frame_id,
    ('detections_encoder', 'rectified'): rectified_of,
    ('fusion', 'choices'): lambda node: node._question(Question(text='what?')).choices,
    ('fusion', 'influence'): lambda node: node._server._responder._influence(),
    ('fusion', 'answer_without_sensors'): lambda node: node._server._responder._without_sensors(),
    ('replay', 'rate'): lambda node: node._player.rate,
    ('replay', 'paused'): lambda node: node._player.paused,
    ('world', 'light'): lambda node: node._conditions.light,
    ('world', 'weather'): lambda node: node._conditions.weather,
    ('world', 'rate'): lambda node: node._pace._rate(),
    ('world', 'paused'): lambda node: node._pace._paused(),
    ('world', 'hold'): paused_by_a_key_frame}
"""What a parameter that is taken at any time has an effect on."""


def test_the_effect_of_every_parameter_that_is_taken_at_any_time_is_observed():
    live = {(name, entry.name) for name in OPTIONS for entry in parameters(name)
            if entry.change is Change.LIVE}
    assert live == {observed for observed in OBSERVED if observed[0] in OPTIONS}


@pytest.mark.parametrize('name', OPTIONS)
def test_what_is_taken_at_any_time_has_an_effect_at_once(make, name):
    node = make(name)
    if name in MANAGED:
        node.trigger_configure()
    for entry in parameters(name):
        if entry.change is Change.LIVE:
            before = OBSERVED[name, entry.name](node)
            result = set_one(node, entry.name, another(entry, node.values[entry.name]))
            assert result.successful, result.reason
            assert OBSERVED[name, entry.name](node) != before, entry.name


@pytest.mark.parametrize('name', MANAGED)
def test_what_waits_for_a_transition_is_read_in_it(make, name, monkeypatch):
    """A value is neither kept from before the transition that it waits for, nor never read."""
    read, options = set(), OPTIONS[name]

    def recorded(self, attribute):
        read.add(attribute)
        return object.__getattribute__(self, attribute)

    monkeypatch.setattr(options, '__getattribute__', recorded)
    node = make(name, **{'camera_encoder': {'cameras': ['front']}, 'radar_encoder': {'radars': ['front']},
                         'lidar_encoder': {'topic': '/points'}, 'imu_encoder': {'topic': '/imu'},
                         'detections_encoder': {'detectors': ['front']}}.get(name, {}))
    waiting = [entry for entry in parameters(name) if entry.change in (Change.CONFIGURE, Change.ACTIVATE)]
    read.clear()
    node.trigger_configure()
    while_configured = set(read)
    read.clear()
    node.trigger_activate()
    if hasattr(node, '_look'):
        node._look()
    assert node._state_machine.current_state[1] == 'active', node.failure
    for entry in waiting:
        assert entry.path[0] in (read if entry.change is Change.ACTIVATE else read | while_configured), \
            entry.name


@pytest.mark.parametrize('name', MANAGED)
def test_every_parameter_is_taken_or_refused_with_the_reason_in_every_state(make, name):
    node = make(name)
    steps = {'unconfigured': lambda: None, 'inactive': node.trigger_configure,
             'active': node.trigger_activate}
    for state, step in steps.items():
        step()
        assert node._state_machine.current_state[1] == state, node.failure
        for entry in parameters(name):
            value = node.values[entry.name]
            result = set_one(node, entry.name, another(entry, value))
            assert result.successful is (entry.change in TAKEN[state]), (state, entry.name, result.reason)
            if result.successful:
                assert node.values[entry.name] != value
                assert set_one(node, entry.name, value).successful, entry.name
            elif entry.change is Change.START:
                assert result.reason == f'{entry.name} is read at start; restart the node to change it'
            else:
                assert all(word in result.reason for word in (entry.name, state, 'set it then'))
            assert node.values[entry.name] == value
    node.trigger_deactivate()
    node.trigger_cleanup()
    for entry in parameters(name):
        value = node.values[entry.name]
        assert set_one(node, entry.name, value).successful is (entry.change in TAKEN['unconfigured'])


@pytest.mark.parametrize('name', sorted(OPTIONS.keys() - MANAGED))
def test_what_a_node_without_a_life_cycle_reads_at_start_is_refused_and_said_to_be_read_only(make, name):
    node = make(name)
    for entry in parameters(name):
        value = node.values[entry.name]
        assert node.describe_parameter(entry.name).read_only is (entry.change is Change.START)
        if entry.change is Change.START:
            result = set_one(node, entry.name, another(entry, value))
            assert not result.successful and node.values[entry.name] == value
            assert result.reason == f'{entry.name} is read at start; restart the node to change it'


def test_what_is_set_before_configuring_is_what_is_configured(make):
    node = make('camera_encoder')
    assert set_one(node, 'encoder.columns', 3).successful
    node.trigger_configure()
    assert node.encoder.config.columns == 3
    assert not set_one(node, 'encoder.columns', 2).successful
    node.trigger_cleanup()
    assert set_one(node, 'encoder.columns', 2).successful
    node.trigger_configure()
    assert node.encoder.config.columns == 2


@pytest.mark.parametrize('name, values, words', [
    ('fusion', {'quality_low': .9}, ['quality_low is 0.9', 'quality_high = 0.7']),
    ('fusion', {'quality_low': .9, 'quality_high': .1}, ['quality_low is 0.9', 'quality_high = 0.1']),
    ('camera_encoder', {'encoder.nominal_yaws': [1.]}, ['encoder.nominal_yaws has 1 entries for 6']),
    ('camera_encoder', {'encoder.nominal_views': ['front']}, ['encoder.nominal_yaws has 6 entries for 1']),
    ('camera_encoder', {'encoder.top': .5, 'encoder.bottom': .5}, ['encoder.top is 0.5']),
    ('camera_encoder', {'cameras': ['a', 'a']}, ['cameras', 'each its own name']),
    ('camera_encoder', {'cameras': ['a', 'b'], 'image_topic': 'image'}, ['image_topic', '{camera}']),
    ('camera_encoder', {'cameras': ['a', 'b'], 'camera_info_topic': 'info'},
     ['camera_info_topic', '{camera}']),
    ('camera_encoder', {'image_topic': '{camera}/my image'}, ['image_topic', 'not a topic name']),
    ('camera_encoder', {'cameras': ['the front']}, ['image_topic of the front', 'not a topic name']),
    ('camera_encoder', {'health.luminance': [40., 40.]}, ['health.luminance', 'two different numbers']),
    ('camera_encoder', {'health.luminance': [40.]}, ['health.luminance', 'two different numbers']),
    ('imu_encoder', {'topic': 'the imu'}, ['topic', 'not a topic name']),
    ('imu_encoder', {'health.gravity': [1., 1.]}, ['health.gravity', 'two different numbers']),
    ('lidar_encoder', {'encoder.sectors': 18}, ['encoder.sectors is 18', 'multiple of 4']),
    ('lidar_encoder', {'encoder.fov_up': -40.}, ['encoder.fov_up is -40.0', 'fov_down']),
    ('lidar_encoder', {'topic': 'the points'}, ['topic', 'not a topic name']),
    ('radar_encoder', {'radars': ['a', 'b'], 'topic': 'points'}, ['radars', '{radar}']),
    ('radar_encoder', {'health.usable': [.5, .5]}, ['health.usable', 'two different numbers']),
])
def test_values_that_cannot_go_together_are_refused(make, name, values, words):
    node = make(name)
    before = {key: node.values[key] for key in values}
    result = node.set_parameters_atomically([RosParameter(key, value=value) for key, value in values.items()])
    assert not result.successful and all(word in result.reason for word in words), result.reason
    assert {key: node.values[key] for key in values} == before


@pytest.mark.parametrize('name, values', [
    ('fusion', {'quality_low': .8, 'quality_high': .9}),
    ('camera_encoder', {'encoder.nominal_views': ['front'], 'encoder.nominal_yaws': [0.]}),
    ('camera_encoder', {'cameras': ['front'], 'image_topic': 'image', 'camera_info_topic': 'info'}),
    ('lidar_encoder', {'encoder.fov_up': -40., 'encoder.fov_down': -60.}),
])
def test_values_that_go_together_only_with_each_other_are_taken_at_once(make, name, values):
    node = make(name)
    result = node.set_parameters_atomically([RosParameter(key, value=value) for key, value in values.items()])
    assert result.successful, result.reason


@pytest.mark.parametrize('name, given, words', [
    ('fusion', {'quality_low': .9, 'queue_size': 0}, ['quality_low is 0.9', 'queue_size is 0']),
    ('camera_encoder', {'encoder.nominal_yaws': [1.], 'cameras': ['a', 'b'], 'image_topic': 'image'},
     ['encoder.nominal_yaws has 1', '{camera}']),
    ('adaptation', {'labelled_topic': 'my labels'}, ['labelled_topic', 'not a topic name']),
])
def test_every_problem_is_named_at_the_start_before_anything_is_loaded(make, name, given, words):
    with pytest.raises(ConfigurationError) as caught:
        make(name, **given)
    assert all(word in str(caught.value) for word in words), caught.value


def test_moments_that_are_lost_to_a_full_disk_are_counted_and_logged_now_and_then(make, monkeypatch, capfd):
    from mpnp_ros.adaptation import replay_buffer
    from mpnp_ros.adaptation.moments import LABELLED, BufferedQuestion
    from mpnp_ros.errors import StorageError
    from mpnp_ros.tokens import ModalityTokens

    def full(*_, **__):
        raise StorageError('FOLDER cannot be written: the disk is full')

    node = make('adaptation')
    monkeypatch.setattr(replay_buffer, 'write_file', full)
    for stamp in range(0, 20 * 10 ** 9, 10 ** 9):
        node._supervision.take_tokens(ModalityTokens(
            'camera', 'e', np.zeros((1, 1), np.float32), np.zeros(1, np.float32), stamp_ns=stamp))
        question = BufferedQuestion.read('why?', 'yes', ('yes', 'no'), LABELLED)
        node._supervision.take_questions(stamp, [question])
    for _ in range(2):
        node._supervision._clock = lambda: 1e9
        node._supervision.settle()
    counted = node.diagnostics.counters()['moments not kept']
    assert counted >= 10
    assert capfd.readouterr().err.count('FOLDER cannot be written') == 1
    assert 'FOLDER cannot be written' in node.diagnostics.status().message
