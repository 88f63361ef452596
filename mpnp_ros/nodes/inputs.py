"""Inputs of an encoder node: subscriptions that adapt to their publishers, and a watch over them.

The watch checks once a second for missing messages, lost messages and wrong stamps, and names the cause.
Its sources are the ROS graph, the events of the middleware and the stamps.  A lasting problem is a condition:
it is on ``/diagnostics`` while it lasts, and in the log when it starts or changes.
"""
from __future__ import annotations

import contextlib
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSCompatibility, QoSPolicyKind, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions

from mpnp_ros.errors import MpnpError
from mpnp_ros.nodes.diagnostics import Concerns
from mpnp_ros.nodes.discovery import Topic, known_sensors, similar
from mpnp_ros.transport import PROFILE_VARIABLES, profile_file

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.node import Node
    from rclpy.topic_endpoint_info import TopicEndpointInfo

WINDOW = 10
"""Calls of :meth:`AdaptedSubscription.look`, one a second, over which losses are counted."""
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
_OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY)
LOST = 0.05
"""Share of lost messages above which losses are reported."""
_SENSOR_TYPES = re.compile(r'sensor_msgs/msg/(Image|Compressed|Camera|Point|Laser|MultiEcho)|Packet|livox|'
                           r'velodyne|ouster|Image|vision_msgs|MarkerArray|[Dd]etect')
"""Messages of sensors, beside those whose type names a sensor of this package."""
AHEAD = 1.0
"""Seconds by which stamps may be ahead of the clock."""
STANDSTILL = 5.0
"""Seconds after which constant simulated time is reported."""


class AdaptedSubscription:
    """A subscription with the reliability that its publishers offer.

    Best effort is compatible with every publisher, but it loses most large messages of a publisher that runs
    without the Fast DDS profile (transport.py): 124 of 150 raw images of 640 x 480 at 15 Hz, where the same
    subscription with reliable loses none.  So the subscription is reliable while all publishers of the topic
    are.

    Methods are called with the lock held.  Callbacks of the executor take it, so that they meet no change
    half done.
    callback: called with each message.  lost: called with the number of messages the middleware lost.
    topic: resolved name.  kind: class of the messages.  publishers: as of the last :meth:`look`.
    While one subscription takes the place of another both live for a second, so that no message is lost
    between them; a message that both receive counts once.
    """

    def __init__(self, node: Node, kind: type, topic: str, callback: Callable[[Any], None], *, depth: int,
                 group: CallbackGroup, lock: AbstractContextManager[Any],
                 lost: Callable[[int], None]) -> None:
        self.topic, self.kind = node.resolve_topic_name(topic), kind
        self.publishers: list[TopicEndpointInfo] = []
        self._node, self._given, self._callback = node, topic, callback
        self._depth, self._group, self._lock, self._lost = depth, group, lock, lost
        prefix = f'qos_overrides.{self.topic}.subscription.'
        self._overridden = {policy for policy in _OVERRIDABLE if f'{prefix}{policy.name.lower()}'
                            in node._parameter_overrides}  # rclpy has no public way to see what was given
        self._received = self._missed = 0
        self._history: deque[tuple[float, int, int]] = deque(maxlen=WINDOW + 1)
        self._heard: dict[Any, set[tuple[int, int]]] = {}
        self._retired: Any = None
        self.publishers = self._offers()
        self.reliable = self._all_reliable()
        self._subscription = self._subscribe()

    @property
    def type_name(self) -> str:
        """Type of the messages, such as ``sensor_msgs/msg/Image``."""
        return '/'.join((self.kind.__module__.split('.')[0], 'msg', self.kind.__name__))

    def look(self) -> None:
        """Look up the current publishers, adapt to them, and end a replaced subscription."""
        self._history.append((time.monotonic(), self._received, self._missed))
        if self._retired is not None:
            self._node.destroy_subscription(self._retired)
            self._retired = None
            self._heard.clear()
        if self._subscription is None:
            self._subscription = self._subscribe()
        self._adapt()

    def losses(self) -> tuple[int, int, float]:
        """Return (lost messages, all messages, seconds) of the last seconds."""
        if len(self._history) < 2:
            return 0, 0, 0.
        (since, received, missed), (now, all_received, all_missed) = self._history[0], self._history[-1]
        return all_missed - missed, all_received + all_missed - received - missed, now - since

    def others(self) -> list[TopicEndpointInfo]:
        """Return the publishers whose messages are of another type."""
        return [info for info in self.publishers if info.topic_type != self.type_name]

    def incompatible(self) -> list[tuple[TopicEndpointInfo, str]]:
        """Return the publishers with an incompatible offer, with the reason."""
        found = []
        for info in self.publishers if self._subscription is not None else ():
            verdict, reason = qos_check_compatible(info.qos_profile, self._subscription.qos_profile)
            if info.topic_type == self.type_name and verdict == QoSCompatibility.ERROR:
                found.append((info, reason.removeprefix('ERROR: ').rstrip(';. ')))
        return found

    def retype(self, kind: type) -> None:
        """Read messages of another type from the next :meth:`look` on.

        A process can have only one type on a topic, and the executor may still hold the subscription.
        """
        self.kind = kind
        self.destroy()

    def destroy(self) -> None:
        """Unsubscribe."""
        for subscription in (self._retired, self._subscription):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._retired = self._subscription = None

    def _offers(self) -> list[TopicEndpointInfo]:
        return self._node.get_publishers_info_by_topic(self.topic)

    def _all_reliable(self) -> bool:
        offers = [info.qos_profile.reliability for info in self.publishers]
        return bool(offers) and all(offer == RELIABLE for offer in offers)

    def _adapt(self) -> None:
        self.publishers = self._offers()
        if self._subscription is not None and self.publishers and self._all_reliable() != self.reliable \
                and QoSPolicyKind.RELIABILITY not in self._overridden:
            if self._retired is not None:
                self._node.destroy_subscription(self._retired)
            self._retired, self.reliable = self._subscription, self._all_reliable()
            self._subscription = self._subscribe()
            self._history.clear()

    def _subscribe(self) -> Any:
        qos = QoSProfile(depth=self._depth, reliability=RELIABLE if self.reliable else BEST_EFFORT)
        token = object()

        def is_alive() -> bool:
            return subscription in (self._subscription, self._retired)

        def take(message: Any) -> None:
            with self._lock:
                if not is_alive():  # destroyed between the arrival and this call
                    return
                if self._retired is not None and hasattr(message, 'header'):  # two subscriptions are alive
                    stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
                    if any(stamp in heard for other, heard in self._heard.items() if other is not token):
                        return
                    self._heard.setdefault(token, set()).add(stamp)
                self._received += 1
                self._callback(message)

        def count_lost(event: Any) -> None:
            with self._lock:
                self._missed += event.total_count_change
                self._lost(event.total_count_change)

        def adapt(event: Any) -> None:
            with self._lock:
                if is_alive():
                    self._adapt()

        events = SubscriptionEventCallbacks(incompatible_qos=adapt, message_lost=count_lost)
        subscription = self._node.create_subscription(
            self.kind, self._given, take, qos, callback_group=self._group, event_callbacks=events,
            qos_overriding_options=QoSOverridingOptions(self._overridden))
        return subscription


