"""Writes nuScenes scenes as a rosbag2 bag that ``ros2 bag play`` and :class:`BagPlayer` can play.

Topics and frames are those of nuscenes2mcap since 2026-05, in lower case. Header stamp and log time of a
message are the time of the sensor. Messages are created on demand.
"""
from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

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
from tqdm import tqdm

from mpnp_ros.bags.messages import BASE_FRAME, MAP_FRAME, MessageFactory, message_types, motion
from mpnp_ros.errors import BagError, DatasetError
from mpnp_ros.nuscenes.schema import Record
from mpnp_ros.nuscenes.sensor_files import (
    LIDAR_FIELDS,
    read_image,
    read_inertial,
    read_lidar,
    read_radar,
)
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import LabelledQuestion, scene_questions
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading

LATCHED_TOPICS = frozenset({'/tf_static'})
MODALITIES = ('camera', 'lidar', 'radar')
TAKEN = frozenset({'tf', 'tf_static', 'odom', 'imu', 'markers', 'labelled_questions'})
"""Names that channels cannot have, because other topics use them."""

Questions = Callable[[KeyFrame], Sequence[LabelledQuestion]]

METADATA_VERSION: Literal[8] = 8
"""Newest version of metadata.yaml that Humble can read; from 9 on QoS is in words."""

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}


