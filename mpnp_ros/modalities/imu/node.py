"""Node: encodes the readings of an IMU to tokens of own motion."""
from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sensor_msgs.msg import Imu

from mpnp_ros.conversions.imu import to_reading
from mpnp_ros.errors import ImuError, MpnpError
from mpnp_ros.modalities.imu.config import ImuConfig
from mpnp_ros.modalities.imu.features import SHORTEST
from mpnp_ros.modalities.imu.frames import ImuFrame, ReadingBuffer
from mpnp_ros.modalities.imu.health import ImuLimits
from mpnp_ros.nodes.discovery import IMU, FoundSensor, FoundSensors, Topic, find_imus, sensor_name
from mpnp_ros.nodes.encoder_node import EncoderNode, EncoderOptions, Input
from mpnp_ros.nodes.parameters import topic_problem
from mpnp_ros.options import Change, option
from mpnp_ros.tokens import SECOND

BACK = 1.0
"""Seconds by which a stamp is back when time has begun again."""


@dataclass(frozen=True)
class ImuOptions(EncoderOptions):
    """Parameters of the IMU encoder node."""

    topic: str = option(
        '', 'topic of the readings; empty: that of the IMU that publishes below the namespace of the node, '
            'as soon as it does', change=Change.ACTIVATE)
    sensor: str = option('', 'name of the sensor in the tokens; empty: as its topic is called',
                         change=Change.LIVE)
    depth: int = option(200, 'queue depth of the subscription', low=1, high=10000, change=Change.ACTIVATE)
    period: float = option(0.5, 'time from tokens to tokens, by the stamps of the readings', unit='s',
                           low=0.02, high=60.0, change=Change.LIVE)
    memory: float = option(
        120.0, 'time over which readings are kept: in it the direction ahead, biases and the speed are found',
        unit='s', low=5.0, high=600.0, change=Change.ACTIVATE)
    encoder: ImuConfig = option(ImuConfig(), 'the encoder', change=Change.CONFIGURE)
    health: ImuLimits = option(ImuLimits(), 'how good the input is', change=Change.CONFIGURE)

    def check(self) -> Iterator[str]:
        """The topic must be one."""
        if self.topic and (problem := topic_problem('topic', self.topic)):
            yield problem


class ImuNode(EncoderNode):
    """Keeps the newest readings, and encodes them once in a period.

    A reading counts as encoded when it is kept: every frame has all that are.
    """

    MODALITY, OPTIONS = 'imu', ImuOptions
    HINT = 'set `topic`'

    def __init__(self) -> None:
        super().__init__()
        self._named = ''
        self._others: list[str] = []
        self._keeping = threading.Lock()
        self._buffer = ReadingBuffer(ImuOptions.memory)
        self._due_ns = 0
        self._found = FoundSensors(
            self, 'an IMU', 'topic', (IMU,), kin='imu|inertial|gyro|accel', find=self._choose, same=str,
            read=self._read, leave=lambda imu: self.forget(imu.topic))

    @property
    def discovers(self) -> bool:
        """Return whether no parameter names a topic."""
        return not self.values.topic

    def start(self) -> None:
        """Subscribe to the topic named by the parameter."""
        super().start()
        self._buffer, self._due_ns = ReadingBuffer(self.values.memory), 0
        if topic := self.values.topic:
            self._read(FoundSensor(sensor_name(topic, kind='imu'), topic))

    def stop(self) -> None:
        """Unsubscribe."""
        super().stop()
        self._found.clear()

    def discover(self, graph: Sequence[Topic]) -> None:
        """Subscribe to the discovered IMU."""
        self._found.follow(graph, graph, {})

    def readable(self, graph: Sequence[Topic]) -> list[str]:
        """Return the topics of IMUs."""
        return [imu.topic for imu in find_imus(graph)]

    def part(self, item: Input) -> ImuFrame:
        """Return the readings so far, with the mounting where it is known."""
        base, mounts = self.values.base_frame, self.mounts
        assert mounts is not None  # the encoder is loaded
        pose = mounts.pose(item.source, item.message.header.frame_id, base,
                           'its axes are found from its readings')
        if pose is None:
            self.concerns.set(f'{item.source} mount', self.concerns.text(f'{item.source} mount'), quality=1.0)
        with self._keeping:
            frame = self._buffer.frame(item.source, None if pose is None else pose[:3, :3], base)
        if len(frame) < 2:
            raise ImuError(f'{item.source}: fewer than 2 readings since the IMU was found')
        return frame

    def frame(self, parts: Sequence[ImuFrame]) -> ImuFrame:
        """Return the frame."""
        return parts[0]

    def _choose(self, graph: Sequence[Topic], namespace: str, read: Mapping[str, str]) -> list[FoundSensor]:
        """Return the likeliest IMU, or the one that is read."""
        found = find_imus(graph, namespace)
        kept = next((imu for imu in found if imu.topic in read), None) or next(iter(found), None)
        self._others = [imu.topic for imu in found if imu is not kept]
        return [kept] if kept else []

    def _read(self, imu: FoundSensor) -> None:
        self._named = imu.name
        if self._others:
            log = self.get_logger()  # type: ignore[no-untyped-call]  # rclpy does not annotate it
            log.info(f'several IMUs found: reading {imu.topic}, not {", ".join(self._others)}; set `topic` '
                     'to read another')
        with self._keeping:
            self._buffer.clear()
        self.expect(imu.topic)
        self.listen(Imu, imu.topic, self._receive)

    def _receive(self, topic: str, message: Any) -> None:
        item = self.receive(topic, self.values.sensor or self._named, message)
        try:
            due = self._keep(item)
        except MpnpError as error:
            self.reject(item, error)
            return
        if due:
            self.submit((item,))
        else:
            self.tally.settle([topic], 'encoded')

    def _keep(self, item: Input) -> bool:
        """Keep a reading; returns whether a frame is due.  Raises ImuError for a reading that is not kept."""
        reading, stamp = to_reading(item.message), item.stamp_ns
        with self._keeping:
            if len(self._buffer) and stamp <= self._buffer.newest_ns:
                late = (self._buffer.newest_ns - stamp) / SECOND
                if late < BACK:
                    raise ImuError(f'the stamp of a reading is {late:.3f} s before that of the last one; '
                                   'stamps must rise')
                self._buffer.clear()  # time has begun again
                self._due_ns = 0
            if not len(self._buffer):
                self._due_ns = stamp + round(SHORTEST * SECOND)
            self._buffer.add(stamp, reading)
            if stamp < self._due_ns:
                return False
            period = round(self.values.period * SECOND)
            self._due_ns = max(self._due_ns + period, stamp + period // 2)
        return True
