"""Command lines of the nodes, and parameter files: keys that match no node, and files that are none."""
from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mpnp_ros.cli.node_processes import (
    Placement,
    all_nodes,
    check_parameter_file,
    checked_namespace,
    checked_remap,
    listeners,
    matches,
    node_process,
    source_files,
    system_processes,
    unmatched,
)
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.nodes import executables
from mpnp_ros.transport import PROFILE_VARIABLES

ROOT = Path(__file__).parents[2]
STARTED = ('camera_encoder', 'fusion')


def parameters_of(command: list[str]) -> dict[str, object]:
    """Values after -p, as ROS reads them."""
    given = (value for flag, value in zip(command, command[1:], strict=False) if flag == '-p')
    return {key: yaml.safe_load(value) for key, _, value in (item.partition(':=') for item in given)}


def test_one_process_for_each_encoder_fusion_and_adaptation():
    assert [spec.name for spec in system_processes(['radar', 'lidar', 'camera'], Placement())] == [
        'camera_encoder', 'lidar_encoder', 'radar_encoder', 'fusion', 'adaptation']
    assert [spec.name for spec in system_processes([], Placement(), adaptation=False)] == ['fusion']


def test_the_placement_reaches_every_node():
    for spec in system_processes(['camera'], Placement('robot1', use_sim_time=True, autostart=False,
                                                       log_level='warn')):
        module, *sensor = {'camera_encoder': ('mpnp_ros.nodes.encoder', 'camera')}.get(
            spec.name, (f'mpnp_ros.nodes.{spec.name}',))
        assert spec.command[1:4] == ['-m', module, *(sensor or ['--ros-args'])]
        assert '__ns:=/robot1' in spec.command
        managed = {} if spec.name == 'adaptation' else {'autostart': False}
        assert parameters_of(spec.command) == {'use_sim_time': True, **managed}
        assert spec.command[-2:] == ['--log-level', 'warn']
        assert spec.command.count('--params-file') == 1


def test_a_replay_makes_the_others_follow_its_clock_and_waits_for_them():
    *others, replay = system_processes(['camera'], Placement(), {'bag': Path('a bag'), 'loop': True})
    assert all(parameters_of(spec.command)['use_sim_time'] for spec in others)
    assert parameters_of(replay.command) == {
        'bag': 'a bag', 'loop': True, 'wait_for': ['/cam_front/image_rect/compressed', 'question'],
        'require_listeners': True}
    assert str(ROOT / 'config/nuscenes.yaml') in replay.command


def test_the_world_takes_the_place_of_sensors_as_a_replay_does():
    *others, world = system_processes(['lidar'], Placement(), world={'seed': 7, 'rate': .5})
    assert all(parameters_of(spec.command)['use_sim_time'] for spec in others)
    assert parameters_of(world.command) == {'seed': 7, 'rate': .5, 'wait_for': ['/lidar_top', 'question'],
                                            'require_listeners': True}
    assert world.name == 'world' and str(ROOT / 'config/world.yaml') in world.command


def test_own_parameter_files_come_last(tmp_path):
    own = tmp_path / 'own.yaml'
    own.touch()
    command = system_processes([], Placement(params_files=[own]), {'bag': 'b'})[0].command
    files = [value for flag, value in zip(command, command[1:], strict=False) if flag == '--params-file']
    assert [Path(file).name for file in files] == [
        'mpnp.yaml', 'nuscenes.yaml', source_files('config/nuscenes.yaml')[1].name, 'own.yaml']


