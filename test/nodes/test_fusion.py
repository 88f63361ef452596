"""The fusion node in its own process, with a tiny language model of random weights."""
from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from mpnp_ros.action import Ask as AskAction
from mpnp_ros.action import AskPast
from mpnp_ros.msg import (
    Answer,
    Condition,
    EncoderInfo,
    Event,
    ModalityState,
    ModalityStates,
    ModalityTokens,
    Question,
)
from mpnp_ros.srv import Ask, ListLinks, ListQuestions, LoadLinks, RollbackLinks, SetModality
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from mpnp_ros.client.session import action_client_class
from mpnp_ros.conversions.messages import to_message
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import save_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import ModalityTokens as Tokens

if TYPE_CHECKING:
    from ros_harness import RosHarness

pytestmark = pytest.mark.ros
WIDTH = 8
RELIABLE = QoSProfile(depth=1000)
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
CHOICES = ['yes', 'no', 'car']
LONG = 'is the car moving?'
MEETING = .5
"""Seconds for an action server that was found to discover its client: a response before that is lost."""


@pytest.fixture(scope='session')
def model_folder(tmp_path_factory, tiny_model, tiny_tokenizer) -> Path:
    folder = tmp_path_factory.mktemp('model')
    tiny_model('llama').save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope='session')
def method(model_folder) -> Method:
    """The method that the node has, to make links for it."""
    return create_method('mpnp', load_language_model(model_folder, 'cpu', 'float32'))


@pytest.fixture(scope='session')
def saved(method, tmp_path_factory) -> Callable[[str, str], tuple[str, str]]:
    """Saves a link of a modality under a version; gives path and sha256."""
    folder = tmp_path_factory.mktemp('links')

    def save(modality: str, version: str) -> tuple[str, str]:
        path = folder / modality / version
        path.parent.mkdir(exist_ok=True)
        link = method.new_link(modality, f'{modality} encoder', WIDTH, last=2)
        return str(path), save_link(link, path)

    return save


