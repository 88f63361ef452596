"""Base of the encoder nodes: from received messages to published tokens.

Callbacks only count a message and pass it on; converting and encoding happen on one worker thread, and the
newest frame wins.  Every message ends as encoded, superseded by a newer one, or rejected with a reason;
``/diagnostics`` shows these counts for every topic.
"""
from __future__ import annotations

import dataclasses
import gc
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos_overriding_options import QoSOverridingOptions

from mpnp_ros.conversions.messages import to_message, to_nanoseconds
from mpnp_ros.endpoints import LATCHED, SENSOR_DATA, qos_profile
from mpnp_ros.errors import MpnpError
from mpnp_ros.modalities.health import Health, Judge
from mpnp_ros.modalities.registry import create_encoder, create_judge
from mpnp_ros.msg import EncoderInfo
from mpnp_ros.msg import ModalityTokens as TokensMessage
from mpnp_ros.nodes.diagnostics import Concerns
from mpnp_ros.nodes.discovery import Topic
from mpnp_ros.nodes.inputs import AdaptedSubscription, InputWatch
from mpnp_ros.nodes.runtime import SUCCESS, ManagedNode, ManagedOptions, set_threads
from mpnp_ros.nodes.transforms import Mounts
from mpnp_ros.nodes.worker import LatestWorker, MessageCounters, Ticker
from mpnp_ros.options import Change, option
from mpnp_ros.tokens import SECOND, ModalityTokens

WATCH_PERIOD = 1.0
"""Seconds between two checks of the graph."""


@dataclass(frozen=True)
class EncoderOptions(ManagedOptions):
    """Parameters that every encoder node has.

    A node adds its own, the section ``encoder``, and ``health`` where frames are judged.
    """

    base_frame: str = option(
        'base_link', 'frame in which directions are expressed: x ahead, y left', change=Change.LIVE)
    depth: int = option(
        5, 'queue depth of each subscription', low=1, high=100, change=Change.ACTIVATE)
    threads: int = option(
        0, 'threads of the network on a CPU; 0: half of the cores', low=0, high=256, change=Change.CONFIGURE)
    input_timeout: float = option(
        2.0, 'time without messages after which a set does not wait for an input', unit='s', low=0.1,
        high=60.0, change=Change.ACTIVATE)


@dataclass(frozen=True, eq=False)
class Input:
    """One message of one input.

    topic: resolved name.  source: name of the view or sensor.  arrived: s, monotonic clock.
    age: s between the sensor's stamp and the arrival.
    """

    topic: str
    source: str
    message: Any
    arrived: float
    age: float

    @property
    def stamp_ns(self) -> int:
        """Return the sensor time."""
        return to_nanoseconds(self.message.header.stamp)


