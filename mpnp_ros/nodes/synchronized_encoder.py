"""What encoder nodes of several sensors share: what the sensors saw at one moment is encoded together."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rclpy.clock import Clock, ClockType

from mpnp_ros.conversions.time import SECOND
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.nodes.encoder_node import EncoderNode, Input
from mpnp_ros.nodes.parameters import Change, Parameter, topic_problem
from mpnp_ros.nodes.synchronizer import Synchronizer


def set_parameters(things: str, slop: float, timeout: float) -> tuple[Parameter, ...]:
    """Return the parameters of a set of `things`, such as images, with their defaults in seconds."""
    return (Parameter('slop', slop, f'Largest difference of the stamps within a set of {things}.', 's', 0.0,
                      10.0, change=Change.ACTIVATE),
            Parameter('timeout', timeout, f'How long a set waits for the {things} that are missing.', 's',
                      0.0, 10.0, change=Change.ACTIVATE))


class SynchronizedEncoder(EncoderNode):
    """Groups messages of one moment; a sensor that is absent is left out.

    A subclass has :func:`set_parameters` and calls :meth:`gather` in :meth:`start`.
    """

    def __init__(self, modality: str, table: Sequence[Parameter]) -> None:
        super().__init__(modality, table)
        self._sources = 0
        self._synchronizer: Synchronizer[Input] | None = None
        self._timer: Any = None

    def gather(self, kind: type, topics: Mapping[str, str]) -> None:
        """Subscribe to the topic of every sensor; what is of one moment is submitted together."""
        values = self.values
        spans = (round(SECOND * value) for value in (values.slop, values.timeout, values.absent_after))
        self._sources = len(topics)
        self._synchronizer = Synchronizer(topics, *spans, ready=self._ready,
                                          superseded=lambda item: self.supersede([item]))
        for source, topic in topics.items():
            self.expect(topic)
            self.listen(kind, topic, self._callback(source))
        self._timer = self.create_timer(max(0.01, values.timeout / 5), self._poll,
                                        callback_group=self.inputs_group,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stop(self) -> None:
        """Unsubscribe; messages that wait count as superseded."""
        if self._timer:
            self.destroy_timer(self._timer)
            self._timer = None
        if self._synchronizer:
            self._synchronizer.close()
        super().stop()

    def _callback(self, source: str) -> Any:
        def callback(topic: str, message: Any) -> None:
            item = self.receive(topic, source, message)
            self._synchronizer.add(source, item.stamp_ns, item, self.get_clock().now().nanoseconds)
        return callback

    def _poll(self) -> None:
        self._synchronizer.poll(self.get_clock().now().nanoseconds)

    def _ready(self, items: Mapping[str, Input]) -> None:
        if len(items) < self._sources:
            self.diagnostics.count('partial sets')
        self.submit(tuple(items.values()))


def topics_problem(sensor: str, names: Sequence[str], pattern: str, key: str) -> str:
    """Return why :func:`topics_of` these is not possible, or which is no topic; empty where all is well."""
    try:
        topics = topics_of(sensor, names, pattern, key)
    except ConfigurationError as error:
        return str(error)
    problems = (topic_problem(f'{key} of {name}', topic) for name, topic in topics.items())
    return next(filter(None, problems), '')


def topics_of(sensor: str, names: Sequence[str], pattern: str, key: str) -> dict[str, str]:
    """Return the topic of each sensor by its name: `pattern` with the name in place of {sensor}.

    sensor: such as camera, where the parameter `cameras` has the names and the parameter `key` the pattern.
    Raises ConfigurationError unless there are sensors and each has a topic of its own.
    """
    topics = {name: pattern.replace(f'{{{sensor}}}', name) for name in names}
    if not names or len(set(topics.values())) < len(names):
        raise ConfigurationError(f'{sensor}s is {list(names)} and {key} is {pattern!r}: give at least one '
                                 f'{sensor}, each its own name, and a topic with {{{sensor}}} in it')
    return topics