class Fusion:
    """A fusion node and what one needs to talk to it."""

    def __init__(self, ros: RosHarness, namespace: str, parameters: dict[str, Any]) -> None:
        self.ros, self.namespace, self._parameters = ros, namespace, parameters
        self.answers = ros.collect(self.topic('answer'), Answer, RELIABLE)
        self.texts = ros.collect(self.topic('answer_text'), String, RELIABLE)
        self.events = ros.collect(self.topic('event'), Event, RELIABLE)
        self.states = ros.collect(self.topic('modalities'), ModalityStates, LATCHED)
        self.diagnostics = ros.collect('/diagnostics', DiagnosticArray, RELIABLE)
        self.questions = ros.publisher(self.topic('question'), Question, RELIABLE)
        self.question_texts = ros.publisher(self.topic('question_text'), String, RELIABLE)
        self.tokens = {name: ros.publisher(self.topic(f'tokens/{name}'), ModalityTokens)
                       for name in ('camera', 'lidar')}
        self.start()

    def start(self, ghosts: int = 0) -> None:
        """Start the process and wait for its topics; ghosts: killed ones that the middleware still lists."""
        self.process = self.ros.start('mpnp_ros.nodes.fusion', namespace=self.namespace,
                                      parameters=self._parameters)
        for publisher in (self.questions, self.question_texts, *self.tokens.values()):
            self.ros.wait_for_subscriber(publisher, ghosts + 1)
        for collected in (self.answers, self.texts, self.events, self.states):
            self.wait(lambda topic=collected.topic: self.ros.node.count_publishers(topic) > ghosts)

    def reset(self, used: str = '') -> None:
        """Hand all modalities back to automatic, let one be used, and forget what has been collected."""
        for modality in self.tokens:
            assert self.command(modality, SetModality.Request.AUTO).success
        last = self.offer_until_used(used).id if used else self.ask().id
        self.answers.wait(1, where=lambda answer: answer.id == last)
        self.wait(lambda: len(self.texts.messages) >= len(self.answers.messages))
        for collected in (self.answers, self.texts):
            collected.messages.clear()

    def topic(self, name: str) -> str:
        return f'{self.namespace}/{name}'

    def wait(self, condition: Callable[[], Any], timeout: float = 60.) -> Any:
        end = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < end, f'not within {timeout} s; the output is:\n{self.process.output}'
            time.sleep(.01)
        return value

    def call(self, kind: type, name: str, **fields: Any) -> Any:
        return self.ros.call(kind, self.topic(name), kind.Request(**fields))

    def change_state(self, transition: str) -> None:
        assert self.ros.change_state(self.topic('fusion'), transition)

    def ask(self, text: str = LONG, **fields: Any) -> Answer:
        """One answer by service."""
        return self.call(Ask, 'ask', question=Question(text=text, **fields)).answer

    def offer(self, modality: str, encoder: str = '', value: float = 1., width: int = WIDTH,
              stamp_ns: int = 0) -> None:
        """Publish tokens, stamped now unless otherwise said."""
        stamp = stamp_ns or self.ros.node.get_clock().now().nanoseconds
        tokens = Tokens(modality, encoder or f'{modality} encoder', np.full((4, width), value, np.float32),
                        np.linspace(-3, 3, 4, dtype=np.float32), stamp_ns=stamp)
        self.tokens[modality].publish(to_message(tokens))

    def offer_until_used(self, modality: str, value: float = 1.) -> Answer:
        """Publish tokens (best effort: one may be lost) until an answer with choices rests on them."""
        def answer() -> Answer | None:
            self.offer(modality, value=value)
            asked = self.ask(choices=CHOICES)
            return asked if modality in asked.used_modalities else None

        return self.wait(answer)

    def command(self, modality: str, command: int) -> SetModality.Response:
        return self.call(SetModality, 'set_modality', modality=modality, command=command)

    def wait_for_state(self, modality: str, **fields: Any) -> ModalityState:
        """The newest state of a modality, once it has these values."""
        def reached() -> ModalityState | None:
            newest = self.states.messages[-1].modalities if self.states.messages else []
            return next((row for row in newest if row.modality == modality and all(
                getattr(row, name) == value for name, value in fields.items())), None)

        return self.wait(reached)

    def counter(self, key: str) -> int:
        """The newest value of this node on /diagnostics."""
        statuses = [status for message in reversed(self.diagnostics.messages) for status in message.status
                    if status.name.startswith(f'{self.namespace[1:]}/fusion')]
        return next((int(pair.value) for status in statuses for pair in status.values if pair.key == key), 0)


@pytest.fixture(scope='module')
def start_fusion(ros_harness, model_folder) -> Iterator[Callable[..., Fusion]]:
    """Starts nodes that live until the end of this file."""
    started: list[Fusion] = []

    def start(namespace: str, **parameters: Any) -> Fusion:
        common = {'llm': str(model_folder), 'device': 'cpu', 'dtype': 'float32', 'threads': 1, 'choices': ''}
        started.append(Fusion(ros_harness, namespace, {**common, **parameters}))
        return started[-1]

    mark = ros_harness.mark()
    yield start
    try:
        assert [fusion.process.stop(signal.SIGTERM) for fusion in started] == [0] * len(started)
    finally:
        ros_harness.clean(mark)


@pytest.fixture(scope='module')
def camera_fusion(start_fusion, saved) -> Fusion:
    return start_fusion('/one', links=[saved('camera', 'old')[0]], stale_after=60., max_new_tokens=200,
                        answer_without_sensors=True)


@pytest.fixture(scope='module')
def busy_fusion(start_fusion, saved) -> Fusion:
    return start_fusion('/two', links=[saved('camera', 'a')[0], saved('lidar', 'a')[0]], stale_after=2.,
                        queue_size=2, max_new_tokens=50)


@pytest.fixture
def node(camera_fusion) -> Fusion:
    """A node with links for the camera, whose tokens are there and stay fresh for a minute."""
    camera_fusion.reset('camera')
    return camera_fusion


@pytest.fixture
def busy(busy_fusion) -> Fusion:
    """A node with two modalities that go stale soon, and a queue of two."""
    busy_fusion.reset()
    return busy_fusion


