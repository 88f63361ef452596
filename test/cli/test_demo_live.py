"""The asking end of the demo: against a pretended fusion node, and against a real small system."""
from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine', exc_type=ImportError)

from mpnp_ros.msg import Answer, LabelledQuestion, LabelledQuestions, ModalityState, ModalityStates, Question
from mpnp_ros.srv import SetModality

from mpnp_ros.cli import demo_live
from mpnp_ros.cli.demo_live import Robot, running_robot
from mpnp_ros.cli.session import NotAnsweringError

LOG = Path('bringup.log')
BOTH = ('camera', 'lidar')


class FakeFusion:
    """A node whose topics and service end in a pretended fusion node; answers 'yes' while it sees."""

    def __init__(self) -> None:
        self.plugged = {'camera': True, 'lidar': True}
        self.asked: list[Question] = []
        self.refusal, self.silent = '', False
        self.listeners: dict[str, Callable[[object], None]] = {}

    def create_subscription(self, kind: type, topic: str, callback: Callable, qos: object) -> None:
        self.listeners[topic] = callback

    def create_publisher(self, kind: type, topic: str, depth: int) -> SimpleNamespace:
        return SimpleNamespace(publish=self.ask)

    def create_client(self, kind: type, name: str) -> SimpleNamespace:
        return SimpleNamespace(service_is_ready=lambda: True, call_async=self.command)

    def command(self, request: SetModality.Request) -> SimpleNamespace:
        self.plugged[request.modality] = request.command == SetModality.Request.PLUG
        response = SetModality.Response(success=not self.refusal, message=self.refusal)
        return SimpleNamespace(done=lambda: True, result=lambda: response)

    def ask(self, question: Question) -> None:
        self.asked.append(question)
        used = sorted(name for name, plugged in self.plugged.items() if plugged)
        for name in ('of-somebody-else', *([] if self.silent or not question.text else [question.id])):
            self.listeners['answer'](Answer(id=name, question=question.text, text='yes' if used else 'no',
                                            used_modalities=used, latency=.5))

    def label(self, *answers: str) -> None:
        self.listeners['/labelled_questions'](LabelledQuestions(questions=[
            LabelledQuestion(question=Question(id=str(place), text=f'question {place}?'), answer=answer)
            for place, answer in enumerate(answers)]))

    def tell_states(self, states: Mapping[str, int]) -> None:
        self.listeners['modalities'](ModalityStates(modalities=[
            ModalityState(modality=name, state=state, plugged=True) for name, state in states.items()]))


@pytest.fixture
def fusion() -> FakeFusion:
    return FakeFusion()


@pytest.fixture
def robot(fusion: FakeFusion) -> Robot:
    robot = Robot(fusion)
    fusion.label('yes', 'no', 'yes')
    return robot


def process(code: int | None) -> SimpleNamespace:
    """A process that runs (None) or has ended."""
    return SimpleNamespace(poll=lambda: code, returncode=code)


def test_every_part_of_the_modalities_is_tried_and_both_in_the_end(robot, fusion):
    interviews = robot.interviews()
    assert [one.plugged for one in interviews] == [BOTH, ('camera',), ('lidar',), (), BOTH]
    assert [one.used for one in interviews] == [{one.plugged} for one in interviews]
    assert [one.right for one in interviews] == [2, 2, 2, 1, 2]
    assert [one.truth for one in interviews[0].exchanges] == ['yes', 'no', 'yes']
    assert fusion.plugged == {'camera': True, 'lidar': True}


def test_the_newest_questions_are_asked(robot, fusion):
    fusion.label('no')
    assert len(robot.interviews()[0].exchanges) == 1


def test_silence_is_named_with_the_question(robot, fusion, monkeypatch):
    monkeypatch.setattr(demo_live, 'ANSWER_TIMEOUT', .05)
    fusion.silent = True
    with pytest.raises(NotAnsweringError, match="no answer to 'question 0\\?'"):
        robot.interviews()


def test_a_refused_command_is_named_with_its_reason(robot, fusion):
    fusion.refusal = 'no link'
    with pytest.raises(NotAnsweringError, match='camera: no link'):
        robot.interviews()


def test_a_standing_question_is_counted_and_withdrawn(robot, fusion, monkeypatch):
    monkeypatch.setattr(demo_live, 'STANDING_SECONDS', .05)
    standing = robot.watch('what is ahead?')
    assert (standing.question, standing.latencies, standing.median) == ('what is ahead?', [.5], .5)
    first, last = fusion.asked
    assert first.standing and last.standing and first.id == last.id and not last.text


def test_waits_for_questions_and_for_all_modalities(fusion):
    robot = Robot(fusion)
    fusion.tell_states(dict.fromkeys(BOTH, ModalityState.HEALTHY))
    with pytest.raises(NotAnsweringError, match='no healthy camera and lidar within 0.05 s; see bringup.log'):
        robot.wait_until_healthy(BOTH, .05, process(None), LOG)
    fusion.label('yes')
    robot.wait_until_healthy(BOTH, .05, process(None), LOG)
    fusion.tell_states({'camera': ModalityState.DEGRADED, 'lidar': ModalityState.STALE})
    robot.wait_until_healthy(('camera',), .05, process(None), LOG)
    with pytest.raises(NotAnsweringError):
        robot.wait_until_healthy(BOTH, .05, process(None), LOG)


def test_a_system_that_ended_is_noticed_at_once(robot):
    with pytest.raises(NotAnsweringError, match='exit code 2; see bringup.log'):
        robot.wait_until_healthy(BOTH, 60., process(2), LOG)


@contextmanager
def sigint_ignored() -> Iterator[None]:
    """As in the background job of a shell, and in all that it starts."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.ros
def test_a_real_system_answers_from_what_is_plugged_and_ends(small_demo, lesson, console, demo_cache,
                                                             tiny_lm_folder, tiny_camera, tiny_lidar,
                                                             monkeypatch):
    for name, value in (('ROS_DOMAIN_ID', str(100 + os.getpid() % 100)), ('OMP_NUM_THREADS', '1'),
                        ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(demo_live, 'STANDING_SECONDS', 1.)
    of_links = demo_live._parameters(lesson.learned)['/**/fusion']['ros__parameters']
    parameters = {'/**/camera_encoder': tiny_camera, '/**/lidar_encoder': tiny_lidar,
                  '/**/fusion': {**of_links, 'llm': str(tiny_lm_folder), 'dtype': 'float32'}}
    monkeypatch.setattr(demo_live, '_parameters', lambda learned: {
        node: {'ros__parameters': values} for node, values in parameters.items()})
    with sigint_ignored(), running_robot(lesson.learned, console, 60.) as robot:
        interviews, standing = robot.interviews(), robot.watch(lesson.learned.asked[0].text)
    assert [one.used for one in interviews] == [{BOTH}, {('camera',)}, {('lidar',)}, {()}, {BOTH}]
    truths = [question.answer for question in lesson.learned.asked]
    assert all([one.truth for one in interview.exchanges] == truths for interview in interviews)
    assert standing.latencies
    pids = re.findall(r'pid (\d+)', (demo_cache / 'demo' / 'bringup.log').read_text())
    assert len(set(pids)) >= 4 and not [pid for pid in pids if Path('/proc', pid).exists()]
