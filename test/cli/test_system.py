"""A real system under `mpnp bringup`: a fusion node with a tiny model; asked, watched, killed, ended."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.system_starts import start_and_end
from mpnp_ros.cli import system as system_module
from mpnp_ros.cli.node_processes import Placement, ProcessSpec
from mpnp_ros.cli.system import NodeStates, System
from mpnp_ros.supervisor import ENDED, FAILED

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
pytestmark = pytest.mark.ros
MPNP = [sys.executable, '-m', 'mpnp_ros.cli.main']
PATIENCE = 60.


def environment() -> dict[str, str]:
    """Of the commands, with a domain of their own."""
    return {**os.environ, 'ROS_DOMAIN_ID': os.environ['MPNP_TEST_OTHER_DOMAIN'], 'OMP_NUM_THREADS': '1',
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'ROS_PYTHON_CHECK_FIELDS': '1'}


class Running:
    """A command that goes on, with its output so far."""

    def __init__(self, *arguments: str, ignoring: int = 0) -> None:
        before = signal.signal(ignoring, signal.SIG_IGN) if ignoring else None
        self.process = subprocess.Popen([*MPNP, *arguments], env=environment(), text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if ignoring:
            signal.signal(ignoring, before)
        self.lines: list[str] = []
        threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, '')),
                         daemon=True).start()

    def wait_for(self, found: Callable[[list[str]], object]) -> object:
        """Wait until something is found in the output."""
        end = time.monotonic() + PATIENCE
        while not (value := found(list(self.lines))):
            assert time.monotonic() < end, ''.join(self.lines)
            assert self.process.poll() is None or found(list(self.lines)), ''.join(self.lines)
            time.sleep(.02)
        return value

    def end(self, number: int) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def mpnp(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*MPNP, *arguments], env=environment(), text=True, capture_output=True,
                          timeout=PATIENCE)


def ends(output: str) -> list[str]:
    """Why the system ended by itself."""
    return re.findall(r'\[mpnp\] +(.*); shutting down', output)


def pids(lines: list[str]) -> list[int]:
    """Process ids of the fusion node, in order, each once it was active."""
    return [int(match[1]) for line in lines if (match := re.search(r'fusion +active +pid (\d+)', line))]


@pytest.fixture(scope='module')
def robot(tmp_path_factory: pytest.TempPathFactory, tiny_lm_folder: Path) -> Iterator[Running]:
    """`mpnp bringup` of a fusion node in the namespace /robot1."""
    params = tmp_path_factory.mktemp('robot') / 'params.yaml'
    params.write_text(f'/**/fusion:\n  ros__parameters: {{llm: {tiny_lm_folder}, dtype: float32, '
                      'answer_without_sensors: true}\n')
    running = Running('bringup', '--modalities', '--no-adaptation', '--namespace', 'robot1',
                      '--params-file', str(params))
    try:
        running.wait_for(lambda lines: any('nodes are ready' in line for line in lines))
        yield running
    finally:
        running.process.terminate()
        running.process.wait(PATIENCE)


def test_log_lines_carry_the_name_of_their_node(robot):
    assert any(re.match(r'\[fusion\] .*robot1\.fusion', line) for line in robot.lines)


def test_choices_as_json(robot):
    done = mpnp('ask', 'is the car moving?', '--choices', 'yes', 'no', '--json', '--namespace', 'robot1')
    assert done.returncode != 0, 'it rests on no sensor'
    answer = json.loads(done.stdout)
    assert (answer['status'], answer['confidence']) == (3, 0.)
    assert answer['error'].startswith('no sensor can be used: no links are loaded')
    assert answer['text'] in ('yes', 'no')
    assert sum(answer['probabilities'].values()) == pytest.approx(1., abs=1e-5)
    assert answer['used_modalities'] == {}


def test_a_generated_answer_that_rests_on_nothing_says_why(robot):
    done = mpnp('ask', 'what is ahead?', '--max-new-tokens', '3', '--namespace', '/robot1')
    assert done.returncode != 0
    assert 'no sensor can be used: no links are loaded' in done.stderr


def test_a_rejected_question_is_exit_code_1_with_the_reason(robot):
    done = mpnp('ask', 'x' * 3000, '--namespace', 'robot1')
    assert done.returncode == 1
    assert '2000' in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_standing_question_is_withdrawn_by_ctrl_c(robot):
    asking = Running('ask', 'moving?', '--standing', '--choices', 'yes', 'no', '--json',
                     '--namespace', 'robot1')
    asking.wait_for(lambda lines: any(line.startswith('{') for line in lines))
    assert asking.end(signal.SIGINT) == 130
    assert not any('empty' in line for line in robot.lines), 'the withdrawal was taken for a question'


def test_status(robot):
    done = mpnp('status', '--json', '--namespace', 'robot1')
    assert done.returncode == 1, done.stderr
    states = json.loads(done.stdout)
    assert set(states) == {'audio', 'camera', 'detections', 'imu', 'lidar', 'radar', 'nodes'}
    assert states['nodes']['fusion']['text']
    assert states['camera']['state'] == 'absent'
    assert states['camera']['age'] is None
    table = mpnp('status', '--namespace', 'robot1').stdout
    assert 'camera' in table
    assert 'absent' in table
    assert 'no sensor can be used' in table


def test_another_namespace_has_nobody(robot):
    done = mpnp('status', '--timeout', '1')
    assert done.returncode == 2
    assert done.stderr.startswith('mpnp status: no node of mpnp_ros runs in namespace / of ROS_DOMAIN_ID')
    assert 'start the system with `mpnp bringup`' in done.stderr


def test_a_killed_node_comes_back(robot):
    first = robot.wait_for(pids)[-1]
    os.kill(first, signal.SIGKILL)
    second = robot.wait_for(lambda lines: len(pids(lines)) > 1 and pids(lines))[-1]
    assert second != first
    assert any('restarting' in line for line in robot.lines)
    assert mpnp('ask', 'moving?', '--choices', 'yes', 'no', '--namespace', 'robot1').returncode == 3


def test_ctrl_c_ends_every_process(robot):  # the last one: nothing is left to test after it
    pid = pids(robot.lines)[-1]
    assert robot.end(signal.SIGINT) == 130
    assert not Path(f'/proc/{pid}').exists()
    assert not any('Traceback' in line for line in robot.lines)


def test_a_wrong_parameter_is_told_and_not_tried_again(tmp_path):
    params = tmp_path / 'params.yaml'
    params.write_text('/**/fusion:\n  ros__parameters: {queue_size: 0}\n')
    done = mpnp('bringup', '--modalities', '--no-adaptation', '--params-file', str(params))
    assert done.returncode == 1
    assert 'queue_size' in done.stdout
    assert done.stdout.count(' starting ') == 1
    assert ends(done.stdout) == ['fusion has failed with exit code 2: questions cannot be answered']


def test_keys_that_match_no_node_and_what_is_silent_are_said(tiny_system, tmp_path):
    own = tmp_path / 'own.yaml'
    own.write_text('camera_encoder:\n  ros__parameters: {slop: 0.1}\n')
    running = Running('bringup', '--modalities', 'camera', '--no-adaptation', '--namespace', 'robot2',
                      '--params-file', str(tiny_system), '--params-file', str(own))
    try:
        running.wait_for(lambda lines: any('no topic of cameras found below /robot2' in line
                                           for line in lines))
        running.wait_for(lambda lines: any('nodes are ready' in line for line in lines))
        assert any('/camera_encoder matches no node and is ignored; camera_encoder runs in the namespace '
                   '/robot2; write /**/camera_encoder' in line for line in running.lines)
    finally:
        running.end(signal.SIGTERM)


def test_without_any_encoder_the_system_ends(tmp_path):
    params = tmp_path / 'params.yaml'
    params.write_text('/**/lidar_encoder:\n  ros__parameters: {depth: 0}\n')
    done = mpnp('bringup', '--modalities', 'lidar', '--no-adaptation', '--no-autostart', '--params-file',
                str(params))
    assert done.returncode == 1
    assert ends(done.stdout) == ['no encoder is left (lidar_encoder): no sensor data']


def test_without_its_bag_the_system_ends(tmp_path):
    done = mpnp('bringup', '--modalities', '--no-adaptation', '--no-autostart', '--bag', str(tmp_path / 'no'))
    assert done.returncode == 1
    assert re.fullmatch(r'replay has failed with exit code \d: no sensor data',
                        ends(done.stdout)[0])


def test_a_parameter_file_that_does_not_exist():
    done = mpnp('bringup', '--params-file', 'nowhere.yaml')
    assert (done.returncode, done.stderr) == (2, 'mpnp bringup: parameter file nowhere.yaml does not exist\n')


def test_sigterm_is_a_good_end():
    running = Running('bringup', '--modalities', '--no-autostart')
    running.wait_for(lambda lines: any('nodes are ready' in line for line in lines))
    assert any(re.search(r'adaptation +running +pid', line) for line in running.lines)
    assert running.end(signal.SIGTERM) == 0


def test_sigint_that_is_inherited_as_ignored_ends_the_system():
    """As of `mpnp bringup &` in a script."""
    running = Running('bringup', '--modalities', '--no-adaptation', '--no-autostart', ignoring=signal.SIGINT)
    found = running.wait_for(lambda lines: re.search(r'fusion +\w+ +pid (\d+)', ''.join(lines)))
    assert running.end(signal.SIGINT) == 130
    assert not Path('/proc', found[1]).exists()
    assert not any('Traceback' in line for line in running.lines)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize('after', [.8, 3.])
def test_a_signal_at_any_moment_leaves_nothing_behind(monkeypatch, number, after):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    command = [*MPNP, 'bringup', '--modalities', 'lidar', '--no-autostart']
    assert start_and_end(command, number, after, bound=PATIENCE).amiss == ()


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux tells a child of its parent')
def test_a_bringup_that_is_killed_leaves_no_node_behind():
    running = Running('bringup', '--modalities', '--no-adaptation', '--no-autostart')
    found = running.wait_for(lambda lines: re.search(r'fusion +\w+ +pid (\d+)', ''.join(lines)))
    node = Path('/proc') / found[1]
    assert node.exists()
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    end = time.monotonic() + PATIENCE
    while node.exists():
        assert time.monotonic() < end, ''.join(running.lines)
        time.sleep(.05)


@pytest.mark.parametrize(('states', 'code', 'why'), [
    ({}, 0, ''),
    ({'adaptation': FAILED}, 1, ''),
    ({'camera_encoder': FAILED}, 1, 'replay waits for camera_encoder, which has failed with exit code 1'),
    ({'camera_encoder': FAILED, 'lidar_encoder': ENDED}, 0, 'no encoder is left'),
    ({'fusion': ENDED}, 0, 'fusion has ended: questions cannot be answered'),
    ({'fusion': FAILED}, -9, 'fusion has failed with exit code -9'),
    ({'replay': FAILED}, 1, 'replay has failed with exit code 1: no sensor data'),
    ({'replay': ENDED}, 0, '')])
def test_what_nothing_can_go_on_without(states, code, why):
    nodes = ('camera_encoder', 'lidar_encoder', 'fusion', 'adaptation', 'replay')
    system = System([ProcessSpec(name, ['true']) for name in nodes], Placement())
    for child in system._supervisor.children:
        child.state, child.returncode = states.get(child.spec.name, 'running'), code
    assert system._why_it_ends().startswith(why) and bool(system._why_it_ends()) == bool(why)


class Reports:
    """What nodes report: names of those that say that they are active."""

    def __init__(self) -> None:
        self.active: set[str] = set()

    def is_active(self, name: str) -> bool:
        """As of NodeReports."""
        return name in self.active


class Graph:
    """A node that sees the fusion node, which answers every query at once with its state."""

    def __init__(self) -> None:
        self.state, self.queries = 'inactive', 0

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return [('fusion', '/')]

    def get_namespace(self) -> str:
        return '/'

    def get_service_names_and_types_by_node(self, *_: str) -> list[tuple[str, list[str]]]:
        return [('/fusion/get_state', [])]

    def create_client(self, *_: object) -> Graph:
        return self

    def service_is_ready(self) -> bool:
        return True

    def call_async(self, _: object) -> Future[object]:
        self.queries += 1
        answered: Future[object] = Future()
        answered.set_result(SimpleNamespace(current_state=SimpleNamespace(label=self.state)))
        return answered


def test_an_active_node_is_queried_again_when_it_reports_another_state(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_module, 'PERIOD', 0.)
    graph, reports = Graph(), Reports()
    states = NodeStates(graph, ['fusion'], reports)
    states.poll()
    assert states['fusion'] == 'inactive'
    graph.state = 'active'
    states.poll()
    reports.active = {'fusion'}
    before = graph.queries
    states.poll()
    assert (states['fusion'], graph.queries) == ('active', before)
    reports.active, graph.state = set(), 'inactive'
    states.poll()
    assert states['fusion'] == 'inactive'
