"""Node: the simulated driving world in place of sensors, live, with ``/clock``.

It publishes what a replay of bags of the same scenes would, one scene after the other.  Light and weather can
be changed while it runs, in the middle of the same traffic.  One thread advances the world and publishes.  It
waits when it is ahead of time; on a machine that is too slow, time runs slower.
"""
from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.parameter import Parameter as RosParameter
from rosgraph_msgs.msg import Clock

from mpnp_ros.bags.writer import LATCHED_TOPICS
from mpnp_ros.conversions.messages import from_nanoseconds
from mpnp_ros.endpoints import LATCHED, PUBLISHES, RELIABLE, SENSOR_DATA, Endpoint, qos_profile
from mpnp_ros.errors import WorldError
from mpnp_ros.nodes.diagnostics import OK
from mpnp_ros.nodes.runtime import PlainNode, run_node
from mpnp_ros.options import Change, Options, option
from mpnp_ros.questions.generator import Scope, scene_questions
from mpnp_world.broadcast import SOUND_INFO_TOPIC, SOUND_TOPIC, Broadcast, Message
from mpnp_world.dataset.frames import Sensors
from mpnp_world.dataset.writer import CHANNELS
from mpnp_world.scene.identity import LIGHTS, MAX_SEED, SLOT, WEATHERS, Conditions, SceneIdentity
from mpnp_world.scene.world import Tour
from mpnp_world.sensors.imu import inertial_readings
from mpnp_world.sensors.rig import SMALL_SIZE


@dataclass(frozen=True)
class WorldOptions(Options):
    """Parameters of the world node."""

    seed: int = option(0, 'random seed of streets and traffic', low=0, high=MAX_SEED)
    light: str = option('day', 'light of the scene', choices=LIGHTS, change=Change.LIVE)
    weather: str = option('clear', 'weather of the scene', choices=WEATHERS, change=Change.LIVE)
    rate: float = option(
        1.0, 'speed of time; 1: real time, where the machine is fast enough', low=0.01, high=100.0,
        change=Change.LIVE)
    paused: bool = option(False, 'whether the world stands still', change=Change.LIVE)
    hold: bool = option(
        False, 'whether the world pauses at every key frame until `paused` is set to false',
        change=Change.LIVE)
    key_frame_rate: float = option(
        2.0, 'key frames per simulated second: images, sweeps, boxes and questions', unit='Hz', low=0.1,
        high=20.0)
    motion_rate: float = option(
        20.0,
        'messages on /clock, /odom and /tf per simulated second; the 100 readings of /imu are published with '
        'them', unit='Hz', low=1.0, high=100.0)
    sensors: tuple[str, ...] = option(
        ('camera', 'lidar', 'radar', 'microphones'),
        'sensors of the vehicle; microphones need audio_common_msgs, and cost nothing while nobody listens',
        choices=(*CHANNELS, 'microphones'))
    sweeps: tuple[str, ...] = option(
        ('camera', 'lidar'),
        'those of the sensors that publish some time before each key frame as well, which shows what moves; '
        'six images take as long as those of a key frame', choices=tuple(CHANNELS))
    sweep_lead: float = option(
        0.5, 'that time; 0, or as long as from key frame to key frame: nothing is published before',
        unit='s', low=0.0, high=10.0)
    width: int = option(SMALL_SIZE[0], 'width of the images', unit='pixel', low=16, high=1600)
    height: int = option(SMALL_SIZE[1], 'height of the images', unit='pixel', low=16, high=900)
    questions: int = option(
        6, 'maximum number of labelled questions of each kind per key frame', low=0, high=1000)
    question_distance: float = option(
        Scope.max_distance, 'maximum distance of objects that labelled questions are about', unit='m',
        low=1.0, high=80.0)
    question_points: int = option(
        Scope.min_points, 'minimum number of LiDAR and radar points on such an object', low=0, high=1000)
    question_anchors: bool = option(
        Scope.anchors,
        'whether labelled questions also give positions relative to other objects than the vehicle')
    scene_duration: float = option(
        20.0, 'duration of a scene; the drive then continues in the streets of the next seed', unit='s',
        low=1.0, high=float(SLOT))
    duration: float = option(3600.0, 'duration of the simulation', unit='s', low=0.1, high=1e6)
    wait_for: tuple[str, ...] = option((), 'topics that need a subscriber before the drive begins')
    wait_timeout: float = option(60.0, 'maximum time to wait for these subscribers', unit='s', low=0.0)
    require_listeners: bool = option(
        False, 'whether to end with an error if a subscriber is missing after wait_timeout')


