"""Serialised messages of the world, on the same topics as a bag of one of its scenes.

Topics, frames and messages are those of :mod:`~mpnp_ros.bags.writer`; the sound of microphones is added.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rosbags.typesys import get_types_from_msg

from mpnp_ros.bags.messages import BASE_FRAME, MAP_FRAME, MessageFactory, message_types
from mpnp_ros.nuscenes.sensor_files import LIDAR_FIELDS
from mpnp_ros.poses import Transform
from mpnp_ros.questions.generator import LabelledQuestion
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading
from mpnp_world.dataset.frames import WorldFrame, WorldSweeps
from mpnp_world.dataset.writer import CHANNELS, extrinsics, jpeg, scaled_intrinsics
from mpnp_world.scene.identity import SceneIdentity
from mpnp_world.scene.state import WorldState
from mpnp_world.sensors.imu import InertialReading
from mpnp_world.sensors.microphones import SAMPLE_RATE, listen
from mpnp_world.sensors.rig import MICROPHONES

TRANSFORMS, ODOMETRY, IMU = 'tf2_msgs/msg/TFMessage', 'nav_msgs/msg/Odometry', 'sensor_msgs/msg/Imu'
IMAGE, CAMERA_INFO = 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/CameraInfo'
CLOUD, MARKERS = 'sensor_msgs/msg/PointCloud2', 'visualization_msgs/msg/MarkerArray'
QUESTIONS = 'mpnp_ros/msg/LabelledQuestions'
SOUND, SOUND_INFO = 'audio_common_msgs/msg/AudioDataStamped', 'audio_common_msgs/msg/AudioInfo'
SOUND_TOPIC, SOUND_INFO_TOPIC = '/microphones/audio_stamped', '/microphones/audio_info'
SOUND_TYPES = {
    'audio_common_msgs/msg/AudioData': 'uint8[] data',
    SOUND: 'std_msgs/Header header\naudio_common_msgs/AudioData audio',
    SOUND_INFO: 'uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\n'
                'string coding_format'}
"""Definitions of audio_common_msgs."""


class Message(NamedTuple):
    """A serialised (CDR) message of the type ``type_name``."""

    topic: str
    data: bytes


class Broadcast:
    """Makes the messages of a drive.

    start: of the drive, microseconds.
    sensors: modalities to publish, keys of :data:`~mpnp_world.dataset.writer.CHANNELS`, and ``microphones``.
    questions: returns the labelled questions of a key frame.
    """

    def __init__(self, start: int, sensors: Sequence[str], size: tuple[int, int],
                 questions: Callable[[KeyFrame], Sequence[LabelledQuestion]]) -> None:
        self._start = start
        self._left_behind = 0.0
        self._size = size
        self._questions = questions
        self._types = message_types()
        for name, definition in SOUND_TYPES.items():
            self._types.register(get_types_from_msg(definition, name))
        self._hears = 'microphones' in sensors
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
        if self._hears:
            topics |= {SOUND_TOPIC: SOUND, SOUND_INFO_TOPIC: SOUND_INFO}
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
        if self._hears:
            frames |= {name.lower(): Transform(np.eye(3), np.array(place))
                       for name, place in MICROPHONES.items()}
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

    def sound_info(self) -> Message:
        """The format of the sound; latched."""
        return self._message(SOUND_INFO_TOPIC, self._make.new(
            SOUND_INFO, channels=len(MICROPHONES), sample_rate=SAMPLE_RATE, sample_format='S16LE',
            bitrate=16 * SAMPLE_RATE * len(MICROPHONES), coding_format='WAVE'))

    def sound(self, before: WorldState, after: WorldState) -> Message:
        """What the microphones hear between two states; the stamp is that of the end."""
        samples = np.round(listen(before, after) * 32767).astype('<i2')
        data = np.frombuffer(samples.T.tobytes(), np.uint8)
        return self._message(SOUND_TOPIC, self._make.new(
            SOUND, header=self._make.header(self.stamp_ns(after.time), BASE_FRAME),
            audio=self._make.new('audio_common_msgs/msg/AudioData', data=data)))

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
