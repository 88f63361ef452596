"""Node: plays a bag in place of the sensors, with its own timing and ``/clock``.

The serialised messages of the bag are published as they are.  One thread follows the bag; a change of
``rate`` or ``paused`` takes effect at once, also while it waits.
"""
from __future__ import annotations

import importlib
import sys
import threading
import time
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from mpnp_ros.conversions.time import from_nanoseconds
from mpnp_ros.errors import ConfigurationError, MpnpError
from mpnp_ros.nodes.diagnostics import OK
from mpnp_ros.nodes.parameters import Change, Parameter
from mpnp_ros.nodes.runtime import PlainNode, run_node
from mpnp_ros.nuscenes.bag_player import BagPlayer, BagTopic

PARAMETERS = (
    Parameter('bag', '', 'Bag folder, or a bare .mcap or .db3 file.'),
    Parameter('rate', 1.0, 'Speed; 1 is real time.', minimum=0.01, maximum=100.0, change=Change.LIVE),
    Parameter('paused', False, 'Whether playback stands still; may be set from the start.',
              change=Change.LIVE),
    Parameter('start', 0.0, 'Where in the bag to begin.', 's', 0.0),
    Parameter('loop', False, 'Begin again at the end.'),
    Parameter('loop_period', 0.5, 'Shortest bag time between two beginnings.', 's', 0.0),
    Parameter('restamp', False, 'In a loop, move all stamps so that time never jumps back.'),
    Parameter('topics', (), 'Play these topics only; none: all.'),
    Parameter('clock_rate', 100.0, 'How often /clock is published; 0: never.', 'Hz', 0.0, 1000.0),
    Parameter('wait_for', (), 'Topics that must have a subscriber before playback begins.'),
    Parameter('wait_timeout', 60.0, 'Begin after so long even if a subscriber is missing.', 's', 0.0),
)


class Replay(PlainNode):
    """Publishes what :class:`BagPlayer` gives; ends when the bag is over."""

    def __init__(self) -> None:
        super().__init__('replay', PARAMETERS)
        values = self.values
        if not values.bag:
            raise ConfigurationError('bag is empty; give the path of a bag')
        self._player = BagPlayer(values.bag, values.rate, values.start, values.loop, values.loop_period,
                                 values.restamp, values.topics or None)
        self._bag_publishers = {topic.name: publisher for topic in self._player.topics.values()
                                if (publisher := self._make_publisher(topic))}
        self._ticks = self.create_publisher(Clock, '/clock', QoSProfile(
            depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
        self._thread = threading.Thread(target=self._play, name='playback', daemon=True)

    def begin(self) -> None:
        """Start the clock and playback."""
        if self.values.paused:
            self._player.pause()
        if self.values.clock_rate:
            self.create_timer(1 / self.values.clock_rate, self._tick,
                              callback_group=MutuallyExclusiveCallbackGroup(),
                              clock=RosClock(clock_type=ClockType.STEADY_TIME))
        self._thread.start()

    def changed(self, name: str, value: object) -> None:
        """Follow ``rate`` and ``paused``."""
        if name == 'rate':
            self._player.set_rate(value)
        elif name == 'paused':
            (self._player.pause if value else self._player.resume)()

    def destroy_node(self) -> None:
        """Stop playback first."""
        if hasattr(self, '_player'):
            self._player.stop()
        if hasattr(self, '_thread') and self._thread.is_alive():
            self._thread.join()
        super().destroy_node()

    def _make_publisher(self, topic: BagTopic) -> Any:
        package, _, name = topic.type_name.split('/')
        try:
            kind = getattr(importlib.import_module(f'{package}.msg'), name)
        except (ImportError, AttributeError):
            text = f'{topic.name} is left out: {topic.type_name} is not installed; install {package}'
            self.diagnostics.warn(f'{topic.name} skipped', text)
            return None
        durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
        depth = min(max(1, topic.message_count), 100) if topic.latched else 10
        return self.create_publisher(kind, topic.name, QoSProfile(depth=depth, durability=durability))

    def _play(self) -> None:
        try:
            self._wait_for_subscribers()
            self.diagnostics.state(OK, 'playing')
            for message in self._player:
                if publisher := self._bag_publishers.get(message.topic):
                    publisher.publish(message.data)
                    self.diagnostics.count(f'{message.topic} published')
        except MpnpError as error:
            self.get_logger().fatal(str(error))
            self.finish(error)
        else:
            self.get_logger().info('the bag is over')
            self.finish()

    def _wait_for_subscribers(self) -> None:
        self.diagnostics.state(OK, 'waiting for subscribers')
        end = time.monotonic() + self.values.wait_timeout
        while missing := [topic for topic in self.values.wait_for if not self.count_subscribers(topic)]:
            if time.monotonic() > end:
                self.diagnostics.warn('no subscriber', f'nobody subscribes to {", ".join(missing)}')
                return
            time.sleep(0.05)

    def _tick(self) -> None:
        self._ticks.publish(Clock(clock=from_nanoseconds(self._player.now_ns)))


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(Replay)


if __name__ == '__main__':
    sys.exit(main())