PARAMETERS = WorldOptions
ENDPOINTS = (
    Endpoint('world', PUBLISHES, '/clock', 'rosgraph_msgs/msg/Clock', 'time of the world', SENSOR_DATA),
    Endpoint('world', PUBLISHES, '/<camera>/image_rect/compressed', 'sensor_msgs/msg/CompressedImage',
             'JPEG of each of the six cameras of nuScenes, such as /cam_front', RELIABLE),
    Endpoint('world', PUBLISHES, '/<camera>/camera_info', 'sensor_msgs/msg/CameraInfo',
             'with each image', RELIABLE),
    Endpoint('world', PUBLISHES, '/lidar_top', 'sensor_msgs/msg/PointCloud2',
             'x y z intensity ring, float32', RELIABLE),
    Endpoint('world', PUBLISHES, '/<radar>', 'sensor_msgs/msg/PointCloud2',
             'the 18 fields of nuScenes, for each of its five radars, such as /radar_front', RELIABLE),
    Endpoint('world', PUBLISHES, '/imu', 'sensor_msgs/msg/Imu',
             '100 Hz, with bias, noise, vibrations and bumps',
             RELIABLE),
    Endpoint('world', PUBLISHES, SOUND_TOPIC, 'audio_common_msgs/msg/AudioDataStamped',
             'sound of the four microphones on the roof, 16 kHz, at `motion_rate`, to subscribers', RELIABLE),
    Endpoint('world', PUBLISHES, SOUND_INFO_TOPIC, 'audio_common_msgs/msg/AudioInfo', 'its format', LATCHED),
    Endpoint('world', PUBLISHES, '/odom', 'nav_msgs/msg/Odometry', 'at `motion_rate`', RELIABLE),
    Endpoint('world', PUBLISHES, '/tf', 'tf2_msgs/msg/TFMessage', 'map to base_link, at `motion_rate`',
             RELIABLE),
    Endpoint('world', PUBLISHES, '/tf_static', 'tf2_msgs/msg/TFMessage', 'mounting of the sensors',
             LATCHED),
    Endpoint('world', PUBLISHES, '/markers/annotations', 'visualization_msgs/msg/MarkerArray',
             'true boxes of each key frame', RELIABLE),
    Endpoint('world', PUBLISHES, '/labelled_questions', 'mpnp_ros/msg/LabelledQuestions',
             'questions about each key frame, with true answers', RELIABLE),
)
LARGEST_LAG = 1.0
"""Maximum lag that the world makes up for, seconds; more is dropped."""