def test_large_images_arrive_and_a_profile_of_ones_own_stays(monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv('MALLOC_TRIM_THRESHOLD_', raising=False)
    assert set(PROFILE_VARIABLES) <= set(node_process('fusion', Placement()).environment)
    monkeypatch.setenv(PROFILE_VARIABLES[0], '/my/profile.xml')
    environment = node_process('fusion', Placement()).environment
    assert not set(PROFILE_VARIABLES) & set(environment)
    assert 'MALLOC_TRIM_THRESHOLD_' in environment


@pytest.mark.parametrize(('call', 'message'), [
    (lambda: node_process('radar', Placement()), "no node 'radar'.*fusion"),
    (lambda: system_processes(['sonar'], Placement()),
     'no encoder node for sonar.*audio, camera, detections, imu, lidar'),
    (lambda: node_process('fusion', Placement(params_files=[Path('gone.yaml')])), 'gone.yaml does not exist'),
])
def test_what_does_not_exist_is_named(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()


def test_the_replayed_topics_are_what_the_encoders_listen_to():
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    overlay = yaml.safe_load(source_files('config/nuscenes.yaml')[1].read_text())
    camera = overlay['/**/camera_encoder']['ros__parameters']
    front = camera['image_topic'].replace('{camera}', camera['cameras'][0])
    sweeps = overlay['/**/lidar_encoder']['ros__parameters']['topic']
    scans = overlay['/**/radar_encoder']['ros__parameters']['topic']
    ahead = scans.replace('{radar}', overlay['/**/radar_encoder']['ros__parameters']['radars'][0])
    assert listeners(['camera', 'lidar', 'radar']) == [front, sweeps, ahead, 'question']


def test_every_executable_of_a_node_is_known_here():
    lines = (ROOT / 'resource/executables.txt').read_text().splitlines()
    nodes = {line.split(' = ')[0] for line in lines if not line.startswith(('#', 'mpnp '))}
    encoders = {f'{file.parent.name}_encoder' for file in (ROOT / 'mpnp_ros/modalities').glob('*/node.py')}
    assert nodes | encoders == set(all_nodes())
    assert all(callable(getattr(executables, node)) for node in encoders)
    assert not hasattr(executables, 'encoders')


@pytest.mark.parametrize(('given', 'right'), [('', ''), ('robot1', '/robot1'), ('/a/b_2/', '/a/b_2')])
def test_namespaces(given, right):
    assert checked_namespace(given) == right


@pytest.mark.parametrize('given', ['robot-1', 'a b', '1a', 'a//b', '/', '~a', 'é'])
def test_a_namespace_that_ros_refuses_is_named(given):
    with pytest.raises(ConfigurationError, match=f'namespace {given}: letters, digits and _ only'):
        checked_namespace(given)


@pytest.mark.parametrize('rule', ['/tf_static:=/r1/tf_static', '/tf:=tf', '~/x:=y', 'fusion:/clock:=/a/b'])
def test_remappings_reach_every_node(rule):
    for spec in system_processes(['camera'], Placement(remaps=[rule]), {'bag': 'b'}):
        assert spec.command[spec.command.index(rule) - 1] == '-r'


@pytest.mark.parametrize('rule', ['/tf_static', ':=x', 'a:=', 'a:=b c', '__ns:=/r1', 'a:=b:=c', 'a-:=b'])
def test_a_remapping_that_ros_refuses_is_named(rule):
    with pytest.raises(ConfigurationError, match='remapping'):
        checked_remap(rule)


def parameter_file(folder: Path, *keys: str) -> Path:
    """A parameter file with these names of nodes."""
    path = folder / 'own.yaml'
    path.write_text(''.join(f'"{key}":\n  ros__parameters: {{threads: 1}}\n' for key in keys))
    return path


@pytest.mark.parametrize(('key', 'name', 'match'), [
    ('/fusion', '/fusion', True), ('fusion', '/fusion', True), ('fusion', '/r1/fusion', False),
    ('/**/fusion', '/fusion', True), ('/**/fusion', '/r1/a/fusion', True), ('/**', '/r1/fusion', True),
    ('/*/fusion', '/r1/fusion', True), ('/*/fusion', '/fusion', False), ('/*/fusion', '/a/b/fusion', False),
    ('*', '/fusion', True), ('/r1/**', '/r1/fusion', True), ('/r1/**', '/r2/fusion', False),
    ('/**/fusion', '/fusion2', False)])
def test_keys_match_as_in_ros(key, name, match):
    assert matches(key, name) is match


@pytest.mark.parametrize(('key', 'namespace', 'hint'), [
    ('camera_encoder', '/r1', 'camera_encoder runs in the namespace /r1; write /**/camera_encoder'),
    ('/r2/fusion', '/r1', 'fusion runs in the namespace /r1; write /**/fusion'),
    ('/**/camera', '', 'did you mean /**/camera_encoder?'),
    ('/**/fussion', '', 'did you mean /**/fusion?'),
    ('/**/lidar_encoder', '', 'lidar_encoder is not started'),
    ('/usb_cam', '', 'there are /camera_encoder, /fusion')])
def test_a_key_that_matches_no_node_is_told_with_the_near_one(tmp_path, key, namespace, hint):
    path = parameter_file(tmp_path, '/**/fusion', key)
    key = '/' + key.lstrip('/')
    assert unmatched(path, STARTED, namespace, all_nodes()) == [
        f'{path}: {key} matches no node and is ignored; {hint}']


def test_keys_may_be_nested(tmp_path):
    path = tmp_path / 'own.yaml'
    path.write_text('r1:\n  fusion:\n    ros__parameters: {threads: 1}\n  camera:\n    ros__parameters: {}\n')
    assert check_parameter_file(path) == ['/r1/fusion', '/r1/camera']
    assert len(unmatched(path, STARTED, '/r1', all_nodes())) == 1


def test_nothing_is_said_of_what_matches(tmp_path):
    assert not unmatched(parameter_file(tmp_path, '/**', '/**/fusion', '/*/camera_encoder'), STARTED, '/r1',
                         all_nodes())
    (tmp_path / 'own.yaml').write_text('# nothing\n')
    assert not unmatched(tmp_path / 'own.yaml', STARTED, '', all_nodes())


@pytest.mark.parametrize(('text', 'message'), [
    (None, 'own.yaml does not exist'), ('a: [1\nb: 2\n', 'own.yaml: line 2 is not YAML'),
    ('[1, 2]', 'own.yaml: it must hold options as name: value'),
    ('fusion: {queue_size: 3}', 'own.yaml: /fusion/queue_size is not a table of nodes'),
    ('fusion:', 'own.yaml: /fusion is not a table of nodes'),
    ('fusion: {ros__parameters: }', 'ros__parameters is not a table of parameters'),
    ('ros__parameters: {queue_size: 3}', 'below the name of a node')])
def test_a_file_that_is_none_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / 'own.yaml').write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        check_parameter_file(tmp_path / 'own.yaml')
