"""What the encoder nodes of all modalities share: from a message that has come to tokens that are published.

Callbacks only count a message and hand it on; converting and encoding happen on one worker thread, and
the newest frame wins.  Every message ends as encoded, superseded by a newer one, or rejected with a
reason, and ``/diagnostics`` shows these counts for every topic.
"""
from __future__ import annotations

import dataclasses
import gc
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from mpnp_ros.conversions.time import SECOND, to_nanoseconds
from mpnp_ros.conversions.tokens import to_message
from mpnp_ros.errors import MpnpError
from mpnp_ros.modalities.base import EncoderConfig
from mpnp_ros.modalities.health import Health, HealthLimits, Judge
from mpnp_ros.modalities.registry import create_encoder, create_judge
from mpnp_ros.msg import ModalityTokens as TokensMessage
from mpnp_ros.nodes.concerns import Concerns
from mpnp_ros.nodes.mounts import Mounts
from mpnp_ros.nodes.parameters import Change, Parameter, option_parameters
from mpnp_ros.nodes.runtime import AUTOSTART, THREADS, ManagedNode, set_threads
from mpnp_ros.nodes.tally import Tally
from mpnp_ros.nodes.worker import LatestWorker
from mpnp_ros.tokens import ModalityTokens

OPTION, HEALTH = 'encoder.', 'health.'
COMMON = (
    AUTOSTART,
    Parameter('base_frame', 'base_link', 'Frame in which directions are expressed: x ahead, y left.',
              change=Change.LIVE),
    Parameter('depth', 5, 'Messages of each input that may wait for the node.', minimum=1, maximum=100,
              change=Change.ACTIVATE),
    THREADS,
    Parameter('absent_after', 2.0, 'An input silent for so long is not waited for.', 's', 0.1, 60.0,
              change=Change.ACTIVATE),
)


def encoder_parameters(config: type[EncoderConfig], table: Sequence[Parameter],
                       limits: type[HealthLimits] | None = None) -> tuple[Parameter, ...]:
    """Return the table of an encoder node: what all have, its own, and those of its encoder and its judge.

    The options of the encoder are ``encoder.<option>``, those of the judge ``health.<option>``.
    """
    return (*COMMON, *table, *option_parameters(OPTION, config, Change.CONFIGURE),
            *(option_parameters(HEALTH, limits, Change.CONFIGURE) if limits else ()))


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
        """Sensor time."""
        return to_nanoseconds(self.message.header.stamp)


