"""What the launch files start, with stand-ins for ROS 2's own launch; test/launch tries the real one."""
from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from mpnp_ros.cli.launching import number, system_actions, system_arguments
from mpnp_ros.cli.node_processes import source_files
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.supervisor import tie

PACKAGES = ('launch', 'launch.actions', 'launch.logging', 'launch_ros', 'launch_ros.actions')


@pytest.fixture
def warned(monkeypatch) -> list[str]:
    """What is warned about; actions note what they are given."""
    warnings: list[str] = []
    for package in PACKAGES:
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    actions = sys.modules['launch.actions']
    actions.DeclareLaunchArgument = lambda name, **given: SimpleNamespace(name=name, **given)
    actions.SetEnvironmentVariable = lambda name, value: SimpleNamespace(variable=name)
    sys.modules['launch.logging'].get_logger = lambda name: SimpleNamespace(warning=warnings.append)
    sys.modules['launch_ros.actions'].Node = SimpleNamespace
    return warnings


def start(overlay: str = '', source: str = '', parameters: dict | None = None, **given: str) -> dict:
    """The nodes by name as a launch with these arguments starts them."""
    defaults = {item.name: item.default_value for item in system_arguments(overlay, source=source)}
    context = SimpleNamespace(launch_configurations={**defaults, **given})
    return {action.executable: action for action in system_actions(context, overlay, source, parameters)
            if hasattr(action, 'executable')}


def test_defaults_start_what_bringup_starts(warned):
    nodes = start()
    assert list(nodes) == ['camera_encoder', 'lidar_encoder', 'fusion', 'adaptation']
    assert nodes['fusion'].parameters[-1] == {'autostart': True, 'use_sim_time': False}
    assert nodes['adaptation'].parameters[-1] == {'use_sim_time': False}


def test_parameter_files_lie_over_each_other(warned, tmp_path):
    own = tmp_path / 'own.yaml'
    own.write_text('/**/fusion:\n  ros__parameters: {max_new_tokens: 3}\n')
    replay = start('config/nuscenes.yaml', 'replay', {'bag': 'b'}, params_file=str(own))
    for node in replay.values():
        files = node.parameters[:-1]
        assert [os.path.basename(path) for path in files] == [
            'mpnp.yaml', 'nuscenes.yaml', source_files('config/nuscenes.yaml')[1].name, 'own.yaml']
    assert replay['replay'].parameters[-1] == {
        'bag': 'b', 'wait_for': ['/cam_front/image_rect/compressed', '/lidar_top', 'question'],
        'require_listeners': True, 'wait_timeout': 300.}
    assert replay['fusion'].parameters[-1]['use_sim_time']


def test_use_sim_time_is_shown_as_it_is_and_cannot_be_refused(warned):
    argument = next(item for item in system_arguments(source='world') if item.name == 'use_sim_time')
    assert (argument.default_value, argument.choices) == ('true', ['true'])
    argument = next(item for item in system_arguments(clock='Gazebo') if item.name == 'use_sim_time')
    assert (argument.default_value, argument.description) == ('true', 'Follow /clock, which Gazebo publishes')
    assert next(item for item in system_arguments() if item.name == 'use_sim_time').default_value == 'false'


def test_keys_without_a_node_are_told(warned, tmp_path):
    own = tmp_path / 'own.yaml'
    own.write_text('camera_encoder:\n  ros__parameters: {threads: 1}\n')
    start(params_file=str(own), namespace='r1')
    assert warned == [f'{own}: /camera_encoder matches no node and is ignored; camera_encoder runs in the '
                      'namespace /r1; write /**/camera_encoder']


def test_remappings_reach_every_node(warned):
    for node in start(remap='/tf_static:=tf_static, /clock:=/r1/clock').values():
        assert node.remappings == [('/tf_static', 'tf_static'), ('/clock', '/r1/clock')]


def test_nodes_end_with_the_launch_and_a_prefix_of_ones_own_stays(warned):
    expected = ' '.join(tie(hold_sigint=True))
    assert {node.prefix for node in start().values()} == {expected}
    given = {'launch-prefix': 'gdb --args', 'launch-prefix-filter': 'fus'}
    nodes = start(**given)
    assert nodes['fusion'].prefix == f'{" ".join(tie())} gdb --args'.strip()
    assert nodes['lidar_encoder'].prefix == expected


@pytest.mark.parametrize(('given', 'message'), [
    ({'params_file': 'nope.yaml'}, 'parameter file nope.yaml does not exist'),
    ({'namespace': 'robot-1'}, 'namespace robot-1: letters, digits and _ only'),
    ({'remap': '/tf_static'}, "remapping '/tf_static' is not FROM:=TO")])
def test_what_is_wrong_is_named(warned, given, message):
    with pytest.raises(ConfigurationError, match=message):
        start(**given)


def test_a_number_that_is_none_is_named():
    with pytest.raises(ConfigurationError, match="rate is 'fast'; give a number"):
        number({'rate': 'fast'}, 'rate')
