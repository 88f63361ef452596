"""Writes one scene of the world into a nuScenes root: its sensor files, then its part of the tables.

The tables have the schema of nuScenes v1.0; :func:`shared_tables` are those that all scenes share.
The part is written last and atomically.  A scene without it does not exist: no table refers to files of a
cancelled run, and generating the scene again overwrites them with the same bytes.
"""
from __future__ import annotations

import io
import json
import wave
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mpnp_ros.nuscenes.schema import link_records
from mpnp_ros.poses import Transform, rotation_about_z
from mpnp_ros.questions.vocabulary import ATTRIBUTE_OF_NUSCENES
from mpnp_world.dataset.annotations import Annotation
from mpnp_world.dataset.frames import WorldFrame, WorldSweeps
from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.identity import SceneIdentity, token
from mpnp_world.scene.state import WorldObject
from mpnp_world.sensors.microphones import SAMPLE_RATE
from mpnp_world.sensors.radar import to_pcd
from mpnp_world.sensors.rig import CAMERAS, IMAGE_SIZE, LIDAR, LIDAR_CHANNEL, RADARS
from mpnp_world.standin.writer import VISIBILITY_LEVELS

VERSION = 'v1.0-world'
MAP_FILE = 'maps/world.png'
MICROPHONE_CHANNEL = 'MICROPHONES'
CHANNELS = {'camera': tuple(CAMERAS), 'lidar': (LIDAR_CHANNEL,), 'radar': tuple(RADARS)}
"""nuScenes channels by modality."""
SENSORS = (*CHANNELS, 'imu', 'microphones')
ADDITIONS = ('sound',)
"""Additional tables; the nuScenes devkit ignores them."""
JPEG_QUALITY = 90
EXTENSIONS = {'camera': 'jpg', 'lidar': 'pcd.bin', 'radar': 'pcd'}
TABLES = ('scene', 'log', 'calibrated_sensor', 'sample', 'ego_pose', 'sample_data', 'instance',
          'sample_annotation', 'sound')
"""Tables with records of scenes; ``sound`` is an addition to the schema of nuScenes."""

Record = dict[str, Any]


def shared_tables() -> dict[str, list[Record]]:
    """The records of sensors, categories, attributes and levels of visibility."""
    return {
        'sensor': [{'token': token('sensor', channel), 'channel': channel, 'modality': modality}
                   for modality, channels in CHANNELS.items() for channel in channels],
        'category': [{'token': token('category', name), 'name': name, 'description': '', 'index': index}
                     for index, name in enumerate(sorted({kind.nuscenes for kind in KINDS.values()}), 1)],
        'attribute': [{'token': token('attribute', name), 'name': name, 'description': ''}
                      for name in ATTRIBUTE_OF_NUSCENES],
        'visibility': [{'token': level, 'level': name, 'description': ''}
                       for level, name in VISIBILITY_LEVELS.items()],
    }


def attribute_tokens(kind: str, attribute: str | None) -> list[str]:
    """Tokens of the nuScenes attribute of a kind with a status word; None: no status."""
    family = {'pedestrian': 'pedestrian', 'bicycle': 'cycle', 'motorcycle': 'cycle'}.get(
        KINDS[kind].category, 'vehicle')
    return [token('attribute', name) for name, word in ATTRIBUTE_OF_NUSCENES.items()
            if word == attribute and name.startswith(family)]


def extrinsics(channel: str) -> Transform:
    """Sensor frame -> ego frame."""
    return (CAMERAS.get(channel) or RADARS.get(channel) or LIDAR).pose


def calibration(channel: str, size: tuple[int, int]) -> Record:
    """Mounting and camera matrix of a channel for images of ``size`` (width, height)."""
    intrinsics = scaled_intrinsics(channel, size) if channel in CAMERAS else []
    return {**pose_record(extrinsics(channel)), 'camera_intrinsic': intrinsics}


def scaled_intrinsics(channel: str, size: tuple[int, int]) -> list[list[float]]:
    """Rows of the camera matrix for images of ``size`` (width, height)."""
    scales = (size[0] / IMAGE_SIZE[0], size[1] / IMAGE_SIZE[1], 1.0)
    return [[value * scale for value in row]
            for row, scale in zip(CAMERAS[channel].intrinsics, scales, strict=True)]


