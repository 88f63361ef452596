"""The running system as its topics show it.

:class:`LiveVehicle` sets the light of the world, plugs sensors in and asks; :class:`Diary` records events.
"""
from __future__ import annotations

import math
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mpnp_ros.cli.exchanges import Exchange
from mpnp_ros.cli.node_processes import listening_topic
from mpnp_ros.cli.session import NodeParameters, wait_for
from mpnp_ros.endpoints import LATCHED, SENSOR_DATA, qos_profile
from mpnp_ros.errors import NotAnsweringError
from mpnp_ros.node_names import WORLD
from mpnp_ros.questions.generator import LabelledQuestion
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_world.demo.drive import BOTH, Costs, DriveEvent, Phase, Sight

if TYPE_CHECKING:
    from rclpy.node import Node

STATES = ('absent', 'probing', 'healthy', 'degraded', 'stale', 'adapting')
STAGES = ('idle', 'reading', 'training', 'evaluating')
IDLE, TRAINING = 0, 2

ANSWER_TIMEOUT, TOKENS_TIMEOUT, FRAME_TIMEOUT, FIRST_TOKENS_TIMEOUT = 120., 120., 300., 10.
UNSEEN_TIMEOUT, PROBING_TIMEOUT = 3., 10.
ENCODER_TIMEOUT = 300.
"""Maximum waiting times, seconds."""
TOGETHER = 4 * 10 ** 7
"""Nanoseconds by which tokens of a key frame may be off the stamp that they should have."""
CAMERAS = ('cam_front_left', 'cam_front', 'cam_front_right', 'cam_back_left', 'cam_back', 'cam_back_right')


@dataclass(frozen=True)
class Note:
    """An observation at a time of the monotonic clock."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True)
class Sense:
    """State of a modality in the fusion node.  links: version in use, '' if none is."""

    modality: str
    state: str
    links: str
    detail: str


@dataclass(frozen=True)
class Running:
    """An adaptation in progress.  done, of: progress of the stage.  remaining: seconds of the budget."""

    stage: str
    done: int
    of: int
    remaining: float
    costs: Costs


class Diary:
    """Collects messages of the topics `modalities` and `adaptation`; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: list[Note] = []
        self._newest: dict[str, str] = {}
        self._senses: dict[str, Sense] = {}
        self._decision = ''
        self._running: Running | None = None
        self._ended: list[Costs] = []

    @property
    def training(self) -> bool:
        """Return whether an adaptation is in progress."""
        return self.running is not None

    @property
    def decision(self) -> str:
        """Return the newest decision of the adaptation node."""
        with self._lock:
            return self._decision

    @property
    def running(self) -> Running | None:
        """Return the progress of the adaptation."""
        with self._lock:
            return self._running

    @property
    def senses(self) -> list[Sense]:
        """Return the states of the modalities, sorted by name."""
        with self._lock:
            return [self._senses[name] for name in sorted(self._senses)]

    def events(self, start: float) -> list[DriveEvent]:
        """Return all events since ``start``, in seconds from there."""
        with self._lock:
            return [DriveEvent(note.at - start, note.kind, note.text)
                    for note in self._notes if note.at >= start]

    def adaptations(self) -> list[Costs]:
        """Return the finished adaptations."""
        with self._lock:
            return list(self._ended)

    def note_states(self, message: Any) -> None:
        """Record the states of the modalities, and their links."""
        with self._lock:
            for row in message.modalities:
                sense = Sense(row.modality, STATES[row.state], row.links_version, row.detail)
                self._senses[sense.modality] = sense
                self._note('state', sense.modality, f'{sense.modality} {sense.state}')
                self._note('links', f'{sense.modality} links', f'{sense.modality} {sense.links or "none"}')

    def note_adaptation(self, message: Any) -> None:
        """Record the work of the adaptation node; a decision is new if more than its numbers changes."""
        with self._lock:
            self._decision = message.decision
            self._note('decision', 'decision', message.decision, re.sub(r'\d+', '#', message.decision))
            self._note('stage', 'stage', STAGES[message.state])
            before, self._running = self._running, None
            if message.state != IDLE:
                self._running = _running(message, before.costs.steps if before else 0)
            elif before is not None:
                self._ended.append(before.costs)

    def _note(self, kind: str, name: str, text: str, gist: str = '') -> None:
        """Record a change; gist: what is compared, if not the text."""
        if self._newest.get(name) != (gist or text):
            self._newest[name] = gist or text
            self._notes.append(Note(time.monotonic(), kind, text))


