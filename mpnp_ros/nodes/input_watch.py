"""Says why input does not come, comes in part, or has times that cannot be right; once a second.

Everything here is known from the graph, from what the middleware reports, and from the stamps.  What lasts
is a condition: on ``/diagnostics`` as long as it lasts, and in the log when it comes or changes.
"""
from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from mpnp_ros.errors import MpnpError
from mpnp_ros.nodes.adapted_subscription import AdaptedSubscription
from mpnp_ros.nodes.concerns import Concerns
from mpnp_ros.nodes.discovery import Topic, similar
from mpnp_ros.transport import PROFILE_VARIABLES, profile_file

if TYPE_CHECKING:
    from rclpy.node import Node

LOST = 0.05
"""Share of lost messages above which it is said."""
_SENSORS = re.compile(r'sensor_msgs/msg/(Image|Compressed|Camera|Point|Laser|MultiEcho)|Packet|livox|lidar|'
                      r'velodyne|ouster|radar|Radar|Image')
AHEAD = 1.0
"""Seconds that stamps may be ahead of the clock."""
STANDSTILL = 5.0
"""Seconds after which simulated time that does not move is said to stand still."""


class InputWatch:
    """Keeps the conditions of a node's inputs.

    conditions: where they are set.  candidates: of a graph's topics, those that the node could read.
    hint: how to name a topic by hand, such as "set `topic`".
    """

    def __init__(self, node: Node, conditions: Concerns, candidates: Callable[[Sequence[Topic]], list[str]],
                 hint: str) -> None:
        self._node, self._conditions, self._candidates, self._hint = node, conditions, candidates, hint
        self._shown: dict[str, float] = {}
        self._before: set[str] = set()
        self._time, self._moved, self._resumed = -1, time.monotonic(), 0.
        self._stands = False

    def inputs(self, subscriptions: Collection[AdaptedSubscription], arrivals: dict[str, float],
               absent_after: float) -> None:
        """Set what is amiss with each topic.

        arrivals: when the last message came of those that are watched for silence, monotonic clock.
        While simulated time stands still, as before a replay begins, nothing is silent.
        """
        now = self._moved if self._node.get_parameter('use_sim_time').value else time.monotonic()
        silent = [subscription for subscription in subscriptions if subscription.topic in arrivals
                  and max(arrivals[subscription.topic], self._resumed) < now - absent_after]
        graph = self.graph() if silent else []
        for subscription in subscriptions:
            topic = subscription.topic
            self._conditions.set(f'{topic} type', self._wrong_type(subscription))
            self._conditions.set(f'{topic} QoS', self._incompatible(subscription))
            self._conditions.set(f'{topic} losses', self._losses(subscription))
            amiss = subscription in silent and not subscription.others() and not subscription.incompatible()
            self._conditions.set(f'{topic} silent', self._silent(subscription, graph) if amiss else '')

    def stamps(self, topic: str, stamp_ns: int, age: float) -> None:
        """Say where the newest stamp of a topic is absent or of the future; age: s when it came."""
        text, clock = '', self._node.get_clock().now().nanoseconds
        if stamp_ns == 0:
            text = f'{topic}: header.stamp is zero; let the driver fill it in'
        elif age < -AHEAD and clock and self._lasts(f'{topic} ahead'):
            ahead = self.steady(f'{topic} ahead', -age)
            text = (f'{topic}: stamps are {seconds(ahead)} s ahead of the clock; check use_sim_time and that '
                    'the machines agree on the time')
        if age >= -AHEAD:
            self._ends(f'{topic} ahead')
        self._conditions.set(f'{topic} stamps', text)

    def clock(self) -> None:
        """Say where simulated time is asked for and does not run."""
        text, now = '', time.monotonic()
        if self._node.get_parameter('use_sim_time').value:
            moment = self._node.get_clock().now().nanoseconds
            moves = moment != self._time
            if moves:
                self._resumed = now if self._stands else self._resumed
                self._time, self._moved = moment, now
            elif now - self._moved >= STANDSTILL:
                text = ('simulated time stands still: nothing moves /clock'
                        if self._node.count_publishers('/clock') else
                        'use_sim_time is set but nothing publishes /clock; start what does, or set it false')
            self._stands = not moves
        self._conditions.set('clock', text)

    def twins(self) -> None:
        """Say where another node has this node's name."""
        name = self._node.get_fully_qualified_name()
        count = [f'{namespace.rstrip("/")}/{node}' for node, namespace
                 in self._node.get_node_names_and_namespaces()].count(name)
        lasts = count > 1 and self._lasts('twins')
        if count < 2:
            self._ends('twins')
        text = (f'{count} nodes are called {name}: their messages mix; end one, or give it another namespace '
                '(one that was killed is forgotten after 20 s)')
        self._conditions.set('twins', text if lasts else '')

    def graph(self) -> list[Topic]:
        """Return the topics of sensors that are published."""
        found = []
        for name, kinds in self._node.get_topic_names_and_types():
            if any(_SENSORS.search(kind) for kind in kinds):
                offers = self._node.get_publishers_info_by_topic(name)
                found += [Topic(name, kind) for kind in sorted({info.topic_type for info in offers})]
        return found

    def steady(self, key: str, value: float) -> float:
        """Return the value shown before while the new one is about the same: texts stay as they are."""
        shown = self._shown.get(key)
        if shown is None or abs(value - shown) > .25 * abs(shown):
            self._shown[key] = shown = value
        return shown

    def _silent(self, subscription: AdaptedSubscription, graph: Sequence[Topic]) -> str:
        topic = subscription.topic
        if subscription.publishers:
            return f'nothing comes on {topic}, though {names(subscription)} publishes it'
        there = similar(topic, (name for name in self._candidates(graph) if name != topic))
        others = f'; there is {", ".join(there)}: {self._hint}' if there else ''
        return f'nothing comes on {topic}: nothing publishes it{others}'

    def _wrong_type(self, subscription: AdaptedSubscription) -> str:
        others = subscription.others()
        if not others:
            return ''
        kinds = ', '.join(sorted({info.topic_type for info in others}))
        remedy = ''
        if kinds in ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'):
            remedy = f'; set transport: {"raw" if kinds.endswith("/Image") else "compressed"}'
        return (f'{subscription.topic} is {kinds} of {others[0].node_name}, and this node reads '
                f'{subscription.type_name}{remedy}')

    def _incompatible(self, subscription: AdaptedSubscription) -> str:
        found = subscription.incompatible()
        if not found:
            return ''
        info, reason = found[0]
        return (f'{subscription.topic}: nothing comes from {info.node_name}, which offers less than is asked '
                f'for ({reason}); change its quality of service, or qos_overrides of this node')

    def _losses(self, subscription: AdaptedSubscription) -> str:
        lost, total, span = subscription.losses()
        key = f'{subscription.topic} losses'
        if lost < 3 or lost < LOST * total or span < 2:
            self._shown.pop(key, None)
            return ''
        if (kept := self._conditions.text(key)) and abs(lost / total - self._shown.get(key, 2.)) < .25:
            return kept
        self._shown[key] = lost / total
        profile = ''
        with contextlib.suppress(MpnpError):
            profile = str(profile_file())
        return (f'{subscription.topic}: {lost} of {total} messages of the last {span:.0f} s were lost; '
                f'start {names(subscription)} with {PROFILE_VARIABLES[0]}={profile} (see `mpnp doctor`), '
                'let it offer reliable, or send compressed images')

    def _lasts(self, key: str) -> bool:
        """Whether this was so the last time too."""
        before = key in self._before
        self._before.add(key)
        return before

    def _ends(self, key: str) -> None:
        self._before.discard(key)


def seconds(value: float) -> str:
    """Return a number of seconds as people write it: 0.12, 3.4, 250, 1.7e9."""
    if abs(value) < 100_000:
        return f'{value:.2f}' if abs(value) < 1 else f'{value:.3g}' if abs(value) < 100 else f'{value:.0f}'
    mantissa, exponent = f'{value:.1e}'.split('e')
    return f'{mantissa}e{int(exponent)}'


def names(subscription: AdaptedSubscription) -> str:
    """Return the nodes that publish to a subscription."""
    return ', '.join(sorted({f'{info.node_namespace.rstrip("/")}/{info.node_name}'
                             for info in subscription.publishers})) or 'its publisher'
