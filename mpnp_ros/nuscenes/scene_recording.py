"""Topics and messages of a bag of one nuScenes scene; messages are created on demand.

Topics and frames are those of nuscenes2mcap since 2026-05, in lower case. Header stamp and log time of a
message are the time of the sensor.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mpnp_ros.contents import read_json
from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.bag_messages import BASE_FRAME, MAP_FRAME, MessageFactory, motion
from mpnp_ros.nuscenes.geometry import Transform
from mpnp_ros.nuscenes.key_frame import KeyFrame, SensorReading
from mpnp_ros.nuscenes.questions import LabelledQuestion
from mpnp_ros.nuscenes.schema import LATEST
from mpnp_ros.nuscenes.sensor_files import LIDAR_FIELDS, read_image, read_lidar, read_radar
from mpnp_ros.nuscenes.tables import NuScenes, Record

LATCHED_TOPICS = frozenset({'/tf_static'})
MODALITIES = ('camera', 'lidar', 'radar')
IMU = {'q': 4, 'rotation_rate': 3, 'linear_accel': 3}
IMU_AGAIN = 'unpack the CAN bus expansion again'
TAKEN = frozenset({'tf', 'tf_static', 'odom', 'imu', 'markers', 'labelled_questions'})
"""Names that channels cannot have, because other topics use them."""

Questions = Callable[[KeyFrame], Sequence[LabelledQuestion]]


@dataclass(frozen=True, order=True)
class Entry:
    """A message to create; sorted by time, latched topics first."""

    stamp_ns: int
    volatile: bool
    topic: str
    type_name: str
    make: Callable[[], Any] = field(compare=False)


class SceneRecording:
    """Lists the messages of one scene.

    questions: returns the labelled questions of a key frame; None: no ``/labelled_questions``.
    samples: tokens of the key frames to record, without sweeps; None: all, with sweeps.
    partial: skip absent sensor files, and sensors that are neither cameras, LiDARs nor radars.
    Raises DatasetError if files are absent and not skipped, or all are absent; for a channel that cannot be a
    topic name; and as :class:`NuScenes`.
    """

    def __init__(self, root: NuScenes, scene: Record, factory: MessageFactory, questions: Questions | None,
                 samples: Collection[str] | None = None, partial: bool = False) -> None:
        self._root = root
        self._scene = scene
        self._factory = factory
        self._questions = questions
        self._whole = samples is None
        self._frames = [frame for frame in root.key_frames(scene)
                        if samples is None or frame.token in samples]
        named = root.readings(scene) if self._whole else [
            reading for frame in self._frames for reading in frame.readings]
        self._readings = self._present([reading for reading in named
                                        if not partial or reading.modality in MODALITIES], partial)
        self._check_names()

    def _present(self, named: list[SensorReading], partial: bool) -> list[SensorReading]:
        scene = self._scene['name']
        if not named:
            raise DatasetError(f'{scene} has no sensor data in {self._root.root}; '
                               'download the metadata again')
        present = [reading for reading in named if reading.path.is_file()]
        if not present or len(present) < len(named) and not partial:
            absent = next(reading.path for reading in named if not reading.path.is_file())
            raise DatasetError(f'{len(present)} of {len(named)} sensor files of {scene} are there, {absent} '
                               'is not; download the file blobs of this nuScenes version into the same root')
        return present

    def _check_names(self) -> None:
        modalities = {reading.channel: reading.modality for reading in self._readings}
        table = self._root.table('sensor').values()
        for channel, modality in modalities.items():
            name = channel.lower()
            sound = re.fullmatch(r'[a-z]\w*', name, re.ASCII)
            fault = ('letters, digits and _ make the name of its topic' if not sound
                     else f'modality {modality!r} is not known' if modality not in MODALITIES
                     else f'/{name} is another topic of the bag' if name in TAKEN
                     else 'another channel differs in case only' if sum(
                         other.lower() == name for other in modalities) > 1 else '')
            if fault:
                token = next((record['token'] for record in table if record.get('channel') == channel), '')
                raise DatasetError(f'record {token!r} of table sensor of {self._root.root}: channel '
                                   f'{channel!r} cannot be written, {fault}; rename it')

    def entries(self) -> list[Entry]:
        """All messages in time order; files are read when a message is created."""
        return sorted([*self._sensors(), *self._poses(), *self._key_frames(), *self._imu()])

    def _sensors(self) -> Iterator[Entry]:
        for reading in self._readings:
            yield from self._reading(reading)
        yield self._entry(self._readings[0].stamp_ns, '/tf_static', 'tf2_msgs/msg/TFMessage', self._mounting)

    def _reading(self, reading: SensorReading) -> Iterator[Entry]:
        name, stamp = f'/{reading.channel.lower()}', reading.stamp_ns
        if reading.modality == 'camera':
            yield self._entry(stamp, f'{name}/image_rect/compressed', 'sensor_msgs/msg/CompressedImage',
                              lambda: self._factory.compressed_image(reading, read_image(reading)))
            yield self._entry(stamp, f'{name}/camera_info', 'sensor_msgs/msg/CameraInfo',
                              lambda: self._factory.camera_info(reading))
        else:
            read = _lidar_points if reading.modality == 'lidar' else read_radar
            yield self._entry(stamp, name, 'sensor_msgs/msg/PointCloud2',
                              lambda: self._factory.point_cloud(reading, read(reading.path)))

    def _mounting(self) -> Any:
        """The transforms of all sensors."""
        frames = {reading.channel.lower(): reading.extrinsics for reading in self._readings}
        return self._factory.transforms(self._readings[0].stamp_ns, BASE_FRAME, dict(sorted(frames.items())))

    def _poses(self) -> Iterator[Entry]:
        path = {reading.stamp_ns: reading.ego_pose for reading in self._readings}
        stamps, poses = list(path), list(path.values())
        for stamp, pose in path.items():
            yield self._entry(stamp, '/tf', 'tf2_msgs/msg/TFMessage',
                              lambda stamp=stamp, pose=pose: self._factory.transforms(
                                  stamp, MAP_FRAME, {BASE_FRAME: pose}))
        if len(stamps) > 1:
            yield from self._odometry(stamps, poses)

    def _odometry(self, stamps: list[int], poses: list[Transform]) -> Iterator[Entry]:
        for stamp, pose, velocity, yaw_rate in zip(stamps, poses, *motion(stamps, poses), strict=True):
            yield self._entry(stamp, '/odom', 'nav_msgs/msg/Odometry',
                              lambda values=(stamp, pose, velocity, float(yaw_rate)):
                              self._factory.odometry(*values))

    def _key_frames(self) -> Iterator[Entry]:
        """Markers and questions of key frames; scenes without annotations only have given questions."""
        for frame in self._frames:
            if frame.annotated:
                yield self._entry(frame.stamp_ns, '/markers/annotations',
                                  'visualization_msgs/msg/MarkerArray',
                                  lambda frame=frame: self._factory.annotations(frame))
            if self._questions and (frame.annotated or self._questions(frame)):
                yield self._entry(frame.stamp_ns, '/labelled_questions', 'mpnp_ros/msg/LabelledQuestions',
                                  lambda frame=frame: self._factory.labelled_questions(
                                      frame.stamp_ns, frame.token, self._questions(frame)))

    def _imu(self) -> Iterator[Entry]:
        """IMU messages of a whole scene, if the root has the CAN bus expansion of nuScenes."""
        path = self._root.root / 'can_bus' / f'{self._scene["name"]}_ms_imu.json'
        if not (self._whole and path.is_file()):
            return
        rows = read_json(path, 'CAN bus file', IMU_AGAIN, DatasetError)
        try:
            if not isinstance(rows, list):
                raise TypeError
            rows = [(_whole(row['utime']) * 1000,
                     *(_numbers(row[name], count) for name, count in IMU.items())) for row in rows]
        except (ValueError, KeyError, TypeError, OverflowError):
            raise DatasetError(f'CAN bus file {path} is damaged: not every row has utime and '
                               f'{", ".join(IMU)} as finite numbers; {IMU_AGAIN}') from None
        for row in rows:
            yield self._entry(row[0], '/imu', 'sensor_msgs/msg/Imu', lambda row=row: self._factory.imu(*row))

    def _entry(self, stamp_ns: int, topic: str, type_name: str, make: Callable[[], Any]) -> Entry:
        return Entry(stamp_ns, topic not in LATCHED_TOPICS, topic, type_name, make)


def _lidar_points(path: Path) -> np.ndarray:
    return read_lidar(path).view([(name, '<f4') for name in LIDAR_FIELDS])[:, 0]


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value or not 0 <= value < LATEST:
        raise ValueError
    return int(value)


def _numbers(values: Any, count: int) -> list[float]:
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError
    return [float(value) for value in values]