def _running(message: Any, steps: int) -> Running:
    """Return the progress of an Adaptation message; steps: of training so far."""
    steps = max(steps, message.step) if message.state == TRAINING else steps
    return Running(STAGES[message.state], message.step, message.steps, message.remaining, Costs(
        message.supervision, message.duration, steps, message.macs, message.memory,
        message.start_accuracy, message.accuracy))


class Sensors(Protocol):
    """Starts and ends encoders."""

    def plug_in(self, modalities: Sequence[str]) -> None:
        """Run the encoders of these modalities and no others."""

    def check(self) -> None:
        """Raise an error if a node has ended."""

    def is_trained(self, modality: str, version: str) -> bool:
        """Return whether this version of the links to a modality is the result of a training."""


class LiveVehicle:
    """A running system, steered and asked over ROS; see :class:`~mpnp_world.demo.drive.Vehicle`."""

    def __init__(self, node: Node, sensors: Sensors, source: str = WORLD, modalities: Sequence[str] = BOTH,
                 stamps: Callable[[Any], Mapping[str, int]] | None = None) -> None:
        """source: node in place of sensors, which pauses at every key frame.

        stamps: returns the stamp of the tokens of each modality from the labelled questions of a key frame;
        None: all have the stamp of the questions.
        """
        from mpnp_ros.msg import (
            Adaptation,
            Answer,
            LabelledQuestions,
            ModalityStates,
            ModalityTokens,
            Question,
        )
        from mpnp_ros.srv import SetModality
        from sensor_msgs.msg import CompressedImage, PointCloud2

        self._node, self._sensors, self._numbers = node, sensors, count()
        self._check, self._modalities = sensors.check, modalities
        self._stamps = stamps or (
            lambda message: dict.fromkeys(modalities, _nanoseconds(message.header.stamp)))
        self._answers: queue.Queue[Any] = queue.Queue()
        self._newest: dict[str, Any] = {}
        self._tokens: dict[str, deque[Any]] = {name: deque(maxlen=4) for name in modalities}
        self.diary = Diary()
        latched, sensor = qos_profile(LATCHED), qos_profile(SENSOR_DATA, 2)
        listen, keep = node.create_subscription, partial(partial, self._keep)
        listen(Answer, 'answer', self._answers.put, 100)
        listen(LabelledQuestions, '/labelled_questions', keep('questions'), 10)
        listen(ModalityStates, 'modalities', self._on_states, latched)
        listen(Adaptation, 'adaptation', self.diary.note_adaptation, latched)
        listen(PointCloud2, '/lidar_top', keep('sweep'), sensor)
        for name in CAMERAS:
            listen(CompressedImage, f'/{name}/image_rect/compressed', keep(name), sensor)
        for name in modalities:
            listen(ModalityTokens, f'tokens/{name}', partial(self._note_tokens, name), sensor)
        self._question = node.create_publisher(Question, 'question', 10)
        self._setter = node.create_client(SetModality, 'set_modality')
        self._source = NodeParameters(node, f'/{source}', self._wait)

    def wait_until_ready(self, modalities: Sequence[str], timeout: float) -> None:
        """Wait until tokens of these modalities have arrived; raises NotAnsweringError, naming them."""
        def ready() -> bool:
            return 'questions' in self._newest and all(self._tokens[name] for name in modalities)

        self._wait(ready, timeout, f'no tokens of {" and ".join(modalities)} within {timeout:g} s')

    def enter(self, phase: Phase) -> None:
        """Set the light of a phase and run the encoders of its sensors."""
        self._source.set('light', phase.light)
        self._sensors.plug_in(phase.sensors)
        self.wait_for_encoders(phase.sensors)

    def wait_for_encoders(self, modalities: Sequence[str]) -> None:
        """Wait until the encoders of these modalities listen."""
        def heard(topic: str) -> bool:
            return self._node.count_subscribers(topic) > 1

        for name in modalities:
            self._wait(partial(heard, listening_topic(name)), ENCODER_TIMEOUT,
                       f'the {name} encoder has not subscribed')

    def parameters(self, name: str, section: str) -> dict[str, Any]:
        """Return the parameters of a section of a node, without the name of the section."""
        from rcl_interfaces.srv import ListParameters

        lister = self._node.create_client(ListParameters, f'{name}/list_parameters')
        self._wait(lister.service_is_ready, ANSWER_TIMEOUT, f'no server for the parameters of {name}')
        future = lister.call_async(ListParameters.Request(prefixes=[section]))
        self._wait(future.done, ANSWER_TIMEOUT, f'{name} does not answer')
        asked = NodeParameters(self._node, name, self._wait)
        return {each.removeprefix(f'{section}.'): asked.get(each) for each in future.result().result.names}

    def plug(self, plugged: Sequence[str]) -> None:
        """Plug these modalities, unplug the others, and wait a little for those that are not yet trusted."""
        from mpnp_ros.srv import SetModality

        end = time.monotonic() + PROBING_TIMEOUT
        for name in self._modalities:
            command = SetModality.Request.PLUG if name in plugged else SetModality.Request.UNPLUG
            request = SetModality.Request(modality=name, command=command)
            self._wait(self._setter.service_is_ready, ANSWER_TIMEOUT, 'no server for set_modality')
            while True:
                future = self._setter.call_async(request)
                self._wait(future.done, ANSWER_TIMEOUT, 'no response from set_modality')
                response = future.result()
                if not response.success:
                    raise NotAnsweringError(f'set_modality refused {name}: {response.message}')
                probing = name in plugged and STATES[response.state.state] == 'probing'
                if not probing or time.monotonic() > end:
                    break
                time.sleep(.2)

    def next_frame(self, sensors: Sequence[str]) -> tuple[Sight, Sequence[LabelledQuestion]] | None:
        """Go on to the next key frame, where the source waits; None if the tokens did not arrive."""
        before = self._newest.get('questions')
        self._source.set('paused', False)
        self._wait(lambda: self._newest.get('questions') is not before, FRAME_TIMEOUT,
                   f'no new key frame within {FRAME_TIMEOUT:g} s')
        return self.present_frame(sensors)

    def present_frame(self, sensors: Sequence[str]) -> tuple[Sight, Sequence[LabelledQuestion]] | None:
        """Return the present key frame and its questions; None if the tokens did not arrive."""
        message = self._newest['questions']
        end = time.monotonic() + TOKENS_TIMEOUT
        while not (tokens := self._present_tokens()).keys() >= set(sensors):
            self._check()
            if time.monotonic() > end:
                return None
            time.sleep(.01)
        if not self._fusion_has(sensors):
            return None
        return self.sight(message, tokens), [LabelledQuestion(
            labelled.question.text, labelled.answer, labelled.type, labelled.hops, '', message.sample_token)
            for labelled in message.questions]

    def _fusion_has(self, plugged: Sequence[str]) -> bool:
        """Whether the fusion node has received tokens of every plugged modality, as far as it reports them.

        The world waits, so tokens sent before the nodes had discovered each other are not sent again.
        """
        end = time.monotonic() + FIRST_TOKENS_TIMEOUT
        while time.monotonic() < end:
            self._check()
            states = self._newest.get('states')
            ages = {row.modality: row.age for row in (states.modalities if states else ())}
            if not any(math.isnan(ages.get(name, 0.)) for name in plugged):
                return True
            time.sleep(.05)
        return False

    def _present_tokens(self) -> dict[str, Any]:
        """Return the messages with tokens of the present key frame."""
        stamps, found = self._stamps(self._newest['questions']), {}
        for name, kept in self._tokens.items():
            for message in list(kept):
                if name in stamps and abs(_nanoseconds(message.header.stamp) - stamps[name]) <= TOGETHER:
                    found[name] = message
        return found

    def sight(self, questions: Any, tokens: Mapping[str, Any]) -> Sight:
        """Return the sensor data published for the present key frame, and what encoders made of it."""
        from mpnp_ros.conversions.pointclouds import to_points

        images = {name: bytes(self._newest[name].data) for name in CAMERAS if name in self._newest}
        sweep = self._newest.get('sweep')
        points = to_points(sweep).xyz if sweep else np.zeros((0, 3), np.float32)
        return Sight(_nanoseconds(questions.header.stamp), images, points, tokens, questions.sample_token)

    def ask(self, question: LabelledQuestion, guess: str) -> Exchange:
        """Ask about the present key frame, until an answer uses no other data.

        The frame may lack a view.  Where no sensor looks where the question asks, the answer is empty.
        Raises NotAnsweringError where no fitting answer comes.
        """
        from mpnp_ros.msg import Answer

        stamps, begun = self._stamps(self._newest['questions']), time.monotonic()
        while True:
            training = self.diary.training
            answer = self._answer(question.text)
            waited = time.monotonic() - begun
            unseen = answer.status == Answer.NO_SENSOR and waited > UNSEEN_TIMEOUT
            fits = all(abs(_nanoseconds(stamp) - stamps[name]) <= TOGETHER for name, stamp in zip(
                answer.used_modalities, answer.modality_stamps, strict=True))
            if unseen or (answer.status in (Answer.OK, Answer.UNKNOWN) and fits):
                return Exchange.of(question, guess, answer, training)
            if waited > ANSWER_TIMEOUT:
                raise NotAnsweringError(f'answers do not use the present key frame: {self._why(answer)}')
            time.sleep(.05)

    def _why(self, answer: Any) -> str:
        """Return what an answer and the states say of the sensors."""
        details = [f'{sense.modality}: {sense.detail}' for sense in self.diary.senses if sense.detail]
        return '; '.join(filter(None, [answer.error, *details])) or 'the fusion node gives no reason'

    def news(self, start: float) -> tuple[list[DriveEvent], list[Costs]]:
        """Return the events since ``start`` and the finished adaptations."""
        return self.diary.events(start), self.diary.adaptations()

    def adapted(self, modalities: Collection[str]) -> bool:
        """Return whether the links in use to all of these were trained on the way."""
        links = {sense.modality: sense.links for sense in self.diary.senses}
        return all(self._sensors.is_trained(name, links.get(name, '')) for name in modalities)

    @property
    def decision(self) -> str:
        """Return the newest decision of the adaptation node."""
        return self.diary.decision

    def _answer(self, text: str) -> Any:
        """The message that answers one question; raises NotAnsweringError without one."""
        from mpnp_ros.msg import Answer, Question

        end = time.monotonic() + ANSWER_TIMEOUT
        name = f'demo-{next(self._numbers)}'
        self._question.publish(Question(id=name, text=text, choices=list(ANSWERS)))
        while (left := end - time.monotonic()) > 0:
            self._check()
            try:
                answer = self._answers.get(timeout=min(left, .5))
            except queue.Empty:
                continue
            if answer.id == name and answer.status not in (Answer.OK, Answer.NO_SENSOR, Answer.UNKNOWN):
                raise NotAnsweringError(f'{text!r} was rejected or failed:  {answer.error}')
            if answer.id == name:
                return answer
        raise NotAnsweringError(f'no answer to {text!r} within {ANSWER_TIMEOUT:g} s')

    def _wait(self, condition: Callable[[], Any], timeout: float, otherwise: str) -> None:
        """Wait for a condition while all nodes run; ``otherwise``: the error after the timeout."""
        def checked() -> Any:
            self._check()
            return condition()

        wait_for(checked, timeout, otherwise)

    def _on_states(self, message: Any) -> None:
        self._keep('states', message)
        self.diary.note_states(message)

    def _keep(self, name: str, message: Any) -> None:
        self._newest[name] = message

    def _note_tokens(self, name: str, message: Any) -> None:
        self._tokens[name].append(message)


def _nanoseconds(stamp: Any) -> int:
    return stamp.sec * 10 ** 9 + stamp.nanosec