def pose_record(pose: Transform) -> Record:
    """Translation and rotation (w, x, y, z) as nuScenes stores them."""
    return {'translation': pose.translation.tolist(), 'rotation': list(pose.quaternion)}


def write_scene(root: Path, identity: SceneIdentity, frames: Iterable[WorldFrame | WorldSweeps],
                size: tuple[int, int], sensors: Collection[str]) -> dict[str, list[Record]]:
    """Write the sensor files of a scene into ``root`` and return its records by table.

    frames: key frames and sweeps in time order; size: width, height of the images, pixels; sensors: those to
    write.
    """
    writer = SceneWriter(root, identity, size, sensors)
    for frame in frames:
        if isinstance(frame, WorldFrame):
            writer.add(frame)
        else:
            writer.add_sweeps(frame)
    return writer.close()


class SceneWriter:
    """Collects the records of one scene and writes its sensor files."""

    def __init__(self, root: Path, identity: SceneIdentity, size: tuple[int, int],
                 sensors: Collection[str]) -> None:
        self._root = root
        self._identity = identity
        self._size = size
        self._sensors = sensors
        self._tables: dict[str, dict[str, Record]] = {name: {} for name in TABLES}
        self._imu: list[Record] = []

    def add(self, frame: WorldFrame) -> None:
        """Write the sensor files of a key frame and collect its records."""
        stamp = self._identity.stamp(frame.state.time)
        sample = self._add('sample', self._token('sample', frame.index), timestamp=stamp,
                           scene_token=self._token('scene'), prev='', next='')
        pose = self._add('ego_pose', self._token('pose', frame.index), timestamp=stamp,
                         **pose_record(frame.state.ego.pose))
        for modality, channel, data in sensor_files(frame, self._sensors):
            self._sensor_file(sample, pose, stamp, modality, channel, data)
        for annotation in frame.annotations:
            self._annotate(sample, frame.index, annotation)
        if frame.sound is not None:
            filename = self._filename(MICROPHONE_CHANNEL, stamp, 'wav')
            self._write(filename, wav(frame.sound))
            sources = [{'instance_token': self._token('instance', item.identity), 'sound': sound}
                       for item in frame.state.objects
                       for sound, on in (('siren', item.siren), ('horn', item.horn)) if on]
            self._add('sound', self._token('sound', stamp), sample_token=sample, timestamp=stamp,
                      duration=frame.sound.shape[1] / SAMPLE_RATE, filename=filename, sources=sources)
        self._imu += [{  # as in the CAN bus expansion of nuScenes
            'utime': self._identity.stamp(reading.time), 'q': reading.orientation,
            'rotation_rate': reading.rotation_rate, 'linear_accel': reading.acceleration}
            for reading in frame.inertial]

    def add_sweeps(self, sweeps: WorldSweeps) -> None:
        """Write the sensor files of a moment before a key frame and collect its records.

        They belong to the sample of that key frame, as in nuScenes.
        """
        stamp = self._identity.stamp(sweeps.state.time)
        pose = self._add('ego_pose', self._token('pose', 'sweep', stamp), timestamp=stamp,
                         **pose_record(sweeps.state.ego.pose))
        for modality, channel, data in sensor_files(sweeps, self._sensors):
            self._sensor_file(self._token('sample', sweeps.index), pose, stamp, modality, channel, data,
                              'sweeps')

    def close(self) -> dict[str, list[Record]]:
        """Link successive records and write the file of the IMU; returns all records by table."""
        samples = list(link_records(self._tables['sample'].values(), 'scene_token').values())[0]
        link_records(self._tables['sample_data'].values(), 'calibrated_sensor_token')
        boxes = link_records(self._tables['sample_annotation'].values(), 'instance_token')
        for instance, chain in boxes.items():
            self._tables['instance'][instance].update(
                nbr_annotations=len(chain), first_annotation_token=chain[0]['token'],
                last_annotation_token=chain[-1]['token'])
        name = self._identity.name
        log = self._add('log', self._token('log'), logfile=name, vehicle='world',
                        date_captured='2020-09-13', location='embedded-world')
        self._add('scene', self._token('scene'), log_token=log, nbr_samples=len(samples), name=name,
                  description=self._identity.description, first_sample_token=samples[0]['token'],
                  last_sample_token=samples[-1]['token'])
        if self._imu:
            text = json.dumps(self._imu, separators=(',', ':'))
            self._write(f'can_bus/{name}_ms_imu.json', text.encode())
        return {table: list(records.values()) for table, records in self._tables.items()}

    def _sensor_file(self, sample: str, pose: str, stamp: int, modality: str, channel: str,
                     data: bytes, folder: str = 'samples') -> None:
        calibrated = self._token('calibration', channel)
        if calibrated not in self._tables['calibrated_sensor']:
            self._add('calibrated_sensor', calibrated, sensor_token=token('sensor', channel),
                      **calibration(channel, self._size))
        width, height = self._size if modality == 'camera' else (0, 0)
        extension = EXTENSIONS[modality]
        filename = self._filename(channel, stamp, extension, folder)
        self._write(filename, data)
        self._add('sample_data', self._token('data', channel, stamp), sample_token=sample,
                  ego_pose_token=pose, calibrated_sensor_token=calibrated, timestamp=stamp,
                  fileformat=extension.partition('.')[0], is_key_frame=folder == 'samples',
                  height=height, width=width, filename=filename, prev='', next='')

    def _annotate(self, sample: str, index: int, annotation: Annotation) -> None:
        item = annotation.object
        instance = self._token('instance', item.identity)
        if instance not in self._tables['instance']:
            self._add('instance', instance, category_token=token('category', KINDS[item.kind].nuscenes))
        length, width, height = item.size
        self._add('sample_annotation', self._token('annotation', index, item.identity), sample_token=sample,
                  instance_token=instance, attribute_tokens=attribute_tokens(item.kind, item.attribute),
                  visibility_token=str(annotation.visibility), size=[width, length, height],
                  num_lidar_pts=annotation.num_lidar_pts, num_radar_pts=annotation.num_radar_pts,
                  prev='', next='', **pose_record(box_pose(item)))

    def _filename(self, channel: str, stamp: int, extension: str, folder: str = 'samples') -> str:
        return f'{folder}/{channel}/{self._identity.name}__{channel}__{stamp}.{extension}'

    def _write(self, filename: str, data: bytes) -> None:
        path = self._root / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def _token(self, *parts: object) -> str:
        return self._identity.token(*parts)

    def _add(self, table: str, key: str, **fields: object) -> str:
        self._tables[table][key] = {'token': key, **fields}
        return key