class InputWatch:
    """Keeps the conditions of a node's inputs.

    conditions: receives them.  candidates: selects the topics of a graph that the node can read.
    hint: how to set a topic by hand, such as "set `topic`".
    """

    def __init__(self, node: Node, conditions: Concerns, candidates: Callable[[Sequence[Topic]], list[str]],
                 hint: str) -> None:
        self._node, self._conditions, self._candidates, self._hint = node, conditions, candidates, hint
        self._shown: dict[str, float] = {}
        self._before: set[str] = set()
        self._time, self._moved, self._resumed = -1, time.monotonic(), 0.
        self._stands = False

    def inputs(self, subscriptions: Collection[AdaptedSubscription], arrivals: dict[str, float],
               input_timeout: float) -> None:
        """Set the conditions of each topic.

        arrivals: arrival of the last message of each topic that is watched for silence, monotonic clock.
        While simulated time is constant, as before a replay starts, no topic counts as silent.
        """
        now = self._moved if self._node.get_parameter('use_sim_time').value else time.monotonic()
        silent = [subscription for subscription in subscriptions if subscription.topic in arrivals
                  and max(arrivals[subscription.topic], self._resumed) < now - input_timeout]
        graph = self.graph() if silent else []
        for subscription in subscriptions:
            topic = subscription.topic
            self._conditions.set(f'{topic} type', self._wrong_type(subscription))
            self._conditions.set(f'{topic} QoS', self._incompatible(subscription))
            self._conditions.set(f'{topic} losses', self._losses(subscription))
            amiss = subscription in silent and not subscription.others() and not subscription.incompatible()
            self._conditions.set(f'{topic} silent', self._silent(subscription, graph) if amiss else '')

    def stamps(self, topic: str, stamp_ns: int, age: float) -> None:
        """Report a newest stamp that is zero or in the future; age: s at its arrival."""
        text, clock = '', self._node.get_clock().now().nanoseconds
        if stamp_ns == 0:
            text = f'{topic}: header.stamp is zero; the driver must set it'
        elif age < -AHEAD and clock and self._lasts(f'{topic} ahead'):
            ahead = self.steady(f'{topic} ahead', -age)
            text = (f'{topic}: stamps are {seconds(ahead)} s ahead of the clock; check use_sim_time and that '
                    'the clocks of the machines are synchronised')
        if age >= -AHEAD:
            self._ends(f'{topic} ahead')
        self._conditions.set(f'{topic} stamps', text)

    def clock(self) -> None:
        """Report simulated time that is enabled but does not advance."""
        text, now = '', time.monotonic()
        if self._node.get_parameter('use_sim_time').value:
            moment = self._node.get_clock().now().nanoseconds
            moves = moment != self._time
            if moves:
                self._resumed = now if self._stands else self._resumed
                self._time, self._moved = moment, now
            elif now - self._moved >= STANDSTILL:
                text = ('simulated time does not advance: /clock is constant or has no messages'
                        if self._node.count_publishers('/clock') else
                        'use_sim_time is true but /clock has no publisher; start one, or set it to false')
            self._stands = not moves
        self._conditions.set('clock', text)

    def twins(self) -> None:
        """Report another node of the same name."""
        name = self._node.get_fully_qualified_name()
        count = [f'{namespace.rstrip("/")}/{node}' for node, namespace
                 in self._node.get_node_names_and_namespaces()].count(name)
        lasts = count > 1 and self._lasts('twins')
        if count < 2:
            self._ends('twins')
        text = (f'{count} nodes are called {name}: their messages mix; stop one or change its namespace '
                '(a killed node disappears from the graph after 20 s)')
        self._conditions.set('twins', text if lasts else '')

    def graph(self) -> list[Topic]:
        """Return the published sensor topics."""
        found = []
        for name, kinds in self._node.get_topic_names_and_types():
            if any(_SENSOR_TYPES.search(kind) or any(sensor in kind.lower() for sensor in known_sensors())
                   for kind in kinds):
                found += [Topic(name, kind) for kind in self._published(name, kinds)]
        return found

    def _published(self, topic: str, kinds: Sequence[str]) -> Sequence[str]:
        """Return those of the types of a topic that have a publisher.

        To count the publishers is cheaper than to ask who they are.
        """
        if len(kinds) == 1:
            return kinds if self._node.count_publishers(topic) else ()
        return sorted({info.topic_type for info in self._node.get_publishers_info_by_topic(topic)})

    def steady(self, key: str, value: float) -> float:
        """Return the value shown last while the new one is within 25 %, so that texts do not flicker."""
        shown = self._shown.get(key)
        if shown is None or abs(value - shown) > .25 * abs(shown):
            self._shown[key] = shown = value
        return shown

    def _silent(self, subscription: AdaptedSubscription, graph: Sequence[Topic]) -> str:
        topic = subscription.topic
        if subscription.publishers:
            return f'no messages on {topic}, which {names(subscription)} publishes'
        there = similar(topic, (name for name in self._candidates(graph) if name != topic))
        others = f'; similar: {", ".join(there)}: {self._hint}' if there else ''
        return f'no messages on {topic}: no publisher{others}'

    def _wrong_type(self, subscription: AdaptedSubscription) -> str:
        others = subscription.others()
        if not others:
            return ''
        kinds = ', '.join(sorted({info.topic_type for info in others}))
        remedy = ''
        if kinds in ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'):
            remedy = f'; set transport: {"raw" if kinds.endswith("/Image") else "compressed"}'
        return (f'{subscription.topic}: type mismatch: {others[0].node_name} publishes {kinds}, this node '
                f'subscribes to {subscription.type_name}{remedy}')

    def _incompatible(self, subscription: AdaptedSubscription) -> str:
        found = subscription.incompatible()
        if not found:
            return ''
        info, reason = found[0]
        return (f'{subscription.topic}: QoS mismatch: {info.node_name} offers less than this node requests '
                f'({reason}); change its QoS, or qos_overrides of this node')

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
        return (f'{subscription.topic}: {lost} of {total} messages lost in the last {span:.0f} s; '
                f'start {names(subscription)} with {PROFILE_VARIABLES[0]}={profile} (see `mpnp doctor`), '
                'publish reliably, or publish compressed images')

    def _lasts(self, key: str) -> bool:
        """Return whether the problem was there in the last check too."""
        before = key in self._before
        self._before.add(key)
        return before

    def _ends(self, key: str) -> None:
        self._before.discard(key)


def seconds(value: float) -> str:
    """Return seconds as text with about three digits: 0.12, 3.4, 250, 1.7e9."""
    if abs(value) < 100_000:
        return f'{value:.2f}' if abs(value) < 1 else f'{value:.3g}' if abs(value) < 100 else f'{value:.0f}'
    mantissa, exponent = f'{value:.1e}'.split('e')
    return f'{mantissa}e{int(exponent)}'


def names(subscription: AdaptedSubscription) -> str:
    """Return the full names of the nodes that publish to a subscription."""
    return ', '.join(sorted({f'{info.node_namespace.rstrip("/")}/{info.node_name}'
                             for info in subscription.publishers})) or 'its publisher'