class Pace:
    """Keeps the time of the world in step with the wall clock.

    rate, paused: called repeatedly.  stopped: ends every wait when it is set.
    """

    def __init__(self, rate: Callable[[], float], paused: Callable[[], bool]) -> None:
        self.stopped = threading.Event()
        self._rate, self._paused = rate, paused
        self._due = time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Wait until ``seconds`` of the world have passed; False if it was stopped."""
        self._due = max(self._due, time.monotonic() - LARGEST_LAG) + seconds / self._rate()
        self.stopped.wait(max(0.0, self._due - time.monotonic()))
        while self._paused() and not self.stopped.wait(0.02):
            self._due = time.monotonic()
        return not self.stopped.is_set()


class DrivingWorld(PlainNode):
    """Drives a vehicle through the world and publishes its sensor data."""

    def __init__(self) -> None:
        super().__init__('world', WorldOptions)
        values = self.values
        self._conditions = Conditions(values.light, values.weather)
        self._paused, self._rate = values.paused, values.rate
        start = SceneIdentity(values.seed, self._conditions).start
        size = (values.width, values.height)
        scope = Scope(values.question_distance, values.question_points, values.question_anchors)
        names = tuple(name for name in values.sensors if name != 'microphones' or self._can_publish_sound())
        self._broadcast = Broadcast(start, names, size, partial(
            scene_questions, seed=values.seed, per_kind=values.questions, scope=scope))
        self._topic_publishers = {}
        for topic, type_name in self._broadcast.topics.items():
            package, _, name = type_name.split('/')
            self._topic_publishers[topic] = self.create_publisher(
                getattr(importlib.import_module(f'{package}.msg'), name), topic,
                qos_profile(LATCHED) if topic in (*LATCHED_TOPICS, SOUND_INFO_TOPIC)
                else qos_profile(RELIABLE, 10))
        self._ticks = self.create_publisher(Clock, '/clock', qos_profile(SENSOR_DATA))
        self._pace = Pace(lambda: self._rate, lambda: self._paused)
        self._thread = threading.Thread(target=self._run, name='world', daemon=True)

    def begin(self) -> None:
        """Start the world."""
        self._thread.start()

    def changed(self, name: str, value: Any) -> None:
        """Apply a change of light, weather, ``rate`` or ``paused``."""
        if name in ('light', 'weather'):
            given = {'light': self._conditions.light, 'weather': self._conditions.weather, name: value}
            self._conditions = Conditions(**given)
        elif name == 'rate':
            self._rate = value
        elif name == 'paused':
            self._paused = value

    def destroy_node(self) -> None:
        """Stop the world first."""
        if hasattr(self, '_thread'):
            self._pace.stopped.set()
            if self._thread.is_alive():
                self._thread.join()
        super().destroy_node()

    def _run(self) -> None:
        """The thread of the world: drive, and end the node with the error or without."""
        try:
            self._publish([self._broadcast.mounting()])
            if SOUND_INFO_TOPIC in self._topic_publishers:
                self._publish([self._broadcast.sound_info()])
            self._wait_for_subscribers()
            self.diagnostics.state(OK, 'driving')
            self._drive()
        except Exception as error:
            log = self.get_logger()  # type: ignore[no-untyped-call]  # rclpy does not annotate it
            log.fatal(f'the world failed: {error}')
            self.finish(error)
        else:
            self.finish()

    def _drive(self) -> None:
        """Advance tick by tick; every few ticks of a scene there are sweeps and then a key frame."""
        values = self.values
        tick = 1 / values.motion_rate
        ticks_a_frame = max(1, round(values.motion_rate / values.key_frame_rate))
        lead = round(values.motion_rate * values.sweep_lead)  # sweeps come so many ticks before a key frame
        sweeping = set(values.sweeps) & set(values.sensors) if 0 < lead < ticks_a_frame else set()
        first = lead if sweeping else 0  # a scene begins with sweeps, so that they are of its own streets
        ticks = index = 0
        sensors = Sensors(values.sensors, (values.width, values.height))
        tour = Tour(values.seed, self._conditions, values.scene_duration)
        for _ in range(round(values.duration / tick)):
            if not self._pace.wait(tick):
                return
            tour.conditions, left_behind = self._conditions, tour.left_behind
            before, state = tour.step(tick)
            ticks = 0 if tour.left_behind > left_behind else ticks
            self._broadcast.enter(tour.left_behind)
            self._ticks.publish(Clock(clock=from_nanoseconds(self._broadcast.stamp_ns(state.time))))
            self._publish(map(self._broadcast.inertial, inertial_readings(before, state)))
            self._publish(self._broadcast.motion(state))
            if SOUND_TOPIC in self._topic_publishers and self.count_subscribers(SOUND_TOPIC):
                self._publish([self._broadcast.sound(before, state)])
            if ticks % ticks_a_frame == first:
                self._hold()
                self._publish(self._broadcast.frame(sensors.perceive(state, index)))
                self.diagnostics.count('key frames')
                index += 1
            elif ticks % ticks_a_frame == 0:
                self._publish(self._broadcast.sweeps(sensors.perceive_sweeps(state, index, sweeping)))
            ticks += 1
        log = self.get_logger()  # type: ignore[no-untyped-call]  # rclpy does not annotate it
        log.info(f'the world ended after {values.duration:g} s')

    def _can_publish_sound(self) -> bool:
        """Return whether audio_common_msgs is installed."""
        if importlib.util.find_spec('audio_common_msgs') is not None:
            return True
        self.diagnostics.warn('no microphones', 'audio_common_msgs is not installed, so the microphones are '
                              'not published; install ros-<distribution>-audio-common-msgs')
        return False

    def _hold(self) -> None:
        """Pause if ``hold`` is set, until ``paused`` is set to false."""
        if self.values.hold:
            self.set_parameters([RosParameter('paused', value=True)])

    def _publish(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._topic_publishers[message.topic].publish(message.data)

    def _wait_for_subscribers(self) -> None:
        """Wait until the topics of ``wait_for`` have a subscriber, at most ``wait_timeout``."""
        self.diagnostics.state(OK, 'waiting for subscribers')
        end = time.monotonic() + self.values.wait_timeout
        wanted = [self.resolve_topic_name(topic) for topic in self.values.wait_for]
        while missing := [topic for topic in wanted if not self.count_subscribers(topic)]:
            if time.monotonic() > end:
                text = f'{", ".join(missing)} without a subscriber after {self.values.wait_timeout:g} s'
                if self.values.require_listeners:
                    raise WorldError(f'{text}; see why its node is not active, or raise wait_timeout')
                self.diagnostics.warn('no subscriber', text)
                return
            if self._pace.stopped.wait(0.05):
                return


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(DrivingWorld)


if __name__ == '__main__':
    sys.exit(main())
