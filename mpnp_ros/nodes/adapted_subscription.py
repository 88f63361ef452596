"""A subscription with the reliability that its publishers offer.

Best effort is compatible with every publisher, but it loses most large messages of a publisher that runs
without the Fast DDS profile (transport.py): 124 of 150 raw images of 640 x 480 at 15 Hz, where the same
subscription with reliable loses none.  So the subscription is reliable while all publishers of the topic are.
"""
from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSCompatibility, QoSPolicyKind, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.node import Node
    from rclpy.topic_endpoint_info import TopicEndpointInfo

WINDOW = 10
"""Calls of :meth:`AdaptedSubscription.look`, one a second, over which losses are counted."""
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
_OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY)


class AdaptedSubscription:
    """Subscribes to ``topic`` of ``node``; every method is called in the callback group, or alone.

    callback: called with each message.  lost: called with the number of messages the middleware lost.
    topic: resolved name.  kind: class of the messages.  publishers: as of the last :meth:`look`.
    While one subscription takes the place of another both live for a second, so that nothing falls between
    them; what both hear counts once.
    """

    def __init__(self, node: Node, kind: type, topic: str, callback: Callable[[Any], None], *, depth: int,
                 group: CallbackGroup, lost: Callable[[int], None]) -> None:
        self.topic, self.kind = node.resolve_topic_name(topic), kind
        self.publishers: list[TopicEndpointInfo] = []
        self._node, self._given, self._callback = node, topic, callback
        self._depth, self._group, self._lost = depth, group, lost
        self._overridden = {policy for policy in _OVERRIDABLE if self._override(policy)
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

        A process can have one type on a topic only, and the executor may hold the subscription yet.
        """
        self.kind = kind
        self.destroy()

    def destroy(self) -> None:
        """Unsubscribe."""
        for subscription in (self._retired, self._subscription):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._retired = self._subscription = None

    def _override(self, policy: QoSPolicyKind) -> str:
        return f'qos_overrides.{self.topic}.subscription.{policy.name.lower()}'

    def _offers(self) -> list[TopicEndpointInfo]:
        return self._node.get_publishers_info_by_topic(self.topic)

    def _all_reliable(self) -> bool:
        offers = [info.qos_profile.reliability for info in self.publishers]
        return bool(offers) and all(offer == RELIABLE for offer in offers)

    def _adapt(self) -> None:
        self.publishers = self._offers()
        if self._subscription is not None and self.publishers and self._all_reliable() != self.reliable \
                and QoSPolicyKind.RELIABILITY not in self._overridden:
            self._replace()

    def _replace(self) -> None:
        if self._retired is not None:
            self._node.destroy_subscription(self._retired)
        self._retired, self.reliable = self._subscription, self._all_reliable()
        self._subscription = self._subscribe()
        self._history.clear()

    def _subscribe(self) -> Any:
        qos = QoSProfile(depth=self._depth, reliability=RELIABLE if self.reliable else BEST_EFFORT)
        token = object()
        events = SubscriptionEventCallbacks(incompatible_qos=lambda event: self._adapt(),
                                            message_lost=self._count_lost)
        return self._node.create_subscription(
            self.kind, self._given, lambda message: self._take(token, message), qos,
            callback_group=self._group, event_callbacks=events,
            qos_overriding_options=QoSOverridingOptions(self._overridden))

    def _take(self, token: object, message: Any) -> None:
        if self._retired is not None and hasattr(message, 'header'):
            stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
            if any(stamp in heard for other, heard in self._heard.items() if other is not token):
                return
            self._heard.setdefault(token, set()).add(stamp)
        self._received += 1
        self._callback(message)

    def _count_lost(self, event: Any) -> None:
        self._missed += event.total_count_change
        self._lost(event.total_count_change)
