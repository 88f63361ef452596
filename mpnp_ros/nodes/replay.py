"""Node: plays a bag in place of the sensors, with its own timing and ``/clock``.

The serialised messages of the bag are published unchanged; unpublishable topics are omitted with a warning.
Constant data such as ``/tf_static`` is latched and published first.  One thread follows the bag, another
publishes ``/clock``; a change of ``rate`` or ``paused`` takes effect at once.
"""
from __future__ import annotations

import importlib
import math
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any

from rclpy.duration import Duration
from rclpy.exceptions import InvalidTopicNameException
from rclpy.parameter import Parameter as RosParameter
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from mpnp_ros.bags.player import OPENING_DEPTH, BagMessage, BagPlayer, BagTopic
from mpnp_ros.conversions.messages import from_nanoseconds
from mpnp_ros.endpoints import SENSOR_DATA, qos_profile
from mpnp_ros.errors import BagError, ConfigurationError, MpnpError
from mpnp_ros.nodes.diagnostics import OK
from mpnp_ros.nodes.runtime import PlainNode, run_node
from mpnp_ros.options import Change, Options, option


@dataclass(frozen=True)
class ReplayOptions(Options):
    """Parameters of the replay node."""

    bag: str = option('', 'bag folder, or a bare .mcap or .db3 file')
    rate: float = option(1.0, 'speed; 1 is real time', low=0.01, high=100.0, change=Change.LIVE)
    paused: bool = option(
        False, 'whether playback is paused; may be true at start', change=Change.LIVE)
    hold: str = option(
        '', 'topic after whose messages playback pauses until `paused` is set to false; other messages of '
            'the same moment come first; empty: none')
    start: float = option(0.0, 'where in the bag to begin', unit='s', low=0.0)
    loop: bool = option(False, 'whether to start again at the end')
    loop_period: float = option(0.5, 'minimum bag time between two starts of the loop', unit='s', low=0.0)
    restamp: bool = option(False, 'whether a loop moves all stamps so that time never jumps back')
    topics: tuple[str, ...] = option((), 'topics to play, wildcards allowed; none: all')
    exclude: tuple[str, ...] = option((), 'topics to leave out, wildcards allowed')
    longest_gap: float = option(
        60.0, 'longest time without messages that is played; longer gaps are skipped; 0: no limit', unit='s',
        low=0.0)
    clock_rate: float = option(
        100.0, 'rate of /clock; 0: it is not published', unit='Hz', low=0.0, high=1000.0)
    wait_for: tuple[str, ...] = option((), 'topics that must have a subscriber before playback begins')
    wait_timeout: float = option(
        60.0, 'time after which playback starts even if a subscriber is missing', unit='s', low=0.0)
    require_listeners: bool = option(
        False, 'whether to stop with an error if a subscriber is still missing after wait_timeout')


PARAMETERS = ReplayOptions
SAME_MOMENT_NS = 20 * 10 ** 6
"""Messages that are later by no more come before a pause that ``hold`` makes."""
STILL_PERIOD = 0.5
"""Seconds between two /clock messages during a pause, for nodes that start meanwhile."""
ACKNOWLEDGED_WITHIN = 5.0
"""Time for subscribers to acknowledge the latched messages before the others follow."""
JUMP_NS = 10 ** 9
"""A message this much later than the last /clock is preceded by one."""
SETTLING = 0.2
"""Seconds after which the callbacks of that /clock have run."""


