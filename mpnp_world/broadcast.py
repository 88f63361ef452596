"""Serialised messages of the world, on the same topics as a bag of one of its scenes.

Topics, frames and messages are those of :mod:`~mpnp_ros.bags.writer`.  Microphones are not
published, because common ROS messages do not carry raw sound with a stamp.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mpnp_ros.bags.messages import BASE_FRAME, MAP_FRAME, MessageFactory, message_types
from mpnp_ros.nuscenes.sensor_files import LIDAR_FIELDS
from mpnp_ros.questions.generator import LabelledQuestion
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading
from mpnp_world.dataset.frames import WorldFrame, WorldSweeps
from mpnp_world.dataset.writer import CHANNELS, extrinsics, jpeg, scaled_intrinsics
from mpnp_world.scene.identity import SceneIdentity
from mpnp_world.scene.state import WorldState
from mpnp_world.sensors.imu import InertialReading

TRANSFORMS, ODOMETRY, IMU = 'tf2_msgs/msg/TFMessage', 'nav_msgs/msg/Odometry', 'sensor_msgs/msg/Imu'
IMAGE, CAMERA_INFO = 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/CameraInfo'
CLOUD, MARKERS = 'sensor_msgs/msg/PointCloud2', 'visualization_msgs/msg/MarkerArray'
QUESTIONS = 'mpnp_ros/msg/LabelledQuestions'


class Message(NamedTuple):
    """A serialised (CDR) message of the type ``type_name``."""

    topic: str
    data: bytes


class Broadcast:
    """Makes the messages of a drive.

    start: of the drive, microseconds.
    sensors: modalities to publish, keys of :data:`~mpnp_world.dataset.writer.CHANNELS`.
    questions: returns the labelled questions of a key frame.
    """

    def __init__(self, start: int, sensors: Sequence[str], size: tuple[int, int],
                 questions: Callable[[KeyFrame], Sequence[LabelledQuestion]]) -> None:
        self._start = start
        self._left_behind = 0.0
        self._size = size
        self._questions = questions
        self._types = message_types()
        self._make = MessageFactory(self._types)
        self._channels = {channel: modality for modality in CHANNELS if modality in sensors
                          for channel in CHANNELS[modality]}

    @property
    def topics(self) -> dict[str, str]:
        """Name and type of every topic."""
        topics = {'/tf_static': TRANSFORMS, '/tf': TRANSFORMS, '/odom': ODOMETRY, '/imu': IMU,
                  '/markers/annotations': MARKERS, '/labelled_questions': QUESTIONS}
        for channel, modality in self._channels.items():
            name = f'/{channel.lower()}'
            topics |= ({f'{name}/image_rect/compressed': IMAGE, f'{name}/camera_info': CAMERA_INFO}
                       if modality == 'camera' else {name: CLOUD})
        return topics

    def enter(self, left_behind: float) -> None:
        """Enter a scene that begins ``left_behind`` seconds after the start of the drive."""
        self._left_behind = left_behind

    def stamp_ns(self, seconds: float) -> int:
        """The stamp at ``seconds`` after the beginning of the scene."""
        return (self._start + round((self._left_behind + seconds) * 1e6)) * 1000

    def mounting(self) -> Message:
        """The static transforms of the sensors; latched."""
        frames = {channel.lower(): extrinsics(channel) for channel in sorted(self._channels)}
        return self._message('/tf_static', self._make.transforms(self.stamp_ns(0.), BASE_FRAME, frames))

    def motion(self, state: WorldState) -> Iterator[Message]:
        """The transform and the odometry of the vehicle."""
        stamp, ego = self.stamp_ns(state.time), state.ego
        velocity = np.array((ego.speed, 0.0, 0.0))
        yield self._message('/tf', self._make.transforms(stamp, MAP_FRAME, {BASE_FRAME: ego.pose}))
        yield self._message('/odom', self._make.odometry(stamp, ego.pose, velocity, ego.yaw_rate))

    def inertial(self, reading: InertialReading) -> Message:
        """The message of the IMU."""
        return self._message('/imu', self._make.imu(self.stamp_ns(reading.time), reading.orientation,
                                                    reading.rotation_rate, reading.acceleration))

    def frame(self, frame: WorldFrame) -> Iterator[Message]:
        """Sensor data, boxes and labelled questions of a key frame."""
        state = frame.state
        stamp = self.stamp_ns(state.time)
        yield from self._sensors(frame, self._channels.values())
        key_frame = replace(frame.key_frame(SceneIdentity(state.seed, state.conditions)), stamp_ns=stamp)
        yield self._message('/markers/annotations', self._make.annotations(key_frame))
        yield self._message('/labelled_questions', self._make.labelled_questions(
            stamp, key_frame.token, self._questions(key_frame)))

    def sweeps(self, sweeps: WorldSweeps) -> Iterator[Message]:
        """Sensor data between key frames, of the sensors that have some."""
        names = {'camera': sweeps.images, 'lidar': sweeps.sweep, 'radar': sweeps.radars}
        yield from self._sensors(sweeps, [name for name, data in names.items() if data])

    def _sensors(self, moment: WorldFrame | WorldSweeps, modalities: Collection[str]) -> Iterator[Message]:
        """The data of all sensors of some modalities."""
        stamp, pose = self.stamp_ns(moment.state.time), moment.state.ego.pose
        for channel, modality in self._channels.items():
            if modality not in modalities:
                continue
            is_camera = modality == 'camera'
            reading = SensorReading(
                channel, modality, Path(), stamp, isinstance(moment, WorldFrame), extrinsics(channel), pose,
                np.array(scaled_intrinsics(channel, self._size)) if is_camera else None,
                self._size if is_camera else None)
            yield from self._sensor(reading, moment)

    def _sensor(self, reading: SensorReading, frame: WorldFrame | WorldSweeps) -> Iterator[Message]:
        """The data of one sensor; for a camera also its calibration."""
        name = f'/{reading.channel.lower()}'
        if reading.modality == 'camera':
            yield self._message(f'{name}/image_rect/compressed', self._make.compressed_image(
                reading, jpeg(frame.images[reading.channel])))
            yield self._message(f'{name}/camera_info', self._make.camera_info(reading))
        elif reading.modality == 'lidar':
            assert frame.sweep is not None  # it is asked for where there is one
            points = frame.sweep.points.view([(field, '<f4') for field in LIDAR_FIELDS])[:, 0]
            yield self._message(name, self._make.point_cloud(reading, points))
        else:
            yield self._message(name, self._make.point_cloud(reading, frame.radars[reading.channel].points))

    def _message(self, topic: str, message: Any) -> Message:
        return Message(topic, bytes(self._types.serialize_cdr(message, message.__msgtype__)))