@dataclass(frozen=True, order=True)
class Entry:
    """A message to create; entries sort by time, latched topics first."""

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
    sweeps: record those between key frames.
    Raises DatasetError if files are absent and not skipped, or all are absent; for a channel that cannot be a
    topic name; and as :class:`NuScenes`.
    """

    def __init__(self, root: NuScenes, scene: Record, factory: MessageFactory, questions: Questions | None,
                 samples: Collection[str] | None = None, partial: bool = False, sweeps: bool = True) -> None:
        self._root = root
        self._scene = scene
        self._factory = factory
        self._questions = questions
        self._whole = samples is None
        self._frames = [frame for frame in root.key_frames(scene)
                        if samples is None or frame.token in samples]
        named = root.readings(scene) if self._whole else [
            reading for frame in self._frames for reading in frame.readings]
        named = [reading for reading in named if sweeps or reading.is_key_frame]
        if partial:
            named = [reading for reading in named if reading.modality in MODALITIES]
        if not named:
            raise DatasetError(f'{scene["name"]} has no sensor data in {root.root}; '
                               'download the metadata again')
        self._readings = [reading for reading in named if reading.path.is_file()]
        if not self._readings or len(self._readings) < len(named) and not partial:
            absent = next(reading.path for reading in named if not reading.path.is_file())
            raise DatasetError(f'{len(self._readings)} of {len(named)} sensor files of {scene["name"]} are '
                               f'there, {absent} is not; download the file blobs of this nuScenes version '
                               'into the same root')
        self._check_names()

    def _check_names(self) -> None:
        """Raise DatasetError for a channel that cannot be the name of a topic."""
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
        """Return all messages in time order; files are read when a message is created."""
        return sorted([*self._sensors(), *self._poses(), *self._key_frames(), *self._imu()])

    def _sensors(self) -> Iterator[Entry]:
        """Yield images, camera information, point clouds, and the mountings of all sensors."""
        factory = self._factory

        def image(reading: SensorReading) -> Any:
            return factory.compressed_image(reading, read_image(reading))

        def lidar_cloud(reading: SensorReading) -> Any:
            points = read_lidar(reading.path).view([(name, '<f4') for name in LIDAR_FIELDS])[:, 0]
            return factory.point_cloud(reading, points)

        def radar_cloud(reading: SensorReading) -> Any:
            return factory.point_cloud(reading, read_radar(reading.path))

        for reading in self._readings:
            name, stamp = f'/{reading.channel.lower()}', reading.stamp_ns
            if reading.modality == 'camera':
                yield self._entry(stamp, f'{name}/image_rect/compressed', 'sensor_msgs/msg/CompressedImage',
                                  partial(image, reading))
                yield self._entry(stamp, f'{name}/camera_info', 'sensor_msgs/msg/CameraInfo',
                                  partial(factory.camera_info, reading))
            else:
                yield self._entry(stamp, name, 'sensor_msgs/msg/PointCloud2', partial(
                    lidar_cloud if reading.modality == 'lidar' else radar_cloud, reading))
        frames = {reading.channel.lower(): reading.extrinsics for reading in self._readings}
        first = self._readings[0].stamp_ns
        yield self._entry(first, '/tf_static', 'tf2_msgs/msg/TFMessage', partial(
            factory.transforms, first, BASE_FRAME, dict(sorted(frames.items()))))

    def _poses(self) -> Iterator[Entry]:
        """Yield poses and odometry at the stamps of all readings."""
        path = {reading.stamp_ns: reading.ego_pose for reading in self._readings}
        stamps, poses = list(path), list(path.values())
        for stamp, pose in path.items():
            yield self._entry(stamp, '/tf', 'tf2_msgs/msg/TFMessage', partial(
                self._factory.transforms, stamp, MAP_FRAME, {BASE_FRAME: pose}))
        if len(stamps) > 1:
            for stamp, pose, velocity, yaw_rate in zip(stamps, poses, *motion(stamps, poses), strict=True):
                yield self._entry(stamp, '/odom', 'nav_msgs/msg/Odometry', partial(
                    self._factory.odometry, stamp, pose, velocity, float(yaw_rate)))

    def _key_frames(self) -> Iterator[Entry]:
        """Yield markers and questions of key frames; without annotations there are only given questions."""
        def questions(frame: KeyFrame, labelled: Questions) -> Any:
            return self._factory.labelled_questions(frame.stamp_ns, frame.token, labelled(frame))

        for frame in self._frames:
            if frame.annotated:
                yield self._entry(frame.stamp_ns, '/markers/annotations',
                                  'visualization_msgs/msg/MarkerArray',
                                  partial(self._factory.annotations, frame))
            if self._questions and (frame.annotated or self._questions(frame)):
                yield self._entry(frame.stamp_ns, '/labelled_questions', 'mpnp_ros/msg/LabelledQuestions',
                                  partial(questions, frame, self._questions))

    def _imu(self) -> Iterator[Entry]:
        """Yield IMU messages of a whole scene, if the root has the CAN bus expansion of nuScenes."""
        path = self._root.inertial_file(self._scene['name'])
        if not (self._whole and path.is_file()):
            return
        readings = read_inertial(path)
        rows = zip(readings.stamps_ns.tolist(), readings.orientation.tolist(), readings.rotation.tolist(),
                   readings.acceleration.tolist(), strict=True)
        for row in rows:
            yield self._entry(row[0], '/imu', 'sensor_msgs/msg/Imu', partial(self._factory.imu, *row))

    def _entry(self, stamp_ns: int, topic: str, type_name: str, make: Callable[[], Any]) -> Entry:
        return Entry(stamp_ns, topic not in LATCHED_TOPICS, topic, type_name, make)


def write_bag(root: NuScenes, output: str | Path, scenes: Sequence[str] | None = None,
              questions: Questions | None = scene_questions, storage: str = 'mcap',
              overwrite: bool = False, progress: bool = True, samples: Collection[str] | None = None,
              partial: bool = False, sweeps: bool = True) -> Path:
    """Write scenes to the bag folder ``output`` and return its path.

    scenes: names or tokens, all if None; questions: returns the labelled questions of a key frame, None: no
    questions; storage: ``mcap`` or ``sqlite3``; samples: tokens of the key frames to write without sweeps,
    None: all, with sweeps; partial: skip absent sensor files; sweeps: write those between key frames.
    The folder appears only when it is complete.
    Raises BagError if ``output`` exists or cannot be written, DatasetError if ``root`` lacks files.
    """
    output = Path(output)
    records = list(root.scenes) if scenes is None else [root.scene(name) for name in scenes]
    if samples is not None:
        chosen = {root.get('sample', token)['scene_token'] for token in samples}
        records = [record for record in records if record['token'] in chosen]
    if not records:
        raise BagError(f'nothing to write to {output}: no scene is chosen, or none with the chosen samples')
    if storage not in STORAGES:
        raise BagError(f'unknown bag storage {storage!r}; use one of: {", ".join(STORAGES)}')
    _check_free(output, overwrite)
    records.sort(key=lambda record: root.get('sample', record['first_sample_token'])['timestamp'])
    types = message_types()
    factory = MessageFactory(types)
    connections: dict[str, Connection] = {}
    with (_complete_or_absent(output) as folder,
          Writer(folder, version=METADATA_VERSION, storage_plugin=STORAGES[storage]) as writer,
          tqdm(desc=f'writing {output.name}', unit='msg', total=0, disable=not progress) as bar):
        for record in records:
            entries = SceneRecording(root, record, factory, questions, samples, partial, sweeps).entries()
            bar.total += len(entries)
            for entry in entries:
                if entry.topic not in connections:
                    connections[entry.topic] = writer.add_connection(
                        entry.topic, entry.type_name, typestore=types,
                        offered_qos_profiles=[qos_to_offer(entry.topic in LATCHED_TOPICS)])
                data = types.serialize_cdr(entry.make(), entry.type_name)
                writer.write(connections[entry.topic], entry.stamp_ns, data)
                bar.update()
    return output


def qos_to_offer(latched: bool) -> Qos:
    """Return the QoS to offer: reliable; transient local if latched."""
    unset = QosTime(0, 0)
    return Qos(
        history=QosHistory.KEEP_LAST, depth=1 if latched else 10, reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=unset, lifespan=unset, liveliness=QosLiveliness.AUTOMATIC, liveliness_lease_duration=unset,
        avoid_ros_namespace_conventions=False)


def _check_free(output: Path, overwrite: bool) -> None:
    """Raise BagError if a bag cannot be written there."""
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
    """Yield a temporary folder beside ``output``, which is moved there on success and otherwise removed."""
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