class EncoderNode(ManagedNode):
    """Base of the encoder nodes.

    A subclass subscribes in :meth:`start` through :meth:`listen`, hands frames to :meth:`submit`, and
    says what becomes of them: :meth:`part` of one message, :meth:`frame` of all parts.
    """

    def __init__(self, modality: str, table: Sequence[Parameter]) -> None:
        super().__init__(f'{modality}_encoder', table)
        self.modality = modality
        self.encoder: Any = None
        self.judge: Judge | None = None
        self.mounts: Mounts | None = None
        self.concerns = Concerns(self.diagnostics)
        self.tally = Tally()
        self.inputs_group = MutuallyExclusiveCallbackGroup()
        self._worker: LatestWorker[tuple[Input, ...]] | None = None
        self._publisher: Any = None
        self._subscriptions_made: list[Any] = []
        self._arrivals: dict[str, float] = {}
        self._duration = 0.
        self._health = Health(math.nan)
        self.diagnostics.add_source(self._report)
        self.diagnostics.add_check(self._silent)
        self.diagnostics.add_check(lambda: '; '.join(self._health.concerns))

    def part(self, item: Input) -> Any:
        """Convert one message; MpnpError rejects it alone."""
        raise NotImplementedError

    def frame(self, parts: Sequence[Any]) -> Any:
        """Return what the encoder takes, of at least one part."""
        raise NotImplementedError

    def load(self) -> None:
        """Load the encoder's weights and begin to follow the sensors' mounts."""
        set_threads(self.values.threads)
        self.encoder = create_encoder(self.modality, self._options(OPTION))
        self.judge = create_judge(self.modality, self._options(HEALTH))
        self.mounts = Mounts(self, self.diagnostics, self.concerns)
        self.get_logger().info(f'encoder {self.encoder.fingerprint} is loaded')

    def start(self) -> None:
        """Begin to publish; a subclass goes on with its subscriptions."""
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        events = PublisherEventCallbacks(incompatible_qos=lambda event: self.diagnostics.warn(
            'incompatible QoS', f'a subscriber of tokens/{self.modality} asks for more than best effort; '
                                'it gets nothing'))
        self._publisher = self.create_publisher(
            TokensMessage, f'tokens/{self.modality}', qos, event_callbacks=events,
            qos_overriding_options=QoSOverridingOptions.with_default_policies())
        self._worker = LatestWorker(self.get_name(), self._encode, superseded=self.supersede,
                                    failed=lambda items, error: self._warn_unexpected(error))

    def stop(self) -> None:
        """Unsubscribe, let the running frame finish, stop publishing."""
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        self._subscriptions_made.clear()
        if self._worker:
            self._worker.stop()  # and is kept: a callback that still runs may submit to it
        if self._publisher:
            self.destroy_publisher(self._publisher)
            self._publisher = None
        self._arrivals.clear()
        self.concerns.clear()
        self._health = Health(math.nan)

    def release(self) -> None:
        """Give back the memory of the weights."""
        if self.mounts:
            self.mounts.destroy()
        self.mounts = self.encoder = self.judge = None
        gc.collect()
        torch = sys.modules.get('torch')
        if torch and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def listen(self, kind: type, topic: str, callback: Callable[[str, Any], None]) -> None:
        """Subscribe with ``callback(resolved topic, message)``; best effort matches whatever is offered."""
        resolved = self.resolve_topic_name(topic)
        qos = QoSProfile(depth=self.values.depth, reliability=ReliabilityPolicy.BEST_EFFORT)
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self.diagnostics.warn(
                'incompatible QoS', f'{resolved}: the publisher offers another quality of service '
                                    f'({event.last_policy_kind}); nothing will come'),
            message_lost=lambda event: self.diagnostics.count(f'{resolved} lost', event.total_count_change))
        self._subscriptions_made.append(self.create_subscription(
            kind, topic, lambda message: callback(resolved, message), qos, callback_group=self.inputs_group,
            event_callbacks=events, qos_overriding_options=QoSOverridingOptions.with_default_policies()))

    def expect(self, topic: str) -> None:
        """Begin to watch ``topic`` for silence."""
        self._arrivals[self.resolve_topic_name(topic)] = time.monotonic()

    def receive(self, topic: str, source: str, message: Any) -> Input:
        """Count a message that has come."""
        self.tally.receive(topic)
        arrived = self._arrivals[topic] = time.monotonic()
        now = self.get_clock().now().nanoseconds
        return Input(topic, source, message, arrived, (now - to_nanoseconds(message.header.stamp)) / SECOND)

    def submit(self, items: tuple[Input, ...]) -> None:
        """Hand a frame to the worker."""
        self._worker.submit(items)

    def supersede(self, items: Sequence[Input]) -> None:
        """Count messages that a newer one has replaced."""
        self.tally.settle((item.topic for item in items), 'superseded')

    def _encode(self, items: tuple[Input, ...]) -> None:
        parts = self._convert(items)
        tokens = self._tokens(parts) if parts else None
        if tokens is None:
            return
        self.tally.settle((item.topic for item in parts), 'encoded')
        newest = max(parts, key=lambda item: item.arrived)
        self._duration = time.monotonic() - newest.arrived
        self._publisher.publish(to_message(tokens, newest.age, self._duration))

    def _convert(self, items: tuple[Input, ...]) -> dict[Input, Any]:
        parts = {}
        for item in items:
            try:
                parts[item] = self.part(item)
            except Exception as error:
                self._reject(item, error)
        return parts

    def _tokens(self, parts: dict[Input, Any]) -> ModalityTokens | None:
        """Encode; where that fails, reject the parts that fail alone too and encode the others."""
        try:
            frame = self.frame(list(parts.values()))
            return self._judged(self.encoder.encode(frame), frame)
        except Exception as error:
            faulty = self._faulty(parts) if isinstance(error, MpnpError) and len(parts) > 1 else {}
            for item, reason in (faulty or dict.fromkeys(parts, error)).items():
                self._reject(item, reason)
                del parts[item]
        return self._tokens(parts) if parts else None

    def _judged(self, tokens: ModalityTokens, frame: Any) -> ModalityTokens:
        """Say how good the input was; a judge that fails costs no frame."""
        try:
            self._health = self.judge.judge(frame) if self.judge else Health(math.nan)
        except Exception as error:
            self.diagnostics.warn('not judged', f'how good the input is cannot be told: {error}')
            self._health = Health(math.nan)
        worst = self.concerns.quality()
        quality = min(self._health.quality, worst) if worst < 1 else self._health.quality
        return dataclasses.replace(tokens, quality=worst if math.isnan(quality) and worst < 1 else quality,
                                   concerns=(*self._health.concerns, *self.concerns.texts()))

    def _faulty(self, parts: dict[Input, Any]) -> dict[Input, Exception]:
        faulty = {}
        for item, part in parts.items():
            try:
                self.encoder.encode(self.frame([part]))
            except Exception as error:
                faulty[item] = error
        return faulty

    def _reject(self, item: Input, error: Exception) -> None:
        self.tally.settle([item.topic], 'rejected')
        kind = '' if isinstance(error, MpnpError) else f'{type(error).__name__}: '
        self.diagnostics.warn(f'{item.topic} refused', f'{item.topic}: {kind}{error}')

    def _warn_unexpected(self, error: Exception) -> None:
        self.diagnostics.warn('publishing failed', f'tokens cannot be published: {error}')

    def _options(self, prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): self.values[name] for name in self.values
                if name.startswith(prefix)}

    def _report(self) -> dict[str, Any]:
        counts = {f'{topic} {name}': count for topic, counters in self.tally.counts().items()
                  for name, count in counters.items()}
        return {**counts, 'encode duration (s)': self._duration, 'quality': self._health.quality,
                'encoder': self.encoder.fingerprint if self.encoder else ''}

    def _silent(self) -> str:
        """Name the inputs from which nothing has come for ``absent_after`` seconds."""
        oldest = time.monotonic() - self.values.absent_after
        silent = [topic for topic, arrived in list(self._arrivals.items()) if arrived < oldest]
        return f'nothing comes on {", ".join(silent)}' if silent else ''