def sensor_files(frame: WorldFrame | WorldSweeps, sensors: Collection[str],
                 ) -> Iterator[tuple[str, str, bytes]]:
    """Modality, channel and content of every sensor file of a moment."""
    if 'camera' in sensors:
        yield from (('camera', channel, jpeg(image)) for channel, image in frame.images.items())
    if 'lidar' in sensors and frame.sweep:
        yield 'lidar', LIDAR_CHANNEL, frame.sweep.points.tobytes()
    if 'radar' in sensors:
        yield from (('radar', channel, to_pcd(radar.points)) for channel, radar in frame.radars.items())


def jpeg(image: np.ndarray) -> bytes:
    """An image, uint8 [H, W, 3], as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, 'JPEG', quality=JPEG_QUALITY)
    return stream.getvalue()


def wav(sound: np.ndarray) -> bytes:
    """Sound, float [channels, samples] in -1..1, as 16-bit WAV."""
    stream, samples = io.BytesIO(), np.round(sound.T * 32767).astype('<i2')
    with wave.open(stream, 'wb') as file:
        file.setparams((len(sound), 2, SAMPLE_RATE, sound.shape[1], 'NONE', ''))
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def box_pose(item: WorldObject) -> Transform:
    """The pose of the middle of an object's box in the map."""
    return Transform(rotation_about_z(item.yaw), np.array((item.x, item.y, item.z + item.size[2] / 2)))
