"""Measure the latency from the stamp of a sensor to the answer, through real ROS processes.

Six cameras (1600 x 900 JPEG) and a LiDAR publish sets with the same stamp.  The installed camera encoder,
LiDAR encoder and fusion run with their defaults, each in its own process.  One standing question is answered
on every new frame.
"""
from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.common.jobs import isolate
from mpnp_ros.cli.node_processes import Placement, node_process
from mpnp_ros.cli.session import ros_session
from mpnp_ros.errors import MpnpError
from mpnp_ros.node_names import FUSION, encoder_nodes
from mpnp_ros.nuscenes.sensor_files import read_lidar, read_sensor_file
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.supervisor import FAILED, ProcessSpec, RestartPolicy, Supervisor
from mpnp_ros.tokens import SECOND
from mpnp_world.standin import write_standin

if TYPE_CHECKING:
    from rclpy.node import Node

STARTUP_TIMEOUT = 120.
WARM_UP, AFTER = 4., 3.
ASKED = 'latency'
MODALITIES = ('camera', 'lidar')


@dataclass(frozen=True, eq=False)
class Sensors:
    """Published data: JPEG files by camera, and LiDAR points [N, 4] float32 (x, y, z, intensity)."""

    images: Mapping[str, bytes]
    points: np.ndarray
    origin: str

    @classmethod
    def read(cls, root: Path | None, folder: Path) -> Sensors:
        """The first key frame of a nuScenes root, or of a generated stand-in written below `folder`."""
        origin = 'generated stand-in' if root is None else 'nuScenes key frame'
        tables = NuScenes(root or write_standin(folder / 'standin', scenes=1, key_frames=1))
        frame = next(iter(tables.key_frames(tables.scenes[0])))
        images = {name.lower(): read_sensor_file(camera.path) for name, camera in frame.cameras.items()}
        assert frame.lidar is not None  # key frames of both origins have one
        return cls(images, read_lidar(frame.lidar.path)[:, :4], origin)


@dataclass(frozen=True)
class SeenTokens:
    """Received tokens.  transport: s from stamp to encoder.  encoding: s from encoder input to tokens."""

    modality: str
    stamp_ns: int
    transport: float
    encoding: float


@dataclass(frozen=True)
class SeenAnswer:
    """A received answer.  stamps: by modality.  waited: s from tokens at fusion to answer.  computed: s."""

    arrived_ns: int
    stamps: Mapping[str, int]
    waited: float
    computed: float


@dataclass(frozen=True)
class Measured:
    """Numbers of published sets and of their answers.  parts: latencies in seconds by part."""

    origin: str
    sets: int
    answers: int
    parts: Mapping[str, Sequence[float]]


def measure(question: str, choices: Sequence[str], sensors: Sensors, *, seconds: float, rate: float = 2.,
            domain: int = 101) -> Measured:
    """Run the system for `seconds` in its own ROS domain; stops all processes at the end.

    rate: sets per second.  Raises MpnpError if a node fails or does not answer.
    """
    isolate(domain)
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    placement = Placement(log_level='error')
    with ros_session() as node:
        robot = _Robot(node, sensors, rate)

        def answered() -> bool:
            if robot.answers:
                return True
            robot.ask(question, choices)
            return False

        named: dict[str, dict[str, object]] = {
            'camera': {'cameras': [*sensors.images]}, 'lidar': {'topic': 'lidar_top'}}
        nodes = [*(node_process(encoder_nodes()[name], placement, named[name]) for name in MODALITIES),
                 node_process(FUSION, placement, {'modalities': list(MODALITIES)})]
        with _running(nodes, robot.checks):
            robot.publish(STARTUP_TIMEOUT, 'tokens of every modality', robot.is_encoded)
            robot.publish(STARTUP_TIMEOUT, 'a subscriber of questions', robot.is_heard)
            robot.publish(STARTUP_TIMEOUT, 'an answer', answered)
            robot.publish(WARM_UP)
            stamps = robot.publish(seconds)
            time.sleep(AFTER)
    wanted = set(stamps)
    answers = [answer for answer in robot.answers if wanted & set(answer.stamps.values())]
    return Measured(sensors.origin, len(stamps), len(answers), parts(wanted, robot.tokens, robot.answers))


def parts(stamps: Collection[int], tokens: Sequence[SeenTokens],
          answers: Sequence[SeenAnswer]) -> dict[str, list[float]]:
    """Latencies in seconds by part, for the sets of messages with these stamps.

    The answer of a frame is the first that uses it.  `hops`: the remaining latency, from encoder to fusion
    and from fusion to this process.
    """
    found: dict[str, list[float]] = {}

    def add(part: str, value: float) -> None:
        found.setdefault(part, []).append(value)

    for seen in sorted(tokens, key=lambda entry: entry.modality):
        answer = first_answer(answers, seen.modality, seen.stamp_ns) if seen.stamp_ns in stamps else None
        if answer is None:
            continue
        total = (answer.arrived_ns - seen.stamp_ns) / SECOND
        add(f'{seen.modality}: stamp to encoder (transport)', seen.transport)
        add(f'{seen.modality}: encoder', seen.encoding)
        add(f'{seen.modality}: fusion, from tokens to answer', answer.waited)
        add(f'{seen.modality}: fusion, of which computing', answer.computed)
        add(f'{seen.modality}: hops', total - seen.transport - seen.encoding - answer.waited)
        add(f'{seen.modality}: stamp to answer', total)
    return found


