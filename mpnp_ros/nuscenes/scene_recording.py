"""What a bag of one nuScenes scene holds: topics, and messages made one by one as they are needed.

Topics and frames are those of nuscenes2mcap since 2026-05, in lower case. The time of a message is the
sensor's own time, in its header as in the log.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.bag_messages import BASE_FRAME, MAP_FRAME, MessageFactory, motion
from mpnp_ros.nuscenes.geometry import Transform
from mpnp_ros.nuscenes.key_frame import KeyFrame, SensorReading
from mpnp_ros.nuscenes.pointclouds import LIDAR_FIELDS, read_lidar, read_radar, read_sensor_file
from mpnp_ros.nuscenes.questions import LabelledQuestion
from mpnp_ros.nuscenes.tables import NuScenes, Record

LATCHED_TOPICS = frozenset({'/tf_static'})

Questions = Callable[[KeyFrame], Sequence[LabelledQuestion]]


@dataclass(frozen=True, order=True)
class Entry:
    """A message to be: sorted by time, latched topics first."""

    stamp_ns: int
    volatile: bool
    topic: str
    type_name: str
    make: Callable[[], Any] = field(compare=False)


class SceneRecording:
    """Lists the messages of one scene.

    questions: gives the labelled questions of a key frame; None leaves ``/labelled_questions`` out.
    samples: tokens of the key frames that are recorded, and nothing between them; None: all, with sweeps.
    """

    def __init__(self, root: NuScenes, scene: Record, factory: MessageFactory,
                 questions: Questions | None, samples: Collection[str] | None = None) -> None:
        self._root = root
        self._scene = scene
        self._factory = factory
        self._questions = questions
        self._whole = samples is None
        self._frames = [frame for frame in root.key_frames(scene)
                        if samples is None or frame.token in samples]
        self._readings = root.readings(scene) if self._whole else [
            reading for frame in self._frames for reading in frame.readings]

    def entries(self) -> list[Entry]:
        """All messages in time order; files are opened when a message is made."""
        if not self._readings:
            raise DatasetError(f'{self._scene["name"]} has no sensor data in {self._root.root}; '
                               'download the metadata again')
        return sorted([*self._sensors(), *self._poses(), *self._key_frames(), *self._imu()])

    def _sensors(self) -> Iterator[Entry]:
        for reading in self._readings:
            yield from self._reading(reading)
        yield self._entry(self._readings[0].stamp_ns, '/tf_static', 'tf2_msgs/msg/TFMessage', self._mounting)

    def _reading(self, reading: SensorReading) -> Iterator[Entry]:
        name, stamp = f'/{reading.channel.lower()}', reading.stamp_ns
        if reading.modality == 'camera':
            yield self._entry(stamp, f'{name}/image_rect/compressed', 'sensor_msgs/msg/CompressedImage',
                              lambda: self._factory.compressed_image(reading, read_sensor_file(reading.path)))
            yield self._entry(stamp, f'{name}/camera_info', 'sensor_msgs/msg/CameraInfo',
                              lambda: self._factory.camera_info(reading))
        else:
            read = _lidar_points if reading.modality == 'lidar' else read_radar
            yield self._entry(stamp, name, 'sensor_msgs/msg/PointCloud2',
                              lambda: self._factory.point_cloud(reading, read(reading.path)))

    def _mounting(self) -> Any:
        """The extrinsics of all sensors."""
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
        for frame in self._frames:
            yield self._entry(frame.stamp_ns, '/markers/annotations', 'visualization_msgs/msg/MarkerArray',
                              lambda frame=frame: self._factory.annotations(frame))
            if self._questions:
                yield self._entry(frame.stamp_ns, '/labelled_questions', 'mpnp_ros/msg/LabelledQuestions',
                                  lambda frame=frame: self._factory.labelled_questions(
                                      frame.stamp_ns, frame.token, self._questions(frame)))

    def _imu(self) -> Iterator[Entry]:
        """Of a whole scene, where the CAN bus expansion of nuScenes is unpacked in the root."""
        path = self._root.root / 'can_bus' / f'{self._scene["name"]}_ms_imu.json'
        if not (self._whole and path.is_file()):
            return
        try:
            rows = [(row['utime'] * 1000, row['q'], row['rotation_rate'], row['linear_accel'])
                    for row in json.loads(path.read_bytes())]
        except (ValueError, KeyError, TypeError):
            raise DatasetError(f'CAN bus file {path} is damaged; '
                               'unpack the CAN bus expansion again') from None
        for row in rows:
            yield self._entry(row[0], '/imu', 'sensor_msgs/msg/Imu', lambda row=row: self._factory.imu(*row))

    def _entry(self, stamp_ns: int, topic: str, type_name: str, make: Callable[[], Any]) -> Entry:
        return Entry(stamp_ns, topic not in LATCHED_TOPICS, topic, type_name, make)


def _lidar_points(path: Path) -> np.ndarray:
    return read_lidar(path).view([(name, '<f4') for name in LIDAR_FIELDS])[:, 0]
