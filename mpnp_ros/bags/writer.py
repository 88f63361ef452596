"""Writes nuScenes scenes as a rosbag2 bag that ``ros2 bag play`` and :class:`BagPlayer` can play.

Topics and frames are those of nuscenes2mcap since 2026-05, in lower case. Header stamp and log time of a
message are the time of the sensor. Messages are created on demand.
"""
from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys.store import Typestore
from tqdm import tqdm

from mpnp_ros.bags.messages import BASE_FRAME, MAP_FRAME, MessageFactory, message_types, motion
from mpnp_ros.errors import BagError, DatasetError
from mpnp_ros.files import read_json
from mpnp_ros.nuscenes.schema import LATEST
from mpnp_ros.nuscenes.sensor_files import LIDAR_FIELDS, read_image, read_lidar, read_radar
from mpnp_ros.nuscenes.tables import NuScenes, Record
from mpnp_ros.poses import Transform
from mpnp_ros.questions.generator import LabelledQuestion, scene_questions
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading

LATCHED_TOPICS = frozenset({'/tf_static'})
MODALITIES = ('camera', 'lidar', 'radar')
IMU = {'q': 4, 'rotation_rate': 3, 'linear_accel': 3}
IMU_AGAIN = 'unpack the CAN bus expansion again'
TAKEN = frozenset({'tf', 'tf_static', 'odom', 'imu', 'markers', 'labelled_questions'})
"""Names that channels cannot have, because other topics use them."""

Questions = Callable[[KeyFrame], Sequence[LabelledQuestion]]

METADATA_VERSION = 8
"""Newest version of metadata.yaml that Humble can read; from 9 on QoS is in words."""

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}


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


def write_bag(root: NuScenes, output: str | Path, scenes: Sequence[str] | None = None,
              questions: Questions | None = scene_questions, storage: str = 'mcap',
              overwrite: bool = False, progress: bool = True, samples: Collection[str] | None = None,
              partial: bool = False) -> Path:
    """Write scenes, sweeps included, to the bag folder ``output`` and return its path.

    scenes: names or tokens, all if None; questions: returns the labelled questions of a key frame, None: no
    questions; storage: ``mcap`` or ``sqlite3``; samples: tokens of the key frames to write without sweeps,
    None: all, with sweeps; partial: skip absent sensor files.  The folder appears only when it is complete.
    Raises BagError if ``output`` exists or cannot be written, DatasetError if ``root`` lacks files.
    """
    output = Path(output)
    records = _chosen(root, scenes, samples)
    if not records:
        raise BagError(f'nothing to write to {output}: no scene is chosen, or none with the chosen samples')
    if storage not in STORAGES:
        raise BagError(f'unknown bag storage {storage!r}; use one of: {", ".join(STORAGES)}')
    _check_free(output, overwrite)
    types = message_types()
    factory = MessageFactory(types)
    recordings = (SceneRecording(root, record, factory, questions, samples, partial)
                  for record in sorted(records, key=lambda record: root.get(
                      'sample', record['first_sample_token'])['timestamp']))
    with _complete_or_absent(output) as folder, Writer(
            folder, version=METADATA_VERSION, storage_plugin=STORAGES[storage]) as writer:
        _write(writer, types, recordings, tqdm(desc=f'writing {output.name}', unit='msg', total=0,
                                               disable=not progress))
    return output


def _chosen(root: NuScenes, scenes: Sequence[str] | None, samples: Collection[str] | None) -> list[Record]:
    records = root.scenes if scenes is None else [root.scene(name) for name in scenes]
    if samples is None:
        return list(records)
    wanted = {root.get('sample', token)['scene_token'] for token in samples}
    return [record for record in records if record['token'] in wanted]


def _write(writer: Writer, types: Typestore, recordings: Iterable[SceneRecording], bar: tqdm) -> None:
    connections: dict[str, Connection] = {}
    with bar:
        for recording in recordings:
            entries = recording.entries()
            bar.total += len(entries)
            for entry in entries:
                if entry.topic not in connections:
                    connections[entry.topic] = writer.add_connection(
                        entry.topic, entry.type_name, typestore=types,
                        offered_qos_profiles=[_offered_qos(entry.topic in LATCHED_TOPICS)])
                data = types.serialize_cdr(entry.make(), entry.type_name)
                writer.write(connections[entry.topic], entry.stamp_ns, data)
                bar.update()


def _offered_qos(latched: bool) -> Qos:
    """The QoS to offer: reliable; transient local if latched."""
    unset = QosTime(0, 0)
    return Qos(
        history=QosHistory.KEEP_LAST, depth=1 if latched else 10, reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=unset, lifespan=unset, liveliness=QosLiveliness.AUTOMATIC, liveliness_lease_duration=unset,
        avoid_ros_namespace_conventions=False)


def _check_free(output: Path, overwrite: bool) -> None:
    try:
        if not output.exists():
            return
    except OSError as error:
        raise BagError(f'bag {output} cannot be written: {error.strerror}; choose another name') from None
    if not overwrite:
        raise BagError(f'{output} exists already; choose another name, or replace it with --overwrite')
    if not (output / 'metadata.yaml').is_file():
        raise BagError(f'{output} exists and is not a bag, so it is not overwritten; choose another name')


@contextmanager
def _complete_or_absent(output: Path) -> Iterator[Path]:
    """A temporary folder beside ``output``, moved there on success, otherwise removed."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f'.{output.name}.', dir=output.parent) as workshop:
            folder = Path(workshop, output.name)
            yield folder
            if output.exists():
                output.rename(Path(workshop, 'replaced'))
            folder.rename(output)
    except (OSError, WriterError, sqlite3.Error) as error:
        raise BagError(f'bag {output} cannot be written: {error}') from error
