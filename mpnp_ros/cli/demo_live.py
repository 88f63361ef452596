"""The demo's running system: `mpnp bringup` replays the bag, and a node asks what is around."""
from __future__ import annotations

import os
import queue
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mpnp_ros.cache import cache_root
from mpnp_ros.cli.demo_learning import Learned
from mpnp_ros.cli.session import NotAnsweringError, ros_session, wait_for

if TYPE_CHECKING:
    from rclpy.node import Node
    from rich.console import Console

ANSWER_TIMEOUT, STANDING_SECONDS = 20., 6.


@dataclass(frozen=True)
class Exchange:
    """One question, its true answer, and the Answer message."""

    truth: str
    answer: Any

    @property
    def is_right(self) -> bool:
        """Whether the answer is the true one."""
        return self.answer.text == self.truth


@dataclass(frozen=True)
class Interview:
    """All questions asked with some modalities plugged."""

    plugged: tuple[str, ...]
    exchanges: Sequence[Exchange]

    @property
    def right(self) -> int:
        """How many answers are true."""
        return sum(exchange.is_right for exchange in self.exchanges)

    @property
    def used(self) -> set[tuple[str, ...]]:
        """What the answers say they rest on."""
        return {tuple(exchange.answer.used_modalities) for exchange in self.exchanges}


@dataclass(frozen=True)
class Standing:
    """A question that was answered on every new frame for some seconds; latencies in seconds."""

    question: str
    seconds: float
    latencies: Sequence[float]

    @property
    def median(self) -> float:
        """From arrival of a frame at the fusion node to its answer."""
        return statistics.median(self.latencies) if self.latencies else float('nan')


class Robot:
    """The other end of the topics of a running system."""

    def __init__(self, node: Node) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from mpnp_ros.msg import Answer, LabelledQuestions, ModalityStates, Question
        from mpnp_ros.srv import SetModality

        self._answers: queue.Queue[Any] = queue.Queue()
        self._labelled: Sequence[Any] = ()
        self._states: dict[str, Any] = {}
        node.create_subscription(Answer, 'answer', self._answers.put, 100)
        node.create_subscription(LabelledQuestions, '/labelled_questions', self._keep_labelled, 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(ModalityStates, 'modalities', self._keep_states, latched)
        self._question = node.create_publisher(Question, 'question', 10)
        self._setter = node.create_client(SetModality, 'set_modality')

    def wait_until_healthy(self, modalities: Sequence[str], timeout: float, alive: subprocess.Popen,
                           log: Path) -> None:
        """Wait until tokens of all modalities flow and their questions have come."""
        from mpnp_ros.msg import ModalityState

        def ready() -> bool:
            if alive.poll() is not None:
                raise NotAnsweringError(f'the system ended with exit code {alive.returncode}; see {log}')
            return bool(self._labelled) and all(
                name in self._states and self._states[name].plugged
                and self._states[name].state in (ModalityState.HEALTHY, ModalityState.DEGRADED)
                for name in modalities)
        wait_for(ready, timeout, f'no healthy {" and ".join(modalities)} within {timeout:g} s; see {log}')

    def interviews(self) -> list[Interview]:
        """Ask all labelled questions with both modalities, with each alone, and with none."""
        return [self._interview(plugged)
                for plugged in (('camera', 'lidar'), ('camera',), ('lidar',), (), ('camera', 'lidar'))]

    def watch(self, text: str) -> Standing:
        """Let one question be answered on every new frame for a while."""
        from mpnp_ros.msg import Question

        identity, latencies = 'demo-standing', []
        self._question.publish(Question(id=identity, text=text, standing=True))
        end = time.monotonic() + STANDING_SECONDS
        while (left := end - time.monotonic()) > 0:
            try:
                answer = self._answers.get(timeout=left)
            except queue.Empty:
                break
            if answer.id == identity:
                latencies.append(answer.latency)
        self._question.publish(Question(id=identity, standing=True))
        return Standing(text, STANDING_SECONDS, latencies)

    def _interview(self, plugged: tuple[str, ...]) -> Interview:
        for name in ('camera', 'lidar'):
            self._plug(name, name in plugged)
        return Interview(plugged, [Exchange(labelled.answer, self._ask(labelled.question))
                                   for labelled in self._labelled])

    def _ask(self, question: Any) -> Any:
        self._question.publish(question)
        end = time.monotonic() + ANSWER_TIMEOUT
        while time.monotonic() < end:
            try:
                answer = self._answers.get(timeout=max(.01, end - time.monotonic()))
            except queue.Empty:
                break
            if answer.id == question.id:
                return answer
        raise NotAnsweringError(f'no answer to {question.text!r} within {ANSWER_TIMEOUT:g} s')

    def _plug(self, modality: str, plugged: bool) -> None:
        from mpnp_ros.srv import SetModality

        command = SetModality.Request.PLUG if plugged else SetModality.Request.UNPLUG
        wait_for(self._setter.service_is_ready, ANSWER_TIMEOUT, 'nobody serves set_modality')
        future = self._setter.call_async(SetModality.Request(modality=modality, command=command))
        wait_for(future.done, ANSWER_TIMEOUT, f'set_modality does not answer for {modality}')
        if not future.result().success:
            raise NotAnsweringError(f'set_modality refused {modality}: {future.result().message}')

    def _keep_labelled(self, message: Any) -> None:
        self._labelled = message.questions

    def _keep_states(self, message: Any) -> None:
        self._states = {state.modality: state for state in message.modalities}


@contextmanager
def running_robot(learned: Learned, console: Console, timeout: float) -> Iterator[Robot]:
    """Start encoders, fusion and replay, yield the node that asks, and end them all.

    Raises NotAnsweringError where the system does not become ready.
    """
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randrange(1, 100)))
    log = cache_root() / 'demo' / 'bringup.log'
    overlay = log.with_suffix('.yaml')
    overlay.write_text(yaml.safe_dump(_parameters(learned)))
    command = [sys.executable, '-m', 'mpnp_ros.cli.main', 'bringup', '--bag', str(learned.bag), '--loop',
               '--params-file', str(overlay)]
    with log.open('w') as output, ros_session() as node:
        system = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            robot = Robot(node)
            with console.status('starting camera_encoder, lidar_encoder, fusion and replay'):
                robot.wait_until_healthy(('camera', 'lidar'), timeout, system, log)
            with console.status('asking'):
                yield robot
        finally:
            system.terminate()  # not SIGINT, which a shell's background jobs inherit as ignored
            try:
                system.wait(30.)
            except subprocess.TimeoutExpired:
                os.killpg(system.pid, signal.SIGKILL)
                system.wait()


def _parameters(learned: Learned) -> Mapping[str, object]:
    """Parameters on top of config/mpnp.yaml and config/nuscenes.yaml."""
    return {'/**/fusion': {'ros__parameters': {'links': [str(path) for path in learned.links]}}}