def first_answer(answers: Sequence[SeenAnswer], modality: str, stamp_ns: int) -> SeenAnswer | None:
    """The first answer that uses the frame with this stamp; None if there is none."""
    return next((answer for answer in answers if answer.stamps.get(modality) == stamp_ns), None)


class _Robot:
    """Publishes sensor data and a question; records tokens and answers with their arrival times."""

    def __init__(self, node: Node, sensors: Sensors, rate: float) -> None:
        from mpnp_ros.msg import Answer, ModalityTokens, Question
        from rclpy.qos import QoSProfile, ReliabilityPolicy

        self.tokens: list[SeenTokens] = []
        self.answers: list[SeenAnswer] = []
        self.checks: list[Callable[[], None]] = []
        self._node, self._period, self._refusal = node, 1 / rate, ''
        self._streams = list(streams(node, sensors))
        self._question = node.create_publisher(Question, 'question', 10)
        node.create_subscription(Answer, 'answer', self._take_answer, 100)
        best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        for modality in MODALITIES:
            node.create_subscription(ModalityTokens, f'tokens/{modality}', self._take_tokens, best_effort)

    def is_encoded(self) -> bool:
        """Whether tokens of all modalities were received."""
        return {entry.modality for entry in list(self.tokens)} == set(MODALITIES)

    def is_heard(self) -> bool:
        """Whether the question topic has a subscriber."""
        return self._question.get_subscription_count() > 0

    def ask(self, question: str, choices: Sequence[str]) -> None:
        """Publish the standing question; repeated calls do not add questions."""
        from mpnp_ros.msg import Question

        self._question.publish(Question(id=ASKED, text=question, choices=list(choices), standing=True))

    def publish(self, seconds: float, what: str = '', done: Callable[[], object] | None = None) -> list[int]:
        """Publish sets for `seconds`, or until `done()`; returns the stamps in ns.

        Raises MpnpError with `what` if `done()` does not become true.
        """
        stamps: list[int] = []
        begun = time.monotonic()
        while (due := len(stamps) * self._period) < seconds:
            time.sleep(max(0., begun + due - time.monotonic()))
            if done and done():
                return stamps
            for check in self.checks:
                check()
            stamp = self._node.get_clock().now()
            for publisher, message in self._streams:
                message.header.stamp = stamp.to_msg()
                publisher.publish(message)
            stamps.append(stamp.nanoseconds)
        if done:
            raise MpnpError(f'{what}: not within {seconds:g} s{self._refusal}; start the nodes with '
                            '`mpnp bringup` and check their output')
        return stamps

    def _take_tokens(self, message: Any) -> None:
        from mpnp_ros.conversions.messages import to_nanoseconds

        self.tokens.append(SeenTokens(message.modality, to_nanoseconds(message.header.stamp),
                                      message.input_age, message.encode_duration))

    def _take_answer(self, message: Any) -> None:
        from mpnp_ros.conversions.messages import to_nanoseconds

        arrived, stamps = time.time_ns(), map(to_nanoseconds, message.modality_stamps)
        if message.status:
            self._refusal = f'; error of fusion: {message.error}'
            return
        self.answers.append(SeenAnswer(arrived, dict(zip(message.used_modalities, stamps, strict=True)),
                                       message.latency, message.compute_duration))


def streams(node: Node, sensors: Sensors) -> Iterator[tuple[Any, Any]]:
    """The publisher and message of every sensor."""
    from sensor_msgs.msg import CompressedImage, PointCloud2

    from mpnp_ros.conversions.images import from_encoded
    from mpnp_ros.conversions.pointclouds import Points, from_points

    for camera, image in sensors.images.items():
        yield node.create_publisher(CompressedImage, f'{camera}/image_rect/compressed', 5), from_encoded(
            image, camera)
    cloud = Points(sensors.points[:, :3], sensors.points[:, 3])
    yield node.create_publisher(PointCloud2, 'lidar_top', 5), from_points(cloud, 'lidar_top')


@contextmanager
def _running(specs: Sequence[ProcessSpec], checks: list[Callable[[], None]]) -> Iterator[None]:
    """Run processes; adds a check that raises MpnpError with their last output if one fails."""
    said: deque[str] = deque(maxlen=20)
    with Supervisor(specs, RestartPolicy(limit=0), write=lambda name, line: said.append(f'{name}: {line}')) \
            as supervisor:

        def alive() -> None:
            supervisor.poll()
            failed = [child.spec.name for child in supervisor.children if child.state == FAILED]
            if failed:
                raise MpnpError(f'{", ".join(failed)} failed:\n' + '\n'.join(said))

        checks.append(alive)
        yield
