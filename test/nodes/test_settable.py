"""Every parameter of every node: what is accepted takes effect, and what would have none is refused."""
from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

import rclpy
from rclpy.parameter import Parameter as RosParameter
from rclpy.signals import SignalHandlerOptions

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.nodes import adaptation, camera_encoder, fusion, lidar_encoder, radar_encoder, replay, world
from mpnp_ros.nodes.parameters import Change

MODULES = {'camera_encoder': camera_encoder, 'lidar_encoder': lidar_encoder, 'radar_encoder': radar_encoder,
           'fusion': fusion, 'adaptation': adaptation, 'replay': replay, 'world': world}
MANAGED = {'camera_encoder': camera_encoder.CameraEncoder, 'lidar_encoder': lidar_encoder.LidarEncoder,
           'radar_encoder': radar_encoder.RadarEncoder, 'fusion': fusion.FusionNode}
LIVE = {'camera_encoder': {'base_frame', 'rectified'}, 'lidar_encoder': {'base_frame', 'sensor'},
        'radar_encoder': {'base_frame'}, 'fusion': {'choices', 'answer_without_sensors'},
        'adaptation': set(), 'replay': {'rate', 'paused'},
        'world': {'light', 'weather', 'rate', 'paused', 'hold'}}
"""What is followed at any time; each of them has a test here or in the test of its node."""
OTHERWISE = {'encoder.sectors': 20, 'encoder.columns': 8, 'encoder.top': .1, 'encoder.bottom': .9,
             'encoder.nominal_views': ['front', 'front_left', 'front_right', 'back', 'left', 'right'],
             'cameras': ['front'], 'radars': ['front'], 'modalities': ['camera'],
             'image_topic': '{camera}/image', 'camera_info_topic': '{camera}/info', 'quality_low': .6}
"""Another right value where any other is not right beside the defaults."""
TAKEN = {'unconfigured': {Change.LIVE, Change.ACTIVATE, Change.CONFIGURE},
         'inactive': {Change.LIVE, Change.ACTIVATE}, 'active': {Change.LIVE}}


@pytest.fixture
def make(tiny_camera, tiny_lm_folder, ros_harness):
    """Make a managed node in this process, with tiny networks."""
    on = {'encoder.device': 'cpu', 'encoder.dtype': 'float32', 'threads': 1}
    tiny = {'camera_encoder': {**tiny_camera, 'threads': 1}, 'lidar_encoder': on, 'radar_encoder': on,
            'fusion': {'llm': str(tiny_lm_folder), 'device': 'cpu', 'dtype': 'float32', 'threads': 1,
                       'links': [''], 'link_store': ''}}
    nodes = []

    def build(name, **given):
        arguments = []
        for key, value in {**tiny.get(name, {}), **given}.items():
            arguments += ['-p', f"{key}:='{value}'" if isinstance(value, str) else f'{key}:={value}']
        rclpy.init(args=['test', '--ros-args', *arguments], domain_id=int(os.environ['ROS_DOMAIN_ID']),
                   signal_handler_options=SignalHandlerOptions.NO)
        nodes.append({**MANAGED, 'adaptation': adaptation.AdaptationNode}[name]())
        return nodes[-1]

    yield build
    for node in nodes:
        if name_of(node) in MANAGED:
            node.close(30.)
        node.destroy_node()
    rclpy.try_shutdown()


def name_of(node):
    return node.get_name()


def another(entry, value):
    """Return another right value of a parameter."""
    if entry.name in OTHERWISE:
        return OTHERWISE[entry.name]
    if isinstance(entry.default, tuple):
        items = list(value) or ['camera']
        return [another(dataclasses.replace(entry, default=entry.kind(items[0])), items[0]), *items[1:]]
    if entry.choices:
        return next(choice for choice in entry.choices if choice != value)
    if entry.kind is bool:
        return not value
    if entry.kind is str:
        return f'{value}_x'
    step = 1 if entry.kind is int else max(abs(value) * .01, 1e-9)
    return value + step if entry.problem(value + step) is None else value - step


def set_one(node, name, value):
    value = list(value) if isinstance(value, tuple) else value
    return node.set_parameters([RosParameter(name, value=value)])[0]


def test_what_is_followed_at_any_time_is_known():
    for name, module in MODULES.items():
        assert {entry.name for entry in module.PARAMETERS if entry.change is Change.LIVE} == LIVE[name]


@pytest.mark.parametrize('name', MANAGED)
def test_every_parameter_is_taken_or_refused_with_the_reason_in_every_state(make, name):
    node = make(name)
    steps = {'unconfigured': lambda: None, 'inactive': node.trigger_configure,
             'active': node.trigger_activate}
    for state, step in steps.items():
        step()
        assert node._state_machine.current_state[1] == state, node.failure
        for entry in MODULES[name].PARAMETERS:
            value = node.values[entry.name]
            result = set_one(node, entry.name, another(entry, value))
            assert result.successful is (entry.change in TAKEN[state]), (state, entry.name, result.reason)
            if result.successful:
                assert node.values[entry.name] != value
                assert set_one(node, entry.name, value).successful, entry.name
            elif entry.change is Change.START:
                assert 'read-only' in result.reason
            else:
                assert all(word in result.reason for word in (entry.name, state, 'set it then'))
            assert node.values[entry.name] == value
    node.trigger_deactivate()
    node.trigger_cleanup()
    for entry in MODULES[name].PARAMETERS:
        value = node.values[entry.name]
        assert set_one(node, entry.name, value).successful is (entry.change in TAKEN['unconfigured'])


def test_every_parameter_of_the_adaptation_node_is_read_only(make):
    node = make('adaptation')
    for entry in adaptation.PARAMETERS:
        result = set_one(node, entry.name, another(entry, node.values[entry.name]))
        assert not result.successful and 'read-only' in result.reason, entry.name


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


def test_the_base_frame_is_followed(make):
    node = make('camera_encoder')
    node.trigger_configure()
    assert set_one(node, 'base_frame', 'chassis').successful
    assert node.frame(()).frame_id == 'chassis'


def test_the_name_of_the_sensor_is_followed(make):
    from sensor_msgs.msg import PointCloud2
    node, submitted = make('lidar_encoder'), []
    node.submit = submitted.extend
    assert set_one(node, 'sensor', 'roof').successful
    node._receive('lidar_top', PointCloud2())
    assert submitted[0].source == 'roof'


def test_the_named_choices_are_followed(make):
    from mpnp_ros.msg import Question
    node = make('fusion')
    assert node._question(Question(text='what?')).choices
    assert set_one(node, 'choices', '').successful
    assert not node._question(Question(text='what?')).choices


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
    ('camera_encoder', {'image_topic': '{camera}/my image'}, ['image_topic', 'no name of a topic']),
    ('camera_encoder', {'cameras': ['the front']}, ['image_topic of the front', 'no name of a topic']),
    ('camera_encoder', {'health.luminance': [40., 40.]}, ['health.luminance', 'two different numbers']),
    ('camera_encoder', {'health.luminance': [40.]}, ['health.luminance', 'two different numbers']),
    ('lidar_encoder', {'encoder.sectors': 18}, ['encoder.sectors is 18', 'multiple of 4']),
    ('lidar_encoder', {'encoder.fov_up': -40.}, ['encoder.fov_up is -40.0', 'fov_down']),
    ('lidar_encoder', {'topic': 'the points'}, ['topic', 'no name of a topic']),
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
    ('adaptation', {'labelled_topic': 'my labels'}, ['labelled_topic', 'no name of a topic']),
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