class Replay(PlainNode):
    """Publishes the messages of a :class:`BagPlayer` and ends with the bag."""

    def __init__(self) -> None:
        super().__init__('replay', ReplayOptions)
        values = self.values
        if not values.bag:
            raise ConfigurationError('bag is empty; give the path of a bag')
        self._player = BagPlayer(values.bag, values.rate, values.start, values.loop, values.loop_period,
                                 values.restamp, values.topics or None, exclude=values.exclude,
                                 longest_gap=values.longest_gap, report=self._report)
        self._left_out: dict[str, str] = {}
        self._bag_publishers = {topic.name: publisher for topic in self._player.topics.values()
                                if (publisher := self._make_publisher(topic))}
        if not self._bag_publishers:
            raise BagError(f'bag {values.bag}: no topic to play: ' + '; '.join(
                f'{name}: {reason}' for name, reason in self._left_out.items()))
        self.diagnostics.add_source(
            lambda: {'left out': ', '.join([*self._player.left_out, *self._left_out])})
        self._ticks = self.create_publisher(Clock, '/clock', qos_profile(SENSOR_DATA)) \
            if values.clock_rate else None
        self._told_ns = 0
        self._stopping, self._clock_changed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._play, name='playback', daemon=True)
        self._clock_thread = threading.Thread(target=self._tick, name='clock', daemon=True)

    def begin(self) -> None:
        """Start the clock and the playback."""
        if self.values.paused:
            self._player.pause()
        if self._ticks:
            self._clock_thread.start()
        self._thread.start()

    def changed(self, name: str, value: Any) -> None:
        """Apply a change of ``rate`` or ``paused``."""
        if name == 'rate':
            self._player.set_rate(value)
        elif name == 'paused':
            (self._player.pause if value else self._player.resume)()
            self._clock_changed.set()

    def destroy_node(self) -> None:
        """Stop the playback first."""
        if hasattr(self, '_thread'):
            self._stopping.set()
            self._clock_changed.set()
            self._player.stop()
            for thread in (self._thread, self._clock_thread):
                if thread.is_alive():
                    thread.join()
        super().destroy_node()

    def _report(self, text: str) -> None:
        self.get_logger().warning(text)
        self.diagnostics.count('faults of the bag')

    def _make_publisher(self, topic: BagTopic) -> Publisher | None:
        """Create the publisher of a topic; None, with a warning, if that is not possible."""
        reason = ''
        package, _, name = topic.type_name.split('/')
        try:
            kind = getattr(importlib.import_module(f'{package}.msg'), name)
        except (ImportError, AttributeError):
            reason = f'{topic.type_name} is not installed; install {package}'
        if topic.name.lstrip('/') == 'clock' and self.values.clock_rate:
            reason = 'this node publishes log time there; with clock_rate: 0 the clock of the bag is played'
        if not reason:
            durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
            reliability = ReliabilityPolicy.BEST_EFFORT if topic.best_effort else ReliabilityPolicy.RELIABLE
            depth = min(topic.message_count or OPENING_DEPTH, OPENING_DEPTH) if topic.latched else 10
            try:
                return self.create_publisher(kind, topic.name, QoSProfile(
                    depth=depth, durability=durability, reliability=reliability))
            except InvalidTopicNameException:
                reason = 'ROS does not allow this name; rename the topic in the bag'
            except Exception as error:  # e.g. a type without type support, or one in use on the topic already
                reason = f'{topic.type_name} cannot be published: {error}'
        self._left_out[topic.name] = reason
        self.diagnostics.warn(f'{topic.name} skipped', f'{topic.name} skipped: {reason}')
        return None

    def _play(self) -> None:
        try:
            self._wait_for_subscribers()
            self._publish_opening()
            self.diagnostics.state(OK, 'playing')
            hold_ns: float = math.inf
            for message in self._player.play():
                if message.stamp_ns > hold_ns:
                    self._hold()
                    hold_ns = math.inf
                self._clock_changed.set()
                if message.stamp_ns > self._told_ns + JUMP_NS:  # a gap was skipped
                    self._publish_time()
                self._publish(message)
                if message.topic == self.values.hold:
                    hold_ns = message.stamp_ns + SAME_MOMENT_NS
            self._publish_time()
        except Exception as error:
            self.get_logger().fatal(str(error) if isinstance(error, MpnpError) else traceback.format_exc())
            self.finish(error)
        else:
            if not self._stopping.is_set():
                self.get_logger().info('the bag is over; /clock has stopped' if self._ticks
                                       else 'the bag is over')
            self.finish()

    def _hold(self) -> None:
        """Pause until ``paused`` is set to false."""
        self.set_parameters([RosParameter('paused', value=True)])
        while self._player.paused and not self._stopping.wait(0.02):
            pass

    def _publish(self, message: BagMessage) -> None:
        publisher = self._bag_publishers.get(message.topic)
        if publisher is None:
            return
        try:
            publisher.publish(message.data)
        except Exception as error:  # bytes that the middleware refuses
            if self._stopping.is_set():
                return
            self.diagnostics.warn(f'{message.topic} refused',
                                  f'message on {message.topic} skipped: {error}')
        else:
            self.diagnostics.count(f'{message.topic} published')

    def _wait_for_subscribers(self) -> None:
        """Wait until the topics of ``wait_for`` have subscribers; BagError if a required one is missing.

        For topics of the bag, only subscribers with compatible QoS count.
        """
        publishers = {publisher.topic_name: publisher for publisher in self._bag_publishers.values()}

        def has_subscriber(name: str) -> bool:
            return (publishers[name].get_subscription_count() if name in publishers
                    else self.count_subscribers(name)) > 0

        wanted = {topic: self.resolve_topic_name(topic) for topic in self.values.wait_for}
        if wanted:
            self.diagnostics.state(OK, 'waiting for subscribers')
            self.get_logger().info(f'waiting for subscribers of {", ".join(wanted.values())}')
        end = time.monotonic() + self.values.wait_timeout
        while missing := [name for name in wanted.values() if not has_subscriber(name)]:
            if self._stopping.wait(0.05):
                return
            if time.monotonic() > end:
                text = '; '.join(f'{name} has ' + ('only subscribers whose QoS does not fit'
                                 if self.count_subscribers(name) else 'no subscriber') for name in missing)
                text += f' after {self.values.wait_timeout:g} s'
                if self.values.require_listeners:
                    raise BagError(f'bag {self.values.bag} is not played: {text}; see why its node is not '
                                   'active, or raise wait_timeout')
                self.diagnostics.warn('no subscriber', f'{text}; starting anyway')
                return

    def _publish_opening(self) -> None:
        """Publish constant data, and wait until its subscribers have received it."""
        topics = {message.topic for message in self._player.opening} & self._bag_publishers.keys()
        for message in self._player.opening:
            self._publish(message)
        end = time.monotonic() + ACKNOWLEDGED_WITHIN
        heard = [publisher for topic in topics
                 if (publisher := self._bag_publishers[topic]).get_subscription_count()]
        for publisher in heard:
            while not publisher.wait_for_all_acked(Duration(seconds=0.1)):
                if self._stopping.is_set():
                    return
                if time.monotonic() > end:
                    self.diagnostics.warn(
                        'not acknowledged', f'not all subscribers of {publisher.topic_name} acknowledged it '
                        f'within {ACKNOWLEDGED_WITHIN:g} s; playback continues')
                    break
        if heard:
            self._stopping.wait(SETTLING)

    def _publish_time(self) -> None:
        if self._ticks and not self._stopping.is_set():
            self._told_ns = self._player.now_ns
            self._ticks.publish(Clock(clock=from_nanoseconds(self._told_ns)))

    def _tick(self) -> None:
        """Publish ``/clock``, less often during a pause."""
        while not self._stopping.is_set():
            self._clock_changed.clear()
            self._publish_time()
            if self._player.running:
                self._stopping.wait(1 / self.values.clock_rate)
            else:
                self._clock_changed.wait(STILL_PERIOD)


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(Replay)


if __name__ == '__main__':
    sys.exit(main())