class EncoderNode(ManagedNode):
    """Base of the encoder nodes.

    A subclass names its sensor and its parameters.  It subscribes in :meth:`start` through :meth:`listen`, or
    in :meth:`discover` if its parameters name no topic.  It passes messages to :meth:`submit`, and converts
    them by :meth:`part` (one message) and :meth:`frame` (all parts).
    concerns: lower the quality of the tokens and are sent with them.  conditions: problems with receiving
    messages.  inputs_lock: held while subscriptions change and while one delivers a message.
    """

    MODALITY: ClassVar[str]
    """Name of the sensor; the node is called ``<name>_encoder``."""
    OPTIONS: ClassVar[type[EncoderOptions]]
    """Its parameters."""
    HINT = 'set the topic by hand'
    """How to set a topic by hand."""

    def __init__(self) -> None:
        super().__init__(f'{self.MODALITY}_encoder', self.OPTIONS)
        self.modality = self.MODALITY
        self.encoder: Any = None
        self.judge: Judge | None = None
        self.mounts: Mounts | None = None
        self.concerns, self.conditions = Concerns(self.diagnostics), Concerns(self.diagnostics)
        self.watch = InputWatch(self, self.conditions, self.readable, self.HINT)
        self.tally = MessageCounters()
        self.inputs_group, self.inputs_lock = MutuallyExclusiveCallbackGroup(), threading.RLock()
        self._worker: LatestWorker[tuple[Input, ...]] | None = None
        self._publisher: Any = None
        self._info_publisher: Any = None
        self._inputs: dict[str, AdaptedSubscription] = {}
        self._subscriptions_made: list[Any] = []
        self._watching: Ticker | None = None
        self._arrivals: dict[str, float] = {}
        self._newest: dict[str, tuple[int, float]] = {}
        self._duration = 0.
        self._health = Health(math.nan)
        self.diagnostics.add_source(self._report)
        self.diagnostics.add_check(lambda: '; '.join(self._health.concerns))

    def part(self, item: Input) -> Any:
        """Convert one message; MpnpError rejects it alone."""
        raise NotImplementedError

    def frame(self, parts: Sequence[Any]) -> Any:
        """Return the input of the encoder, from at least one part."""
        raise NotImplementedError

    def encode(self, frame: Any) -> ModalityTokens:
        """Return the tokens of a frame."""
        tokens: ModalityTokens = self.encoder.encode(frame)
        return tokens

    def discover(self, graph: Sequence[Topic]) -> None:
        """Subscribe to discovered topics; called once a second while active."""

    def readable(self, graph: Sequence[Topic]) -> list[str]:
        """Return the published topics that this node could read."""
        return []

    @property
    def discovers(self) -> bool:
        """Return whether topics have to be discovered."""
        return False

    def load(self) -> None:
        """Load the weights of the encoder and start to follow the mounting of the sensors."""
        set_threads(self.values.threads)
        self.encoder = create_encoder(self.modality, self.values.encoder)
        self.judge = create_judge(self.modality, getattr(self.values.now, 'health', None))
        self.mounts = Mounts(self, self.diagnostics, self.concerns)
        self.get_logger().info(f'encoder {self.encoder.fingerprint} is loaded')
        self._info_publisher = self.create_publisher(EncoderInfo, 'encoders', qos_profile(LATCHED))
        self.tell()

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Inactive to active: :meth:`start`, then publish the encoder's description."""
        result = super().on_activate(state)
        if result == SUCCESS:
            self.tell()
        return result

    def start(self) -> None:
        """Start publishing; a subclass adds its subscriptions."""
        events = PublisherEventCallbacks(incompatible_qos=lambda event: self.diagnostics.warn(
            'incompatible QoS', f'QoS mismatch on tokens/{self.modality}: a subscriber requests '
                                'RELIABLE or more, this node offers BEST_EFFORT'))
        self._publisher = self.create_publisher(
            TokensMessage, f'tokens/{self.modality}', qos_profile(SENSOR_DATA), event_callbacks=events,
            qos_overriding_options=QoSOverridingOptions.with_default_policies())
        self._worker = LatestWorker(self.get_name(), self._encode, superseded=self.supersede,
                                    failed=lambda items, error: self._warn_unexpected(error))
        self._watching = Ticker('inputs', WATCH_PERIOD, self._look)

    def stop(self) -> None:
        """Unsubscribe, finish the running frame and stop publishing."""
        with self.inputs_lock:
            watching, self._watching = self._watching, None
            for subscription in self._inputs.values():
                subscription.destroy()
            self._inputs.clear()
        if watching:
            watching.close()
        if self._worker:
            self._worker.stop()  # it is kept: a callback that still runs may submit to it
        for subscription in self._subscriptions_made:  # by the worker
            self.destroy_subscription(subscription)
        self._subscriptions_made.clear()
        if self._publisher:
            self.destroy_publisher(self._publisher)
            self._publisher = None
        self._arrivals.clear()
        self._newest.clear()
        self.concerns.clear()
        self.conditions.clear()
        self._health = Health(math.nan)

    def release(self) -> None:
        """Release the memory of the weights."""
        if self.mounts:
            self.mounts.destroy()
        if self._info_publisher:
            self.destroy_publisher(self._info_publisher)
        self.mounts = self.encoder = self.judge = self._info_publisher = None
        gc.collect()
        torch = sys.modules.get('torch')
        if torch and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def tell(self) -> None:
        """Publish the loaded encoder, its options and its topics."""
        config = self.values.encoder
        changed = []
        for row in type(config).declared():
            value = config[row.name]
            if row.notes.get('shapes_tokens', True) and value != row.default:
                text = f'[{", ".join(map(str, value))}]' if isinstance(value, tuple) else value
                changed.append(f'encoder.{row.name}: {text}')
        message = EncoderInfo(modality=self.modality, node=self.get_fully_qualified_name(),
                              encoder=self.encoder.fingerprint, token_width=self.encoder.token_width,
                              changed=changed, topics=sorted(self._arrivals))
        message.header.stamp = self.get_clock().now().to_msg()
        self._info_publisher.publish(message)

    def listen(self, kind: type, topic: str, callback: Callable[[str, Any], None]) -> None:
        """Subscribe with ``callback(resolved topic, message)`` and the reliability of the publishers."""
        resolved = self.resolve_topic_name(topic)
        with self.inputs_lock:
            self._inputs[resolved] = AdaptedSubscription(
                self, kind, topic, lambda message: callback(resolved, message), depth=self.values.depth,
                group=self.inputs_group, lock=self.inputs_lock,
                lost=lambda count: self.diagnostics.count(f'{resolved} lost', count))

    def subscription(self, topic: str) -> AdaptedSubscription:
        """Return the subscription of a topic."""
        return self._inputs[self.resolve_topic_name(topic)]

    def forget(self, topic: str) -> None:
        """Unsubscribe from a topic."""
        resolved = self.resolve_topic_name(topic)
        with self.inputs_lock:
            if subscription := self._inputs.pop(resolved, None):
                subscription.destroy()
            self._arrivals.pop(resolved, None)
            self._newest.pop(resolved, None)
        self.conditions.clear(f'{resolved} ')

    def expect(self, topic: str) -> None:
        """Watch ``topic`` for silence."""
        self._arrivals[self.resolve_topic_name(topic)] = time.monotonic()

    def receive(self, topic: str, source: str, message: Any) -> Input:
        """Count a received message."""
        self.tally.receive(topic)
        arrived = self._arrivals[topic] = time.monotonic()
        stamp = to_nanoseconds(message.header.stamp)
        age = (self.get_clock().now().nanoseconds - stamp) / SECOND
        self._newest[topic] = stamp, age
        return Input(topic, source, message, arrived, age)

    def submit(self, items: tuple[Input, ...]) -> None:
        """Pass a frame to the worker."""
        assert self._worker is not None  # start makes it before a subclass subscribes
        self._worker.submit(items)

    def supersede(self, items: Sequence[Input]) -> None:
        """Count messages replaced by a newer one."""
        self.tally.settle((item.topic for item in items), 'superseded')

    def _encode(self, items: tuple[Input, ...]) -> None:
        parts = {}
        for item in items:
            try:
                parts[item] = self.part(item)
            except Exception as error:
                self.reject(item, error)
        tokens = self._tokens(parts) if parts else None
        if tokens is None:
            return
        self.tally.settle((item.topic for item in parts), 'encoded')
        newest = max(parts, key=lambda item: item.arrived)
        self._duration = time.monotonic() - newest.arrived
        self._publisher.publish(to_message(tokens, newest.age, self._duration))

    def _tokens(self, parts: dict[Input, Any]) -> ModalityTokens | None:
        """Encode; on failure, reject the parts that also fail alone and encode the others."""
        try:
            frame = self.frame(list(parts.values()))
            return self._judged(self.encode(frame), frame)
        except Exception as error:
            faulty: dict[Input, Exception] = {}
            for item, part in parts.items() if isinstance(error, MpnpError) and len(parts) > 1 else ():
                try:
                    self.encoder.encode(self.frame([part]))
                except Exception as own:
                    faulty[item] = own
            for item, reason in (faulty or dict.fromkeys(parts, error)).items():
                self.reject(item, reason)
                del parts[item]
        return self._tokens(parts) if parts else None

    def _judged(self, tokens: ModalityTokens, frame: Any) -> ModalityTokens:
        """Add quality and concerns of the input to those of the encoder.

        A failing health check costs no frame.
        """
        try:
            judged = self.judge.judge(frame) if self.judge else Health(math.nan)
        except Exception as error:
            self.diagnostics.warn('not judged', f'the health check of the input failed: {error}')
            judged = Health(math.nan)
        self._health = dataclasses.replace(judged, concerns=(*judged.concerns, *tokens.concerns))
        worst = self.concerns.quality()
        quality = min(self._health.quality, worst) if worst < 1 else self._health.quality
        return dataclasses.replace(tokens, quality=worst if math.isnan(quality) and worst < 1 else quality,
                                   concerns=(*self._health.concerns, *self.concerns.texts()))

    def reject(self, item: Input, error: Exception) -> None:
        """Count a message that cannot be used, and say why."""
        self.tally.settle([item.topic], 'rejected')
        kind = '' if isinstance(error, MpnpError) else f'{type(error).__name__}: '
        self.diagnostics.warn(f'{item.topic} refused', f'{item.topic}: {kind}{error}')

    def _warn_unexpected(self, error: Exception) -> None:
        self.diagnostics.warn('publishing failed', f'cannot publish tokens: {error}')

    def _report(self) -> dict[str, Any]:
        counts = {f'{topic} {name}': count for topic, counters in self.tally.counts().items()
                  for name, count in counters.items()}
        return {**counts, 'encode duration (s)': self._duration, 'quality': self._health.quality,
                'encoder': self.encoder.fingerprint if self.encoder else ''}

    def _look(self) -> None:
        """Adapt to the graph and set conditions; an exception costs one check."""
        with self.inputs_lock:
            if self._watching is None:
                return
            try:
                before = set(self._inputs)
                for subscription in self._inputs.values():
                    subscription.look()
                if self.discovers:
                    self.discover(self.watch.graph())
                self.watch.clock()
                self.watch.inputs(self._inputs.values(), self._arrivals, self.values.input_timeout)
                for topic, (stamp_ns, age) in list(self._newest.items()):
                    self.watch.stamps(topic, stamp_ns, age)
                self.watch.twins()
                self.check()
                if set(self._inputs) != before:
                    self.tell()
            except Exception as error:
                self.diagnostics.warn('graph', f'the check of the graph failed: {error}')

    def check(self) -> None:
        """Set concerns of the modality; called once a second while active."""
