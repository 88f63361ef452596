"""The adaptation node beside a fusion node, in processes of their own: it learns what a new sensor says.

The tests are one story and build on each other.
"""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray
from mpnp_ros.action import Adapt
from mpnp_ros.msg import (
    Adaptation,
    Answer,
    Feedback,
    LabelledQuestion,
    LabelledQuestions,
    ModalityState,
    ModalityStates,
    ModalityTokens,
    Question,
)
from mpnp_ros.srv import Ask
from rclpy.qos import DurabilityPolicy, QoSProfile

from mpnp_ros.client.session import action_client_class
from mpnp_ros.conversions.messages import from_nanoseconds, to_message
from mpnp_ros.files import state_root
from mpnp_ros.methods.link_files import read_manifest
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.methods.registry import methods
from mpnp_ros.tokens import ModalityTokens as Tokens

if TYPE_CHECKING:
    from ros_harness import NodeProcess, RosHarness

pytestmark = [pytest.mark.ros, pytest.mark.timeout(300)]
NAMESPACE = '/learning'
SECOND, PATIENCE = 1_000_000_000, 150.
LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RELIABLE = QoSProfile(depth=1000)
ANSWERS = ['yes', 'no', 'car', 'truck']
TEXTS = {'what is it?': 'object', 'what is to the front left of the truck?': 'status'}
FUSION = {'links': [''], 'stale_after': 600., 'lowest_rate': 0., 'threads': 1}
ADAPTATION = {'labelled_topic': 'labelled_questions', 'initial_links': [''], 'min_healthy_duration': 0.,
              'min_interval': 0., 'retry_delay': 1000., 'min_trial_questions': 0,
              'min_labelled_questions': 300, 'steps': 400, 'batch': 32, 'learning_rate': 1e-3,
              'scratch_learning_rate': 1e-2, 'headings_per_frame': 1, 'target_accuracy': .95, 'niceness': 0}


