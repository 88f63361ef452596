"""Base of encoder nodes with several sensors: messages of one moment are encoded together."""
from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.nodes.encoder_node import EncoderNode, Input
from mpnp_ros.nodes.inputs import seconds
from mpnp_ros.nodes.parameters import topic_problem
from mpnp_ros.nodes.synchronizer import Misfit, Synchronizer
from mpnp_ros.nodes.worker import Alarm
from mpnp_ros.options import Change, option
from mpnp_ros.tokens import SECOND


def slop_option(things: str, default: float) -> Any:
    """Declare the parameter ``slop`` of a node that groups `things`, such as images; default in seconds."""
    return option(default, f'largest difference of the stamps within a set of {things}', unit='s', low=0.0,
                  high=10.0, change=Change.ACTIVATE)


def timeout_option(things: str, default: float) -> Any:
    """Declare the parameter ``timeout`` of a node that groups `things`; default in seconds."""
    return option(default, f'time that a set waits for missing {things}', unit='s', low=0.0,
                  high=10.0, change=Change.ACTIVATE)


class SynchronizedEncoder(EncoderNode):
    """Groups messages of one moment; absent sensors are omitted.

    A subclass has the parameters ``slop`` and ``timeout``, calls :meth:`begin` in :meth:`start`, and then
    :meth:`join` for each sensor, at any time.
    """

    _synchronizer: Synchronizer[Input]

    def __init__(self) -> None:
        super().__init__()
        self.joined: dict[str, str] = {}
        """Topic of each sensor that is read, as given."""
        self._alarm: Alarm | None = None
        self._misfits: dict[str, Misfit] = {}

    def begin(self) -> None:
        """Start grouping, at first without sensors."""
        values = self.values
        spans = (round(SECOND * value) for value in (values.slop, values.timeout, values.input_timeout))
        self._synchronizer = Synchronizer((), *spans, ready=self._ready,
                                          superseded=lambda item: self.supersede([item]))
        self._alarm = Alarm(f'{self.get_name()} sets', self._synchronizer.deadline,
                            lambda: self._synchronizer.poll(time.monotonic_ns()),
                            failed=self._warn_unexpected)

    def join(self, source: str, kind: type, topic: str) -> None:
        """Subscribe to the topic of a sensor; messages of one moment are submitted together."""
        def take(topic: str, message: Any) -> None:
            item, alarm = self.receive(topic, source, message), self._alarm
            self._synchronizer.add(source, item.stamp_ns, item, time.monotonic_ns(),
                                   self.get_clock().now().nanoseconds)
            if alarm:
                alarm.look()

        self.joined[source] = topic
        self._synchronizer.join(source)
        self.expect(topic)
        self.listen(kind, topic, take)

    def leave(self, source: str) -> None:
        """Stop reading a sensor."""
        self.forget(self.joined.pop(source))
        self._synchronizer.leave(source)
        self.concerns.clear(f'{source} ')

    def stop(self) -> None:
        """Unsubscribe; waiting messages count as superseded."""
        if self._alarm:
            self._alarm.stop()
            self._alarm = None
            self._synchronizer.close()
        super().stop()
        self.joined.clear()

    def check(self) -> None:
        """Report sensors that match no others in two consecutive checks, and why."""
        before, self._misfits = self._misfits, self._synchronizer.misfits()
        for source in self.joined:
            misfit, text = self._misfits.get(source) if source in before else None, ''
            if misfit:
                offset = self.watch.steady(f'{source} set', misfit.offset_ns / SECOND)
                others = f'the other {self.modality}{"s" if len(self.joined) > 2 else ""}'
                side = 'behind' if offset > 0 else 'ahead of'
                text = (f'{source}: stamps are {seconds(abs(offset))} s {side} {others}, so it is left out; '
                        'check its clock') if misfit.clock else \
                       (f'{source}: its messages are {seconds(offset)} s away from those of {others} at '
                        f'best, and slop is {self.values.slop:g} s; raise slop, or trigger them together')
            self.concerns.set(f'{source} set', text, quality=1.)

    def _ready(self, items: Mapping[str, Input]) -> None:
        if len(items) < len(self.joined):
            self.diagnostics.count('partial sets')
        self.submit(tuple(items.values()))


def topics_problem(sensor: str, names: Sequence[str], pattern: str, key: str) -> str:
    """Return why :func:`topics_of` these is not possible, or which is no topic; empty where all is well.

    names: none where sensors are to be found, and the pattern only has to be one.
    """
    try:
        topics = topics_of(sensor, names or [sensor], pattern, key)
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
