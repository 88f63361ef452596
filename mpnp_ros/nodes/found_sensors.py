"""Keeps an encoder node subscribed to discovered sensors, if no parameter names topics."""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mpnp_ros.nodes.discovery import Sensor, Topic, below, device_of, similar

if TYPE_CHECKING:
    from mpnp_ros.nodes.encoder_node import EncoderNode

Find = Callable[[Sequence[Topic], str, Mapping[str, str]], list[Sensor]]


class FoundSensors:
    """Discovered sensors that the node reads.

    things: their name in messages, such as ``cameras``.  parameter: names their topic.  types: of their
    messages.
    kin: recognises by name and type a topic of such a sensor in another form.  find: (topics, namespace,
    settled names) -> sensors.  read, leave: start and stop reading one.  same: key that is equal for two
    topics of one sensor.
    """

    def __init__(self, node: EncoderNode, things: str, parameter: str, types: Sequence[str], *, kin: str,
                 find: Find, read: Callable[[Sensor], None], leave: Callable[[Sensor], None],
                 same: Callable[[str], object] = device_of) -> None:
        self._node, self._things, self._parameter, self._types = node, things, parameter, types
        self._kin = re.compile(kin, re.IGNORECASE)
        self._find, self._read, self._leave, self._same = find, read, leave, same
        self._before: set[str] | None = None
        self._read_now: dict[str, Sensor] = {}

    def clear(self) -> None:
        """Stop reading all sensors and start again."""
        self._before = None
        self._read_now.clear()

    def follow(self, graph: Sequence[Topic], topics: Sequence[Topic], named: Mapping[str, str]) -> None:
        """Read sensors found in two consecutive checks; graph: all topics.  topics: candidates.

        named: settled names, by topic.
        """
        namespace = self._node.get_namespace()
        names = {**named, **{sensor.topic: sensor.name for sensor in self._read_now.values()}}
        found = self._find(topics, namespace, names)
        settled = [sensor for sensor in found if self._before is not None and sensor.topic in self._before]
        published = {topic.name for topic in graph}
        new = []
        for sensor in settled:
            key = self._same(sensor.topic)
            known = next((other for other in self._read_now.values() if self._same(other.topic) == key), None)
            if known is None or known.topic not in published:
                new.append(replace(sensor, name=known.name) if known else sensor)
        devices = {self._same(sensor.topic) for sensor in found}
        replaced = {sensor.name for sensor in new}
        for sensor in list(self._read_now.values()):
            another = sensor.topic in published and self._same(sensor.topic) not in devices
            if sensor.name in replaced or (another and settled):
                self._leave(self._read_now.pop(sensor.name))
        for sensor in new:
            self._read(sensor)
            self._read_now[sensor.name] = sensor
        if new:
            said = ', '.join(f'{sensor.name} on {sensor.topic}' for sensor in self._read_now.values())
            self._node.get_logger().info(
                f'found {self._things}: {said}; `{self._parameter}` names others by hand')
        nothing = not self._read_now and self._before is not None and not found
        self._node.conditions.set('discovery', self._nothing(graph, namespace) if nothing else '')
        self._before = {sensor.topic for sensor in found}

    def _nothing(self, graph: Sequence[Topic], namespace: str) -> str:
        """Return that no sensor is found, with similar topics."""
        kinds = ' or '.join(self._types)
        inside = '' if namespace == '/' else f' below {namespace}'
        text = f'no topic of {self._things} found{inside}'
        likely = [topic for topic in graph if topic.type in self._types]
        if not likely:
            other = [topic for topic in graph if self._kin.search(f'{topic.name} {topic.type}')]
            shown = ', '.join(f'{topic.name} ({topic.type})' for topic in other[:3])
            return f'{text}; {shown} cannot be read: publish {kinds}' if other else \
                f'{text}; no publisher of {kinds}: start the driver'
        within = below(likely, namespace) or likely
        shown = similar('/'.join((namespace.rstrip('/'), self._things)), {topic.name for topic in within})
        kind = {topic.name: topic.type for topic in within}
        listed = ', '.join(f'{name} ({kind[name]})' for name in shown)
        more = f' and {len(kind) - len(shown)} more' if len(kind) > len(shown) else ''
        return f'{text}; similar: {listed}{more}: set `{self._parameter}` to read one'


def matching(topics: Sequence[Topic], pattern: str, sensor: str, namespace: str) -> dict[str, str]:
    """Return the topics that match a pattern with {sensor}, and the sensor names."""
    absolute = pattern if pattern.startswith('/') else f'{namespace.rstrip("/")}/{pattern}'
    before, _, after = absolute.partition(f'{{{sensor}}}')
    after = re.escape(after).replace(re.escape(f'{{{sensor}}}'), '(?P=name)')
    form = re.compile(f'{re.escape(before)}(?P<name>[^/]+){after}')
    return {topic.name: match['name'] for topic in topics if (match := form.fullmatch(topic.name))}