class Robot:
    """The two nodes, a LiDAR, and somebody who asks, corrects and has it adapt."""

    def __init__(self, ros: RosHarness, model: Path, namespace: str = NAMESPACE,
                 method: str = 'mpnp', **adaptation: Any) -> None:
        """adaptation: parameters of that node that differ from ADAPTATION."""
        self.ros, self.namespace, self._changes = ros, namespace, adaptation
        self._model = {'llm': str(model), 'device': 'cpu', 'dtype': 'float32', 'modalities': ['lidar'],
                       'method': method}
        self.states = ros.collect(self.topic('modalities'), ModalityStates, LATCHED)
        self.shown = ros.collect(self.topic('adaptation'), Adaptation, LATCHED)
        self.diagnostics = ros.collect('/diagnostics', DiagnosticArray, RELIABLE)
        self.tokens = ros.publisher(self.topic('tokens/lidar'), ModalityTokens)
        self.labels = ros.publisher(self.topic('labelled_questions'), LabelledQuestions, RELIABLE)
        self.feedback = ros.publisher(self.topic('feedback'), Feedback, RELIABLE)
        self.store = LinkStore(state_root(namespace) / 'links')
        self.fusion, self.adaptation = self.start_fusion(), self.start_adaptation()
        self.adapt = action_client_class()(ros.node, Adapt, self.topic('adapt'))

    def topic(self, name: str) -> str:
        return f'{self.namespace}/{name}'

    def start_fusion(self) -> NodeProcess:
        return self._start('fusion', FUSION)

    def start_adaptation(self) -> NodeProcess:
        return self._start('adaptation', {**ADAPTATION, **self._changes})

    def _start(self, node: str, parameters: dict[str, Any]) -> NodeProcess:
        return self.ros.start(f'mpnp_ros.nodes.{node}', namespace=self.namespace,
                              parameters={**self._model, **parameters})

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert time.monotonic() < end, (f'{what}: not within {PATIENCE} s; {self.shown.messages[-1:]}\n'
                                            f'{self.fusion.output}\n{self.adaptation.output}')
            time.sleep(.02)
        return value

    def wait_for_nodes(self) -> None:
        """Until nothing that is published is lost."""
        for publisher, count in ((self.tokens, 2), (self.labels, 1), (self.feedback, 1)):
            self.wait(lambda one=publisher, least=count: one.get_subscription_count() >= least, 'the nodes')

    def end(self) -> None:
        """Both nodes end as they should."""
        self.adapt.destroy()
        for process in (self.adaptation, self.fusion):
            assert process.stop(signal.SIGTERM) == 0, process.output
            assert 'Traceback' not in process.output

    def sense(self, answer: int, stamp_ns: int = 0) -> None:
        """Publish tokens that tell an answer."""
        stamp = stamp_ns or time.time_ns()
        values = .1 * np.random.default_rng(stamp).standard_normal((3, 8), np.float32)
        values[2, answer] += 3
        azimuth = np.arange(3, dtype=np.float32)
        self.tokens.publish(to_message(Tokens('lidar', 'lidar-encoder', values, azimuth, stamp_ns=stamp)))

    def live_through(self, seconds: int = 80) -> None:
        """Two moments a second, with two labelled questions each, in less time than it says."""
        begin = (time.time_ns() // SECOND - 120) // 40 * 40 * SECOND
        for number in range(2 * seconds):
            stamp, answer = begin + number * SECOND // 2, number // 2 % 4
            self.sense(answer, stamp)
            message = LabelledQuestions(questions=[
                LabelledQuestion(question=Question(text=text, choices=ANSWERS), answer=ANSWERS[answer],
                                 type=kind) for text, kind in TEXTS.items()])
            message.header.stamp = from_nanoseconds(stamp)
            self.labels.publish(message)
            time.sleep(.03)

    def live_through_enough(self, questions: int) -> None:
        """Until so many labelled questions are known; of what is sent to a busy node some is lost."""
        end = time.monotonic() + PATIENCE
        self.live_through()
        while not self.shown.messages or self.shown.messages[-1].labelled_questions < questions:
            assert time.monotonic() < end, f'not within {PATIENCE} s:\n{self.adaptation.output}'
            self.live_through()

    def state(self) -> ModalityState | None:
        """The newest of the LiDAR."""
        return self.states.messages[-1].modalities[0] if self.states.messages else None

    def ask(self) -> Answer:
        """What it is."""
        question = Question(text='what is it?', choices=ANSWERS)
        return self.ros.call(Ask, self.topic('ask'), Ask.Request(question=question)).answer

    def answer_to(self, answer: int) -> Answer:
        """To a question about fresh tokens that tell an answer."""
        stamp = time.time_ns()

        def rests_on_them() -> Answer | None:
            self.sense(answer, stamp)  # best effort: one may be lost
            time.sleep(.1)
            found = self.ask()
            stamps = [one.sec * SECOND + one.nanosec for one in found.modality_stamps]
            return found if stamps == [stamp] else None

        return self.wait(rests_on_them, 'an answer from fresh tokens')

    def fact(self, key: str) -> str:
        """What the adaptation node says of itself."""
        said = [pair.value for message in self.diagnostics.messages for status in message.status
                if status.name.startswith(f'{self.namespace[1:]}/adaptation') for pair in status.values
                if pair.key == key]
        return said[-1] if said else ''

    def begin(self, heard: list[Adapt.Feedback], **goal: Any) -> Any:
        """Have it adapt; gives the handle."""
        self.wait(self.adapt.server_is_ready, 'the action')
        sent = self.adapt.send_goal_async(Adapt.Goal(modalities=['lidar'], **goal),
                                          lambda message: heard.append(message.feedback))
        self.wait(sent.done, 'acceptance')
        return sent.result()

    def result(self, handle: Any) -> Any:
        done = handle.get_result_async()
        self.wait(done.done, 'the result')
        return done.result()


def rights(answers: Sequence[Answer]) -> int:
    """How many are right; a training ends at 95 % of what happened to be held out."""
    return sum(answer.text == truth for answer, truth in zip(answers, ANSWERS, strict=True))


@pytest.fixture(scope='module')
def robot(module_ros, tiny_lm_folder, own_cache) -> Iterator[Robot]:
    """Two nodes that know nothing of the LiDAR."""
    robot = Robot(module_ros, tiny_lm_folder)
    robot.wait_for_nodes()
    yield robot
    robot.end()


@pytest.fixture
def version(robot) -> str:
    """Of the links in use."""
    return robot.state().links_version


def test_a_new_modality_is_learned_from_labels_and_used(robot):
    robot.live_through_enough(301)
    robot.wait(lambda: any(one.modalities[0].state == ModalityState.ADAPTING
                           for one in robot.states.messages), 'the LiDAR is adapting')
    robot.wait(lambda: robot.state().links_version == '000001', 'links in use')
    robot.wait(lambda: robot.state().state == ModalityState.HEALTHY, 'the LiDAR is healthy again')
    stages = [message.state for message in robot.shown.messages if list(message.modalities) == ['lidar']]
    assert {Adaptation.READING, Adaptation.TRAINING} <= set(stages)
    assert robot.shown.messages[-1].labelled_questions > 300
    answers = [robot.answer_to(number) for number in range(4)]
    assert rights(answers) >= 3
    assert {tuple(answer.used_modalities) for answer in answers} == {('lidar',)}
    assert {answer.links_version for answer in answers} == {'lidar=000001'}
    adapted = read_manifest(robot.store.path('lidar', '000001')).provenance.adaptation
    assert adapted.accuracy_after >= .9 > adapted.accuracy_blind
    robot.shown.wait(1, where=lambda message: 'nothing is missing' in message.decision)


def test_a_goal_is_fed_back_and_may_be_cancelled(robot, version):
    heard: list[Adapt.Feedback] = []
    handle = robot.begin(heard)
    robot.wait(lambda: heard, 'feedback')
    second = robot.result(robot.begin([]))
    assert second.status == GoalStatus.STATUS_ABORTED
    assert 'lidar is being trained' in second.result.message
    cancelled = handle.cancel_goal_async()
    result = robot.result(handle)
    assert len(cancelled.result().goals_canceling) == 1
    assert result.status == GoalStatus.STATUS_CANCELED
    assert not result.result.success and 'cancelled' in result.result.message
    assert heard[0].stage == 'reading'
    assert robot.state().links_version == version


def test_corrections_are_kept_and_nonsense_is_refused(robot):
    asked = robot.answer_to(2)
    before = int(robot.fact('replay questions feedback') or 0)
    robot.feedback.publish(Feedback(id=asked.id, answer='truck'))
    robot.feedback.publish(Feedback(id=asked.id, answer='a purple elephant'))
    robot.wait(lambda: int(robot.fact('replay questions feedback')) > before, 'a correction')
    robot.wait(lambda: int(robot.fact('feedback refused') or 0), 'a refusal')


def test_links_find_their_way_to_a_fusion_node_that_was_killed(robot, version):
    heard: list[Adapt.Feedback] = []
    handle = robot.begin(heard)
    robot.wait(lambda: heard, 'feedback')
    os.kill(robot.fusion.pid, signal.SIGKILL)
    robot.fusion.wait()
    robot.states.messages.clear()
    robot.fusion = robot.start_fusion()
    robot.wait(lambda: robot.state() and robot.state().links_version >= version, 'the last good links')
    result = robot.result(handle)
    assert result.status == GoalStatus.STATUS_SUCCEEDED, result.result.message
    link = result.result.links[0]
    assert link.version > version
    robot.wait(lambda: robot.state().links_version == link.version, 'the new links')
    assert result.result.accuracy >= .9 > result.result.blind_accuracy
    assert result.result.macs > 0 and result.result.peak_memory > 0
    assert robot.answer_to(3).text == 'truck'


def test_a_training_goes_on_when_the_node_was_killed(robot, version):
    heard: list[Adapt.Feedback] = []
    robot.begin(heard)
    robot.wait(lambda: heard, 'feedback')
    os.kill(robot.adaptation.pid, signal.SIGKILL)
    robot.adaptation.wait()
    jobs = sorted((state_root(NAMESPACE) / 'jobs').iterdir())
    assert len(jobs) == 1
    robot.shown.messages.clear()
    robot.adaptation = robot.start_adaptation()
    robot.wait(lambda: any(list(message.modalities) == ['lidar'] for message in robot.shown.messages),
               'it goes on unasked')
    robot.wait(lambda: robot.state().links_version > version, 'its links')
    robot.wait(lambda: not jobs[0].exists(), 'the end of the job')
    assert robot.answer_to(1).text == 'no'


@pytest.fixture
def learner(request, module_ros, tiny_lm_folder, own_cache) -> Iterator[Robot]:
    """Two nodes with a method, which end whatever comes of it."""
    robot = Robot(module_ros, tiny_lm_folder, f'/{request.param}', request.param, min_labelled_questions=150)
    try:
        yield robot
    finally:
        robot.end()


@pytest.mark.parametrize('learner', sorted(methods().keys() - {'mpnp'}), indirect=True)
def test_every_method_learns_and_answers_by_changing_one_parameter(learner):
    learner.wait_for_nodes()
    learner.live_through_enough(150)
    learner.wait(lambda: learner.state() and learner.state().links_version == '000001', 'links in use')
    answers = [learner.answer_to(number) for number in range(4)]
    assert rights(answers) >= 3
    assert {(answer.method, *answer.used_modalities) for answer in answers} == {
        (learner.namespace[1:], 'lidar')}


def test_the_node_does_without_transformers():
    """Whose import takes seconds and 150 MB."""
    code = 'import sys; import mpnp_ros.nodes.adaptation; sys.exit("transformers" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], timeout=120).returncode == 0
