"""The asking end of the demo against a pretended system: a world that waits, and a fusion node."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine', exc_type=ImportError)

from builtin_interfaces.msg import Time
from mpnp_ros.msg import (
    Adaptation,
    Answer,
    LabelledQuestion,
    LabelledQuestions,
    ModalityState,
    ModalityStates,
    ModalityTokens,
    Question,
)
from mpnp_ros.srv import SetModality
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from mpnp_ros.cli.node_processes import listening_topic
from mpnp_ros.errors import NotAnsweringError
from mpnp_ros.questions.generator import LabelledQuestion as Labelled
from mpnp_world.demo import robot as demo_robot
from mpnp_world.demo.drive import BOTH, CAMERA, LABELLED, PHASES
from mpnp_world.demo.robot import LiveVehicle

QUESTION = Labelled('is it dark?', 'yes', 'exist', 0, '', 'sample')


class FakeSystem:
    """A node whose topics and services end in a pretended world and fusion node.

    late: answers that still rest on the key frame before.  mute: modalities without tokens.  running: those
    whose encoders run.
    """

    def __init__(self) -> None:
        self.plugged = {'camera': True, 'lidar': True}
        self.running: list[tuple[str, ...]] = []
        self.ended = ''
        self.parameters: dict[str, object] = {}
        self.second, self.late, self.mute, self.silent, self.refusal = 0, 0, (), False, ''
        self.sees = True
        self.asked: list[Question] = []
        self.listeners: dict[str, Callable[[object], None]] = {}

    def create_subscription(self, kind: type, topic: str, callback: Callable, qos: object) -> None:
        self.listeners[topic] = callback

    def create_publisher(self, kind: type, topic: str, depth: int) -> SimpleNamespace:
        return SimpleNamespace(publish=self.ask)

    def create_client(self, kind: type, name: str) -> SimpleNamespace:
        serve = self.set_world if kind is SetParameters else self.command

        def call(request: object) -> SimpleNamespace:
            response = serve(request)
            return SimpleNamespace(done=lambda: True, result=lambda: response)

        return SimpleNamespace(service_is_ready=lambda: True, call_async=call)

    def count_subscribers(self, topic: str) -> int:
        return 1 + any(topic == listening_topic(name) for name in self.running[-1])

    def plug_in(self, modalities: Sequence[str]) -> None:
        self.running.append(tuple(modalities))

    def is_trained(self, modality: str, version: str) -> bool:
        return version == '000002'

    def check(self) -> None:
        if self.ended:
            raise NotAnsweringError(self.ended)

    def command(self, request: SetModality.Request) -> SetModality.Response:
        self.plugged[request.modality] = request.command == SetModality.Request.PLUG
        return SetModality.Response(success=not self.refusal, message=self.refusal)

    def set_world(self, request: SetParameters.Request) -> SetParameters.Response:
        for parameter in request.parameters:
            self.parameters[parameter.name] = parameter.value.string_value or parameter.value.bool_value
            if parameter.name == 'paused':
                self.show_frame()
        return SetParameters.Response(results=[SetParametersResult(successful=not self.refusal,
                                                                   reason=self.refusal)])

    def show_frame(self) -> None:
        self.second += 1
        header = Header(stamp=Time(sec=self.second))
        self.listeners['/cam_front/image_rect/compressed'](CompressedImage(header=header, data=b'jpeg'))
        self.listeners['/labelled_questions'](LabelledQuestions(header=header, questions=[
            LabelledQuestion(question=Question(text='is it dark?'), answer='yes', type='exist', hops=1)]))
        for name in BOTH:
            if name not in self.mute:
                self.listeners[f'tokens/{name}'](ModalityTokens(header=header, modality=name))

    def ask(self, question: Question) -> None:
        self.asked.append(question)
        if self.silent:
            return
        used = sorted(name for name, plugged in self.plugged.items() if plugged)
        self.late -= 1
        stamps = [Time(sec=self.second - (self.late >= 0)), Time(sec=self.second)]
        for name in ('of-somebody-else', question.id):
            self.listeners['answer'](Answer(
                id=name, question=question.text, text='yes', latency=.5, links_version='camera=000002',
                status=Answer.OK if self.sees else Answer.NO_SENSOR,
                used_modalities=used, modality_stamps=stamps[:len(used)]))


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    for name in ('ANSWER_TIMEOUT', 'TOKENS_TIMEOUT', 'FRAME_TIMEOUT', 'ENCODER_TIMEOUT',
                 'FIRST_TOKENS_TIMEOUT'):
        monkeypatch.setattr(demo_robot, name, .3)
    return FakeSystem()


@pytest.fixture
def robot(system: FakeSystem) -> LiveVehicle:
    return LiveVehicle(system, system)


def test_a_phase_sets_the_light_and_starts_encoders(robot, system):
    phases = PHASES[LABELLED]
    robot.enter(phases[2])
    assert system.parameters == {'light': 'night'} and system.running == [(CAMERA,)]
    robot.enter(phases[3])
    assert system.running[-1] == BOTH
    robot.next_frame(BOTH)
    assert robot.ask(QUESTION, 'no').used == BOTH


def test_an_encoder_that_does_not_come_up_is_named(robot, system, monkeypatch):
    monkeypatch.setattr(system, 'count_subscribers', lambda topic: 1)
    with pytest.raises(NotAnsweringError, match='the camera encoder has not subscribed'):
        robot.enter(PHASES[LABELLED][0])


def test_the_world_goes_on_to_its_next_key_frame(robot, system):
    sight, questions = robot.next_frame(BOTH)
    assert system.parameters['paused'] is False
    assert sight.stamp_ns == 10 ** 9 and sight.images == {'cam_front': b'jpeg'} and len(sight.points) == 0
    assert [(question.text, question.answer, question.type, question.hops) for question in questions] == [
        ('is it dark?', 'yes', 'exist', 1)]
    assert robot.next_frame(BOTH)[0].stamp_ns == 2 * 10 ** 9


def test_only_tokens_of_what_is_plugged_are_waited_for(robot, system):
    system.mute = ('lidar',)
    assert robot.next_frame(('camera',)) is not None
    assert robot.next_frame(BOTH) is None


def test_a_key_frame_whose_tokens_fusion_never_had_is_left_out(robot, system):
    def states(*ages: float) -> ModalityStates:
        return ModalityStates(modalities=[ModalityState(modality=name, age=age)
                                          for name, age in zip(BOTH, ages, strict=True)])

    system.listeners['modalities'](states(1., math.nan))
    assert robot.next_frame(BOTH) is None and robot.next_frame((CAMERA,)) is not None
    system.listeners['modalities'](states(1., 1.))
    assert robot.next_frame(BOTH) is not None


def test_an_answer_about_an_earlier_frame_does_not_count(robot, system):
    robot.next_frame(BOTH)
    robot.next_frame(BOTH)
    system.late = 2
    exchange = robot.ask(QUESTION, 'no')
    assert len(system.asked) == 3 and len({question.id for question in system.asked}) == 3
    assert exchange.is_right and (exchange.guess, exchange.used, exchange.latency) == ('no', BOTH, .5)


def test_a_question_about_where_no_sensor_looks_is_left_unanswered(robot, system, monkeypatch):
    monkeypatch.setattr(demo_robot, 'UNSEEN_TIMEOUT', .1)
    robot.next_frame(BOTH)
    system.sees = False
    robot.ask(QUESTION, 'no')
    assert len(system.asked) > 1


def test_sensors_may_look_at_different_moments_where_that_is_known(system):
    def stamps(questions: LabelledQuestions) -> dict[str, int]:
        second = questions.header.stamp.sec
        return {'camera': 10 ** 9 * (second - 1), 'lidar': 10 ** 9 * second}

    robot = LiveVehicle(system, system, 'replay', BOTH, stamps)
    assert robot.next_frame(BOTH) is None
    sight, _ = robot.next_frame(BOTH)
    assert {name: message.header.stamp.sec for name, message in sight.tokens.items()} == {
        'camera': 1, 'lidar': 2}
    assert robot.present_frame(BOTH)[0].stamp_ns == sight.stamp_ns
    system.late = 1
    assert robot.ask(QUESTION, 'no').is_right and len(system.asked) == 1


def test_what_answers_do_not_rest_on_is_named_with_the_reason(robot, system):
    robot.next_frame(BOTH)
    system.late = 10_000
    system.listeners['modalities'](ModalityStates(modalities=[
        ModalityState(modality='camera', detail='tokens are of another encoder')]))
    with pytest.raises(NotAnsweringError, match='key frame: camera: tokens are of another encoder'):
        robot.ask(QUESTION, 'no')


def test_what_is_plugged_is_asked_with_alone(robot, system):
    robot.next_frame(BOTH)
    robot.plug(('lidar',))
    assert robot.ask(QUESTION, 'no').used == ('lidar',)


def test_adapted_links_are_those_in_use_that_were_trained(robot, system):
    def use(version: str) -> None:
        system.listeners['modalities'](ModalityStates(modalities=[
            ModalityState(modality='lidar', links_version=version)]))

    assert not robot.adapted({'lidar'})
    use('000001')
    assert not robot.adapted({'lidar'})
    use('000002')
    assert robot.adapted({'lidar'}) and not robot.adapted(BOTH)


def test_an_answer_knows_whether_links_were_being_trained_and_which_were_in_use(robot, system):
    robot.next_frame(BOTH)
    asked = []
    for state in (Adaptation.TRAINING, Adaptation.IDLE):
        system.listeners['adaptation'](Adaptation(state=state, decision='lidar lacks links', step=5))
        asked.append(robot.ask(QUESTION, 'no'))
    assert [exchange.training for exchange in asked] == [True, False] and asked[0].links == 'camera=000002'
    events, ended = robot.news(0.)
    assert [event.text for event in events] == ['lidar lacks links', 'training', 'idle']
    assert [costs.steps for costs in ended] == [5]


def test_silence_and_refusals_are_named(robot, system):
    robot.next_frame(BOTH)
    system.silent = True
    with pytest.raises(NotAnsweringError, match="no answer to 'is it dark\\?'"):
        robot.ask(QUESTION, 'no')
    system.refusal = 'not now'
    with pytest.raises(NotAnsweringError, match='set_modality refused camera: not now'):
        robot.plug(BOTH)
    with pytest.raises(NotAnsweringError, match='the world refused paused: not now'):
        robot.next_frame(BOTH)


def test_ready_is_when_tokens_and_the_questions_have_come(robot, system):
    system.mute = ('lidar',)
    system.show_frame()
    robot.wait_until_ready((CAMERA,), .1)
    with pytest.raises(NotAnsweringError, match='no tokens of camera and lidar within 0.1 s'):
        robot.wait_until_ready(BOTH, .1)
    system.mute = ()
    system.show_frame()
    robot.wait_until_ready(BOTH, .1)


def test_a_system_that_has_ended_is_noticed_while_waiting(robot, system):
    system.ended = 'fusion ended'
    with pytest.raises(NotAnsweringError, match='fusion ended'):
        robot.wait_until_ready((CAMERA,), 60.)