@pytest.fixture
def streaming() -> Iterator[Callable[..., Callable[[], None]]]:
    """Publishes tokens of modalities at 20 Hz until the end of the test, or until called off."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def publish(fusion: Fusion, modalities: tuple[str, ...]) -> None:
        while not stop.wait(.05):
            for modality in modalities:
                fusion.offer(modality)

    def end() -> None:
        stop.set()
        for thread in threads:
            thread.join()

    def stream(fusion: Fusion, *modalities: str) -> Callable[[], None]:
        threads.append(threading.Thread(target=publish, args=(fusion, modalities)))
        threads[-1].start()
        return end

    yield stream
    end()


class Goals:
    """Goals of ``ask_stream``."""

    def __init__(self, fusion: Fusion) -> None:
        self._fusion = fusion
        self._client = action_client_class()(fusion.ros.node, AskAction, fusion.topic('ask_stream'))
        fusion.wait(lambda: self._client.server_is_ready())
        time.sleep(MEETING)

    def send(self, text: str, tokens: int = 0, heard: list | None = None) -> Any:
        goal = AskAction.Goal(question=Question(text=text), max_new_tokens=tokens)
        listen = None if heard is None else lambda message: heard.append(message.feedback)
        return self._done(self._client.send_goal_async(goal, listen))

    def result(self, handle: Any) -> Any:
        return self._done(handle.get_result_async())

    def cancel(self, handle: Any) -> Any:
        return self._done(handle.cancel_goal_async())

    def close(self) -> None:
        self._client.destroy()

    def _done(self, future: Any) -> Any:
        self._fusion.wait(future.done)
        return future.result()


@pytest.fixture
def goals() -> Iterator[Callable[[Fusion], Goals]]:
    made: list[Goals] = []

    def make(fusion: Fusion) -> Goals:
        made.append(Goals(fusion))
        return made[-1]

    yield make
    for entry in made:
        entry.close()


def test_every_way_of_asking_gets_exactly_one_answer(node, goals):
    node.questions.publish(Question(id='topic', text=LONG, choices=CHOICES))
    node.question_texts.publish(String(data=LONG))
    service = node.ask(id='service')
    heard: list = []
    asked = goals(node)
    result = asked.result(asked.send(LONG, 3, heard))
    answers = node.answers.wait(4)
    topic = next(answer for answer in answers if answer.id == 'topic')
    assert topic.text in CHOICES
    assert sum(topic.probabilities) == pytest.approx(1., abs=1e-5)
    assert topic.confidence == pytest.approx(max(topic.probabilities))
    assert [answer.status for answer in answers] == [Answer.OK] * 4
    assert service in answers and result.result.answer in answers
    assert len({answer.id for answer in answers}) == 4
    assert topic.latency >= topic.compute_duration > 0
    assert (topic.method, list(topic.missing_modalities)) == ('mpnp', [])
    assert result.status == GoalStatus.STATUS_SUCCEEDED
    assert [entry.stage for entry in heard][:2] == ['waiting', 'reading']
    assert [entry.tokens for entry in heard if entry.stage == 'answering'] == [1, 2, 3]
    assert heard[-1].text.strip() == result.result.answer.text
    assert service.text.startswith(result.result.answer.text)
    assert {text.data for text in node.texts.wait(4)} == {answer.text for answer in answers}
    node.ask(id='last')
    assert len(node.answers.wait(5)) == len(node.answers.messages) == 5


def test_every_way_of_asking_says_that_an_answer_would_rest_on_nothing(busy, goals):
    busy.wait(lambda: busy.ask().status == Answer.NO_SENSOR)
    busy.reset()
    busy.questions.publish(Question(id='topic', text=LONG, choices=CHOICES))
    busy.answers.wait(1)
    busy.question_texts.publish(String(data=LONG))
    busy.answers.wait(2)
    busy.questions.publish(Question(id='standing', text=LONG, standing=True, lease=60.))
    busy.answers.wait(3)
    response = busy.call(Ask, 'ask', question=Question(text=LONG, id='service'))
    asked = goals(busy)
    result = asked.result(asked.send(LONG))
    answers = busy.answers.wait(5)
    assert [answer.status for answer in answers] == [Answer.NO_SENSOR] * 5
    assert not any(answer.text or answer.confidence or answer.probabilities for answer in answers)
    assert (response.success, result.status) == (False, GoalStatus.STATUS_ABORTED)
    for error in (response.message, result.result.answer.error, *(answer.error for answer in answers)):
        assert error.startswith('no sensor can be used: camera: ') and '; lidar: ' in error
    assert all(text.data.startswith('[no sensor can be used: ') for text in busy.texts.wait(5))
    busy.questions.publish(Question(id='standing', standing=True))
    busy.answers.wait(1, where=lambda answer: answer.id == 'standing' and answer.status == Answer.OK)


def test_requirements_are_obeyed_and_influence_is_told_by_every_way_of_asking(busy):
    def asked(status: int = Answer.OK, **required: Any) -> Answer:
        """An answer of a status, with fresh tokens of both modalities."""
        def answer() -> Answer | None:
            for modality in ('camera', 'lidar'):
                busy.offer(modality)
            found = busy.ask(choices=CHOICES, **required)
            return found if found.status == status and (status or len(found.used_modalities) == 2) else None

        return busy.wait(answer)

    answer = asked()
    assert len(answer.modality_influences) == len(answer.modality_supports) == 2
    assert all(0 <= value <= 1 for value in (*answer.modality_influences, answer.sensor_influence))
    assert answer.text_alone in CHOICES and 1 / 3 <= answer.text_alone_confidence <= 1
    assert answer.header.frame_id == 'base_link'
    assert not busy.ask().modality_influences  # generated
    refused = asked(Answer.REFUSED, require=['nose'])
    assert 'nose (this node does not listen to it)' in refused.error and not refused.text
    assert 'below refuse_below 1' in asked(Answer.REFUSED, refuse_below=1.).error
    assert 'over max_age 1e-06 s' in asked(Answer.REFUSED, max_age=1e-6).error
    assert asked(Answer.REJECTED, refuse_below=2.).error
    standing = Question(id='sure', text=LONG, choices=CHOICES, standing=True, refuse_below=.5, max_age=9.,
                        require=['camera'])
    busy.questions.publish(standing)
    listed = busy.wait(lambda: busy.call(ListQuestions, 'list_questions').questions)
    assert listed == [standing]
    busy.questions.publish(Question(id='sure', standing=True))


def test_which_links_fit_which_encoder_is_said_before_the_first_tokens(start_fusion, saved, ros_harness):
    encoders = ros_harness.publisher('/fits/encoders', EncoderInfo, LATCHED)
    encoders.publish(EncoderInfo(modality='camera', node='/test/test', encoder='camera encoder',
                                 token_width=WIDTH))
    node = start_fusion('/fits', links=[saved('camera', 'f')[0], saved('lidar', 'f')[0]])
    node.process.wait_for_output('camera: links f fit encoder camera encoder of /test/test')
    encoders.publish(EncoderInfo(modality='lidar', node='/test/test', encoder='another', token_width=WIDTH,
                                 changed=['encoder.x: 1']))
    misfit = 'links f do not fit encoder another of /test/test, which has encoder.x: 1 set; remove that'
    node.process.wait_for_output(f'lidar: {misfit}')
    node.wait(lambda: misfit in node.wait_for_state('lidar').detail)
    node.wait(lambda: any(misfit in status.message for message in node.diagnostics.messages[-20:]
                          for status in message.status if status.name.startswith('fits/fusion')))
    assert misfit in node.ask().error
    encoders.publish(EncoderInfo(modality='radar', node='/test/test', encoder='a radar', token_width=WIDTH))
    node.process.wait_for_output('radar: no links are loaded for encoder a radar of /test/test')


def test_standing_questions_are_listed_and_end_with_their_lease(node):
    stands = Question(id='leased', text=LONG, choices=CHOICES, standing=True, lease=2.)
    for question in (stands, Question(id='kept', text=LONG, choices=CHOICES, standing=True)):
        node.questions.publish(question)
        node.answers.wait(1, where=lambda answer, name=question.id: answer.id == name)
    listed = node.call(ListQuestions, 'list_questions')
    assert [question.id for question in listed.questions] == ['leased', 'kept']
    assert (listed.questions[0], listed.answered[1]) == (stands, 1)
    assert 0 < listed.remaining[0] <= 2
    assert np.isnan(listed.remaining[1])
    for _ in range(5):
        time.sleep(.5)
        node.questions.publish(stands)
    assert len(node.call(ListQuestions, 'list_questions').questions) == 2, 'renewed for longer than its lease'
    node.wait(lambda: [one.id for one in node.call(ListQuestions, 'list_questions').questions] == ['kept'])
    assert [answer.id for answer in node.answers.messages] == ['leased', 'kept'], 'renewing asks nothing'
    node.wait(lambda: node.counter('questions_expired') == 1)
    node.questions.publish(Question(id='kept', standing=True))
    node.wait(lambda: not node.call(ListQuestions, 'list_questions').questions)


def test_more_tokens_than_may_be_asked_for_are_refused_in_words(node, goals):
    asked = goals(node)
    result = asked.result(asked.send(LONG, 4294967295))
    assert (result.status, result.result.answer.status) == (GoalStatus.STATUS_ABORTED, Answer.REJECTED)
    assert 'max_new_tokens is 4294967295' in result.result.answer.error


def test_cancelled_goals_end_as_cancelled_and_serving_goes_on(node, goals):
    asked = goals(node)
    handles = [asked.send(LONG) for _ in range(6)]
    cancelled = asked.cancel(handles[-1])
    result = asked.result(handles[-1])
    assert len(cancelled.goals_canceling) == 1
    assert result.status == GoalStatus.STATUS_CANCELED
    assert 'cancelled' in result.result.answer.error
    assert result.result.answer.status in (Answer.FAILED, Answer.REJECTED)
    assert asked.result(handles[0]).status == GoalStatus.STATUS_SUCCEEDED
    assert node.ask().status == Answer.OK


def test_used_modalities_follow_plugging_while_questions_flow(busy, streaming):
    asked = busy.wait(lambda: (answer := busy.ask()).status == Answer.NO_SENSOR and answer)
    assert list(asked.missing_modalities) == ['camera', 'lidar']
    end = streaming(busy, 'camera', 'lidar')
    busy.wait_for_state('camera', state=ModalityState.HEALTHY, plugged=True)
    busy.wait_for_state('lidar', state=ModalityState.HEALTHY, plugged=True, links_version='a')
    request = SetModality.Request
    for command, used in ((request.AUTO, ['camera', 'lidar']), (request.UNPLUG, ['lidar']),
                          (request.PLUG, ['camera', 'lidar']), (request.UNPLUG, ['lidar']),
                          (request.AUTO, ['camera', 'lidar'])):
        response = busy.command('camera', command)
        assert (response.success, response.state.pinned) == (True, command != request.AUTO)
        asked = busy.ask(choices=CHOICES)
        assert list(asked.used_modalities) == used
        assert list(asked.missing_modalities) == [name for name in ('camera', 'lidar') if name not in used]
    assert len(asked.modality_stamps) == 2
    assert all(0 <= age < 2 for age in asked.modality_ages)
    assert asked.header.stamp == min(asked.modality_stamps, key=lambda stamp: (stamp.sec, stamp.nanosec))
    assert 'sonar' in busy.command('sonar', request.PLUG).message
    end()
    busy.wait_for_state('camera', state=ModalityState.STALE)
    busy.wait_for_state('lidar', state=ModalityState.STALE)
    asked = busy.ask()
    assert (asked.status, list(asked.used_modalities)) == (Answer.NO_SENSOR, [])
    assert 'camera: no tokens for ' in asked.error
    assert list(asked.missing_modalities) == ['camera', 'lidar']


def test_tokens_change_the_answer_only_while_plugged(node):
    node.command('camera', SetModality.Request.UNPLUG)
    without = node.ask(choices=CHOICES).probabilities
    node.command('camera', SetModality.Request.AUTO)
    assert node.offer_until_used('camera', value=3.).probabilities != without
    node.command('camera', SetModality.Request.UNPLUG)
    assert node.ask(choices=CHOICES).probabilities == without


def test_bad_tokens_are_counted_and_ignored(node):
    before, counted = node.offer_until_used('camera'), node.counter('camera_rejected')
    lies = to_message(Tokens('camera', 'camera encoder', np.ones((2, WIDTH), np.float32),
                             np.zeros(2, np.float32)))
    lies.shape[0] = 7
    node.tokens['camera'].publish(lies)
    node.wait_for_state('camera', state=ModalityState.DEGRADED)
    for wrong in ({'encoder': 'another'}, {'width': 5}):
        count = node.counter('camera_rejected')
        node.offer('camera', **wrong)
        node.wait(lambda count=count: node.counter('camera_rejected') > count)
    assert node.counter('camera_rejected') == counted + 3
    assert '5 wide' in node.wait_for_state('camera', state=ModalityState.DEGRADED).detail
    after = node.ask(choices=CHOICES)
    assert (after.status, after.probabilities) == (Answer.OK, before.probabilities)
    assert after.modality_stamps == before.modality_stamps
    node.offer_until_used('camera')
    node.offer('camera')
    node.wait_for_state('camera', state=ModalityState.HEALTHY)


def test_a_flood_is_bounded_with_a_word_to_everyone(busy, streaming):
    streaming(busy, 'camera', 'lidar')
    busy.wait(lambda: busy.ask().status == Answer.OK)
    busy.reset()
    busy.questions.publish(Question(id='long', text='x' * 1_000_000))
    busy.questions.publish(Question(id='bell', text='is it\a?'))
    refused = busy.answers.wait(2)
    assert [answer.status for answer in refused] == [Answer.REJECTED] * 2
    assert all('characters' in answer.error for answer in refused)
    assert max(len(answer.question) for answer in refused) == 2000
    for number in range(100):
        busy.questions.publish(Question(id=str(number), text=LONG))
        time.sleep(.005)
    answers = busy.answers.wait(102)[2:]
    assert sorted(int(answer.id) for answer in answers) == list(range(100))
    rejected = [answer for answer in answers if answer.status == Answer.REJECTED]
    assert rejected
    assert all('queue_size' in answer.error for answer in rejected)
    assert all(answer.status in (Answer.OK, Answer.REJECTED) for answer in answers)
    assert busy.ask().status == Answer.OK


def test_standing_question_is_answered_on_every_frame_until_withdrawn(node):
    node.offer_until_used('camera')
    node.answers.messages.clear()
    node.questions.publish(Question(id='standing', text=LONG, choices=CHOICES, standing=True))
    node.answers.wait(1)
    for count in (2, 3, 4):
        node.offer('camera')
        newest = node.answers.wait(count)[-1]
        assert (newest.id, list(newest.used_modalities)) == ('standing', ['camera'])
    node.questions.publish(Question(id='standing', standing=True))
    assert (node.answers.wait(5)[-1].status, node.answers.messages[-1].text) == (Answer.OK, '')
    node.offer('camera')
    node.ask(id='last')
    assert [answer.id for answer in node.answers.wait(6)][5:] == ['last']


def test_the_condition_of_a_standing_question_begins_and_is_lost(node):
    node.offer_until_used('camera')
    node.answers.messages.clear()
    waits = Question(id='bus', text=LONG, choices=CHOICES, standing=True, on_change=True,
                     condition=Condition(answers=CHOICES, begin=.5, hold=.001))
    node.questions.publish(waits)
    node.answers.wait(1)
    for _ in range(3):
        node.offer('camera')
    begins = node.events.wait(1)[0]
    assert (begins.id, begins.kind, list(begins.used_modalities)) == ('bus', Event.BEGINS, ['camera'])
    assert begins.probability == pytest.approx(1)
    assert Time(sec=begins.since.sec, nanosec=begins.since.nanosec) != begins.header.stamp
    node.questions.publish(Question(id='bus', standing=True))
    lost = node.events.wait(2)[1]
    assert (lost.kind, lost.since) == (Event.LOST, begins.since) and lost.reason
    node.question_texts.publish(String(data='Tell me when it rains.'))
    refused = node.answers.wait(1, where=lambda answer: answer.status == Answer.REJECTED)[0]
    assert 'cannot be made a question' in refused.error


def test_the_past_is_asked_of_what_was_seen(node):
    node.offer_until_used('camera')
    client = action_client_class()(node.ros.node, AskPast, node.topic('ask_past'))
    assert client.wait_for_server(60)
    time.sleep(MEETING)
    feedback: list[AskPast.Feedback] = []

    def ask(text: str) -> tuple[int, AskPast.Result]:
        sent = client.send_goal_async(AskPast.Goal(text=text, choices=CHOICES),
                                      feedback_callback=lambda message: feedback.append(message.feedback))
        result = node.wait(sent.done) and sent.result().get_result_async()
        node.wait(result.done)
        return result.result().status, result.result().result

    status, result = ask('What is the status of the car?')
    assert status == GoalStatus.STATUS_SUCCEEDED and result.success
    assert result.moments >= 1 and len(result.spans) >= 1 and result.spans[0].answer in CHOICES
    node.wait(lambda: feedback)
    status, result = ask('who won')
    assert (status, result.success) == (GoalStatus.STATUS_ABORTED, False)
    assert 'not understood' in result.message
    client.destroy()


def test_links_are_loaded_refused_and_rolled_back_while_it_serves(node, saved):
    first, new = node.offer_until_used('camera'), saved('camera', 'new')
    for path, sha256, reason in ((new[0], 64 * '0', 'sha256'), ('/nowhere', '', 'cannot be read'),
                                 (f'{new[0]}/../new', '', '..'), (saved('sonar', 'x')[0], '', 'sonar')):
        response = node.call(LoadLinks, 'load_links', path=path, sha256=sha256)
        assert not response.success
        assert reason in response.message
    again = node.ask(choices=CHOICES)
    assert (again.links_version, again.probabilities) == ('camera=old', first.probabilities)
    response = node.call(LoadLinks, 'load_links', path=new[0], sha256=new[1])
    assert (response.success, response.link.version, response.link.sha256) == (True, 'new', new[1])
    swapped = node.ask(choices=CHOICES)
    assert swapped.links_version == 'camera=new'
    assert swapped.probabilities != first.probabilities
    listed = node.call(ListLinks, 'list_links').links
    assert [(link.version, link.active) for link in listed] == [('new', True), ('old', False)]
    assert list(listed[0].linked_blocks) == [2, 3]
    assert list(listed[0].gates) == pytest.approx([.5, .5])
    back = node.call(RollbackLinks, 'rollback_links', modality='camera')
    assert (back.success, back.link.version) == (True, 'old')
    assert node.ask(choices=CHOICES).probabilities == first.probabilities
    back = node.call(RollbackLinks, 'rollback_links', modality='camera')
    assert not back.success
    assert 'no earlier' in back.message


def test_life_cycle_again_and_again_with_a_word_in_every_state(node):
    for _ in range(3):
        node.offer_until_used('camera')
        node.change_state('deactivate')
        inactive = node.ask()
        assert (inactive.status, 'activate it' in inactive.error) == (Answer.REJECTED, True)
        node.change_state('activate')
        assert node.ask().status == Answer.OK
        node.change_state('deactivate')
        node.change_state('cleanup')
        unconfigured = node.ask()
        assert (unconfigured.status, 'configure' in unconfigured.error) == (Answer.REJECTED, True)
        assert not node.command('camera', SetModality.Request.PLUG).success
        node.change_state('configure')
        node.change_state('activate')
    node.reset('camera')
    node.questions.publish(Question(id='one', text=LONG))
    node.ask(id='two')
    assert sorted(answer.id for answer in node.answers.wait(2)) == ['one', 'two']


def test_a_deactivation_ends_what_is_under_way_in_words(node, goals):
    asked = goals(node)
    handles = [asked.send(LONG) for _ in range(6)]
    node.change_state('deactivate')
    answers = [asked.result(handle) for handle in handles]
    node.change_state('activate')
    assert all(result.result.answer.error or result.status == GoalStatus.STATUS_SUCCEEDED
               for result in answers)
    assert not any('cancelled' in result.result.answer.error for result in answers)
    assert all('the fusion node was deactivated' in result.result.answer.error for result in answers
               if result.result.answer.status == Answer.FAILED)
    assert GoalStatus.STATUS_CANCELED not in [result.status for result in answers]
    assert asked.result(asked.send(LONG, 2)).status == GoalStatus.STATUS_SUCCEEDED


def test_simulated_time_stands_still_and_jumps_back(start_fusion, saved, ros_harness):
    node = start_fusion('/simulated', links=[saved('camera', 's')[0]], stale_after=1., use_sim_time=True)
    node.offer_until_used('camera')
    asked = node.wait(lambda: (answer := node.ask(choices=CHOICES)).status == Answer.NO_SENSOR and answer)
    assert 'use_sim_time is set, but /clock does not run' in asked.error, 'it has not begun'
    clock = ros_harness.publisher('/clock', Clock)
    ros_harness.wait_for_subscriber(clock)

    def used_at(seconds: int) -> list[str]:
        """What an answer rests on, once it is this time on the node's clock."""
        def is_shown() -> bool:
            clock.publish(Clock(clock=Time(sec=seconds)))  # again and again: some may be lost
            return bool(node.states.messages) and node.states.messages[-1].header.stamp.sec == seconds

        node.wait(is_shown)
        return list(node.ask(choices=CHOICES).used_modalities)

    def offer_at(seconds: int) -> None:
        node.offer('camera', stamp_ns=seconds * 1_000_000_000)
        node.wait(lambda: node.ask(choices=CHOICES).used_modalities)

    assert used_at(100) == []
    offer_at(100)
    assert used_at(101) == ['camera']
    assert used_at(102) == []
    offer_at(102)
    assert used_at(10) == []
    offer_at(10)
    assert used_at(10) == ['camera']
    time.sleep(2.5)
    assert node.ask(choices=CHOICES).status == Answer.OK, 'a pause: who sets the clock is there'
    assert 'is the simulation paused?' in node.wait_for_state('camera').detail
    ros_harness.node.destroy_publisher(clock)
    stopped = node.wait(lambda: (answer := node.ask(choices=CHOICES)).status == Answer.NO_SENSOR and answer)
    assert re.search(r'camera: no tokens for .* s; the clock has stopped for \d+ s', stopped.error)
    detail = node.wait_for_state('camera', state=ModalityState.STALE).detail
    assert 'is the bag over or the simulation paused?' in detail
    node.process.wait_for_output('the clock has stopped for')
    node.offer('camera', stamp_ns=10_000_000_000)
    again = node.wait(lambda: (answer := node.ask(choices=CHOICES)).status == Answer.OK and answer)
    assert np.isnan(again.modality_ages[0]), 'a clock that has stopped tells no age'


def test_killed_and_started_again_it_answers(busy):
    for number in range(5):
        busy.questions.publish(Question(id=f'before {number}', text=LONG))
    busy.process.stop(signal.SIGKILL)
    busy.start(ghosts=1)
    busy.ros.wait_for_state(busy.topic('fusion'), 'active')
    busy.questions.publish(Question(id='after', text=LONG, choices=CHOICES))
    assert busy.answers.wait(1, where=lambda answer: answer.id == 'after')[0].status == Answer.NO_SENSOR


def test_what_cannot_be_loaded_ends_the_start_with_the_reason(ros_harness, model_folder):
    cases = {'/nowhere/model': {'llm': '/nowhere/model'}, '/nowhere/link': {'links': ['/nowhere/link']}}
    common = {'llm': str(model_folder), 'device': 'cpu', 'dtype': 'float32'}
    processes = {reason: ros_harness.start('mpnp_ros.nodes.fusion', namespace='/three',
                                           parameters={**common, **wrong}) for reason, wrong in cases.items()}
    for reason, process in processes.items():
        assert process.wait() == 1
        assert reason in process.output
        assert 'Traceback' not in process.output
