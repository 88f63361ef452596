"""`mpnp adapt`, against an adaptation node that does as it is told."""
from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mpnp_ros.cli.adapt import LineView, as_dict, show
from mpnp_ros.cli.main import main

MPNP = [sys.executable, '-m', 'mpnp_ros.cli.main']
PATIENCE = 60.


def result(**changes: object) -> SimpleNamespace:
    """What came of an adaptation, as the action has it."""
    link = SimpleNamespace(modality='camera', version='000002', path='/links/camera/000002', sha256='ab')
    return SimpleNamespace(**{
        'success': True, 'message': '', 'links': [link], 'accuracy': .52, 'start_accuracy': .31,
        'blind_accuracy': math.nan, 'duration': 95.4, 'macs': 4.2e12, 'peak_memory': 600_000_000, **changes})


def test_result_in_words(capsys):
    show(result(), as_json=False)
    text = capsys.readouterr().out
    for part in ('31.0 % -> 52.0 %', '95 s, 4.20 TMACs, peak 600.0 MB', 'camera/000002'):
        assert part in text


def test_result_as_json_has_no_nan(capsys):
    show(result(), as_json=True)
    data = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert data == as_dict(result())
    assert (data['blind_accuracy'], data['links'][0]['version']) == (None, '000002')


def test_what_was_not_trained_is_said_on_stderr(capsys):
    show(result(success=False, message='no labelled questions', links=[], duration=0.), as_json=False)
    assert capsys.readouterr() == ('', 'mpnp adapt: no labelled questions\n')


def test_in_a_log_every_stage_has_its_line(capsys):
    view = LineView()
    for stage, step in (('reading', 0), ('reading', 1), ('training', 2), ('training', 3)):
        view.update(SimpleNamespace(stage=stage, step=step, steps=9, loss=.5, remaining=7.,
                                    accuracy=math.nan))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [['reading', '0/9'], ['training', '2/9']]
    assert lines[1].endswith('loss 0.500  accuracy -  7 s left')


@pytest.mark.parametrize('option', [['--accuracy', '1.5'], ['--seconds', '-1'], ['--macs', 'nan']])
def test_a_budget_out_of_range_is_refused(option, capsys):
    assert main(['adapt', *option]) == 2
    assert f'mpnp adapt: {option[0]} is' in capsys.readouterr().err


class AdaptationNode:
    """Serves `adapt`: counts steps until it is told to finish or is cancelled; keeps the goals."""

    def __init__(self, node: Any) -> None:
        from mpnp_ros.action import Adapt
        from rclpy.action import ActionServer, CancelResponse
        from rclpy.callback_groups import ReentrantCallbackGroup
        self.goals: list[Any] = []
        self.finish, self.began = threading.Event(), threading.Event()
        self.server = ActionServer(node, Adapt, 'adapt', self._execute,
                                   callback_group=ReentrantCallbackGroup(),
                                   cancel_callback=lambda goal: CancelResponse.ACCEPT)

    def _execute(self, handle: Any) -> Any:
        from mpnp_ros.action import Adapt
        from mpnp_ros.msg import LinkInfo
        self.goals.append(handle.request)
        self.began.set()
        step = 0
        while not self.finish.is_set() and not handle.is_cancel_requested:
            step += 1
            handle.publish_feedback(Adapt.Feedback(stage='training', step=step, accuracy=math.nan))
            time.sleep(.05)
        if handle.is_cancel_requested:
            handle.canceled()
            return Adapt.Result(message=f'cancelled after {step} steps', duration=.1)
        handle.succeed()
        return Adapt.Result(success=True, accuracy=.5, start_accuracy=.25, duration=3., macs=1e12,
                            links=[LinkInfo(modality='lidar', version='000004', path='/links')])


@pytest.fixture
def adaptation(ros) -> Iterator[AdaptationNode]:
    """An adaptation node in the namespace /test."""
    node = AdaptationNode(ros.node)
    yield node
    node.finish.set()
    node.server.destroy()


def start(ros, *arguments: str) -> subprocess.Popen[str]:
    """Start a command in the domain of the test."""
    return subprocess.Popen([*MPNP, *arguments, '--namespace', '/test'], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env={**os.environ, **ros.environment})


@pytest.mark.ros
def test_the_goal_carries_the_budget_and_the_result_is_printed(ros, adaptation):
    done = start(ros, 'adapt', 'lidar', 'camera', '--seconds', '90', '--macs', '5e13', '--memory', '800',
                 '--accuracy', '.5', '--supervision', 'distilled', '--blocks', '6', '--timeout', '30')
    assert done.stdout.readline().startswith('training')
    adaptation.finish.set()
    output, errors = done.communicate(timeout=PATIENCE)
    assert done.returncode == 0, errors
    assert '25.0 % -> 50.0 %' in output and 'lidar/000004' in output
    goal = adaptation.goals[0]
    assert (goal.modalities, goal.supervision, goal.linked_blocks) == (['lidar', 'camera'], 'distilled', 6)
    assert (goal.budget_duration, goal.budget_macs, goal.budget_memory) == (90., 5e13, 800_000_000)
    assert goal.target_accuracy == .5


@pytest.mark.ros
def test_ctrl_c_cancels_waits_for_the_result_and_is_130(ros, adaptation):
    running = start(ros, 'adapt', '--json', '--timeout', '30')
    assert adaptation.began.wait(PATIENCE)
    running.send_signal(signal.SIGINT)
    output, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, errors
    assert json.loads(output)['message'].startswith('cancelled after')


@pytest.mark.ros
def test_nobody_there_is_said(ros):
    running = start(ros, 'adapt', '--timeout', '.5')
    errors = running.communicate(timeout=PATIENCE)[1]
    assert (running.returncode, errors[:42]) == (2, 'mpnp adapt: no node serves /test/adapt; st')
