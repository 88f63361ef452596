"""The demo's nodes as processes."""
from __future__ import annotations

import sys
import time

import pytest
import yaml

pytest.importorskip('rclpy', reason='rclpy is not installed: the tables of the nodes cannot be read')

from mpnp_ros.cli.docs import parameters_of
from mpnp_ros.cli.node_processes import source_files
from mpnp_ros.errors import NotAnsweringError
from mpnp_ros.methods.link_files import COPIED, AdaptationRecord, Provenance
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.supervisor import ProcessSpec
from mpnp_world.demo import processes as demo_processes
from mpnp_world.demo.processes import PARAMETERS, Processes


def test_the_demos_parameters_exist_and_are_in_range():
    for node, values in PARAMETERS.items():
        assert parameters_of(node).from_mapping(values)


def test_parameters_are_the_worlds_the_demos_and_the_users(tmp_path):
    user = tmp_path / 'user.yaml'
    user.write_text('{}')
    processes = Processes(tmp_path / 'nodes.log', [user], ['camera'], ['camera', 'objects'], 'distilled', 7)
    files = [path.name for path in processes._placement.params_files]
    assert files == [
        'world.yaml', source_files('config/world.yaml')[1].name, 'nodes.yaml', 'user.yaml']
    written = {node.removeprefix('/**/'): values['ros__parameters'] for node, values in
               yaml.safe_load((tmp_path / 'nodes.yaml').read_text()).items()}
    assert written['world']['hold'] is True and written['world']['seed'] == 7
    assert written['fusion']['links'] == ['camera'] and written['adaptation']['supervision'] == 'distilled'
    assert written['adaptation']['initial_links'] == ['camera', 'objects']


def test_objects_are_detected_in_real_images_of_one_moment(tmp_path):
    Processes(tmp_path / 'nodes.log', slop=.1)
    written = yaml.safe_load((tmp_path / 'nodes.yaml').read_text())
    camera = written['/**/camera_encoder']['ros__parameters']
    assert parameters_of('camera_encoder').from_mapping(camera).encoder.tokens == 'detections'
    assert camera['slop'] == .1 and camera['timeout'] > .1


def test_links_are_trained_if_they_have_learned_from_questions(tmp_path, toy_method):
    processes, store = Processes(tmp_path / 'nodes.log'), LinkStore(tmp_path / 'state' / 'links')
    link = toy_method('lidar').links()['lidar']
    for record in (AdaptationRecord(COPIED), AdaptationRecord('labelled', accuracy_after=.5),
                   AdaptationRecord('labelled', questions=9)):
        store.save(link, Provenance(adaptation=record))
    assert [processes.is_trained('lidar', f'00000{number}') for number in range(5)] == [
        False, False, False, True, False]


def test_what_was_learned_in_the_drive_before_is_forgotten(tmp_path):
    (tmp_path / 'state' / 'links').mkdir(parents=True)
    processes = Processes(tmp_path / 'nodes.log')
    assert not processes.state.exists()
    assert processes._node('fusion').environment['MPNP_STATE'] == str(processes.state)


def test_encoders_run_while_they_are_plugged_in(tmp_path, monkeypatch):
    def sleeping(node: str, *rest: object) -> ProcessSpec:
        return ProcessSpec(node, [sys.executable, '-c', 'import time; time.sleep(60)'])

    def running() -> dict[str, int]:
        return {child.spec.name: child.pid for group in processes._running for child in group.children}

    monkeypatch.setattr(demo_processes, 'node_process', sleeping)
    processes = Processes(tmp_path / 'nodes.log')
    with processes.robot(adapts=False):
        processes.plug_in(['camera'])
        alone = running()
        processes.plug_in(['camera', 'lidar'])
        both = running()
        processes.plug_in(['lidar'])
        assert set(alone) == {'fusion', 'camera_encoder'} and both.items() > alone.items()
        assert running().keys() == {'fusion', 'lidar_encoder'}
        processes.check()
    assert not running()


def test_a_node_that_has_ended_is_named_with_its_last_words(tmp_path):
    processes = Processes(tmp_path / 'nodes.log')
    code = 'print("[ERROR] [1.0] [fusion]: the links are gone"); raise SystemExit(2)'
    with processes.run([ProcessSpec('fusion', [sys.executable, '-c', code])]), \
            pytest.raises(NotAnsweringError, match='fusion ended with exit code 2 .the links are gone.; see'):
        for _ in range(1000):
            processes.check()
            time.sleep(.02)
    processes.check()
    assert '[fusion] [ERROR]' in processes.log.read_text()
