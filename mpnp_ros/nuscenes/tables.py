"""A nuScenes root: its tables, read when first needed, and the key frames in them.

Records keep the names of the schema. Reading ``sample_data`` of v1.0-trainval takes a few gigabytes, as with
the official devkit.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from mpnp_ros.errors import DatasetError
from mpnp_ros.files import read_json
from mpnp_ros.nuscenes.schema import METADATA_REMEDY, Record, check_record
from mpnp_ros.poses import Transform
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame, SensorReading
from mpnp_ros.questions.vocabulary import ATTRIBUTE_OF_NUSCENES, CATEGORY_OF_NUSCENES

TABLES = ('attribute', 'calibrated_sensor', 'category', 'ego_pose', 'instance', 'log', 'map', 'sample',
          'sample_annotation', 'sample_data', 'scene', 'sensor', 'visibility')
MAX_VELOCITY_INTERVAL = 1.5
"""Maximum seconds between annotations to derive a velocity, as in the official devkit."""
MIN_INTERVAL = 1000
"""Minimum microseconds between key frames of a scene; smaller ones indicate another unit."""


class NuScenes:
    """Reads one version folder (``v1.0-mini``, ``v1.0-trainval``, ...) of a nuScenes root.

    root: or the version folder itself.  version: name of the version folder, optional if there is only one.
    Raises DatasetError with the missing file and a remedy.
    """

    def __init__(self, root: str | Path, version: str | None = None) -> None:
        self.root = Path(root)
        if version is None and (self.root / 'scene.json').is_file():
            self.root, version = self.root.resolve().parent, self.root.resolve().name
        self.version = version or self._only_version()
        self._tables: dict[str, dict[str, Record]] = {}
        self._sound: dict[str, dict[str, Record]] = defaultdict(dict)
        if not (self.root / self.version).is_dir():
            raise DatasetError(f'{self.root} has no folder {self.version}; '
                               f'it has: {", ".join(self._versions()) or "no version folder"}')

    def table(self, name: str) -> dict[str, Record]:
        """Return all records of a table by token, in file order, as they are stored."""
        if name not in self._tables:
            path = self._path(name)
            stored = read_json(path, 'nuScenes table', 'download the metadata again', DatasetError,
                               f'unpack the metadata archive of {self.version} into {self.root}')
            if not isinstance(stored, list):
                raise DatasetError(f'nuScenes table {path} is not a list of records; download the metadata '
                                   'again')
            records: dict[str, Record] = {}
            for number, record in enumerate(stored):
                if not isinstance(record, dict) or not isinstance(record.get('token'), str) \
                        or not record['token']:
                    raise DatasetError(f'record {number} of nuScenes table {path} is not an object with a '
                                       'token; download the metadata again')
                if records.setdefault(record['token'], record) != record:
                    raise DatasetError(f'nuScenes table {path} has two records {record["token"]!r} that '
                                       f'differ; {METADATA_REMEDY}')
            self._tables[name] = records
        return self._tables[name]

    def get(self, table: str, token: str, asked: str = '') -> Record:
        """Return a record with checked fields.

        asked: the referring record, for the message.  Raises DatasetError if the table has no such token, or
        the record lacks a field or has one of another type.
        """
        sound = self._sound[table]
        if token not in sound:
            record = self.table(table).get(token)
            if record is None:
                raise DatasetError(f'table {table} of {self.root / self.version} has no record {token!r}'
                                   f'{f", which {asked} names" if asked else ""}; the tables do not belong '
                                   'together: download the metadata again')
            sound[token] = check_record(table, record, str(self._path(table)))
        return sound[token]

    @cached_property
    def scenes(self) -> tuple[Record, ...]:
        """Return the scene records in file order.  Raises DatasetError for none, or for two of one name."""
        records = tuple(self.get('scene', token) for token in self.table('scene'))
        if not records:
            raise DatasetError(f'no scene in {self._path("scene")}; download the metadata again')
        name, count = Counter(record['name'] for record in records).most_common(1)[0]
        if count > 1:
            raise DatasetError(f'{count} scenes of {self._path("scene")} are named {name!r}; '
                               f'{METADATA_REMEDY}')
        return records

    def scene(self, name: str) -> Record:
        """Return the scene of a name (``scene-0061``) or token."""
        for record in self.scenes:
            if name in (record['name'], record['token']):
                return record
        known = [record['name'] for record in self.scenes]
        raise DatasetError(f'{self.root / self.version} has no scene {name!r}; it has {len(known)}: '
                           f'{", ".join(known[:10])}{" ..." if len(known) > 10 else ""}')

    def samples(self, scene: Record | str) -> Iterator[Record]:
        """Yield the sample records of a scene in time order.

        Raises DatasetError if there are none, they form a circle, lead to another scene or are not in time
        order.
        """
        record = self.scene(scene) if isinstance(scene, str) else scene
        where, asked = f'samples of {record["name"]} in {self._path("sample")}', f'scene {record["name"]}'
        token, before = record['first_sample_token'], None
        seen: set[str] = set()
        if not token:
            raise DatasetError(f'record {record["token"]!r} of {self._path("scene")} lacks '
                               f'first_sample_token; {METADATA_REMEDY}')
        while token:
            if before and token in seen:
                raise DatasetError(f'{where} form a circle: {before["token"]!r} leads back to {token!r}; '
                                   f'{METADATA_REMEDY}')
            sample = self.get('sample', token, asked)
            if sample['scene_token'] != record['token']:
                raise DatasetError(f'{where} lead to {token!r}, which is of scene {sample["scene_token"]!r}; '
                                   f'{METADATA_REMEDY}')
            if before and sample['timestamp'] - before['timestamp'] < MIN_INTERVAL:
                raise DatasetError(
                    f'{where} are not in time order: {token!r} follows {before["token"]!r} after '
                    f'{sample["timestamp"] - before["timestamp"]} microseconds; {METADATA_REMEDY}')
            yield sample
            seen.add(token)
            token, before, asked = sample['next'], sample, f'sample {token!r}'

    def has_annotations(self, scene: Record | str) -> bool:
        """Return whether a scene has annotations; False in v1.0-test."""
        record = self.scene(scene) if isinstance(scene, str) else scene
        return record['token'] in self._annotated_scenes

    def key_frames(self, scene: Record | str) -> Iterator[KeyFrame]:
        """Yield the key frames of a scene (its record, name or token) in time order."""
        for sample in self.samples(scene):
            yield self.key_frame(sample['token'])

    def key_frame(self, token: str) -> KeyFrame:
        """Return the key frame of a sample token."""
        sample = self.get('sample', token)
        scene = self.get('scene', sample['scene_token'], f'sample {token!r}')
        readings: dict[str, SensorReading] = {}
        for reading in (self._reading(data) for data in self._data(token) if data['is_key_frame']):
            if reading.channel in readings:
                raise DatasetError(f'sample {token!r} has two key frames of {reading.channel} in '
                                   f'{self._path("sample_data")}; {METADATA_REMEDY}')
            readings[reading.channel] = reading
        if not readings:
            raise DatasetError(f'sample {token} has no sensor data in {self.root / self.version}; '
                               'download the metadata again')
        lidar = readings.get('LIDAR_TOP')
        ego_pose = (lidar or next(iter(readings.values()))).ego_pose
        return KeyFrame(
            token=token, scene=scene['name'], description=scene['description'],
            stamp_ns=sample['timestamp'] * 1000, ego_pose=ego_pose, lidar=lidar,
            cameras={c: reading for c, reading in sorted(readings.items()) if reading.modality == 'camera'},
            radars={c: reading for c, reading in sorted(readings.items()) if reading.modality == 'radar'},
            objects=self._objects(token, ego_pose), annotated=self.has_annotations(scene),
            history=partial(self._history, token),
            imu=self._inertial(scene['name'], sample['timestamp'] * 1000, ego_pose),
        )

    def inertial_file(self, scene: str) -> Path:
        """Return the path at which the CAN bus expansion has the readings of a scene's IMU."""
        return self.root / 'can_bus' / f'{scene}_ms_imu.json'

    def _inertial(self, scene: str, stamp_ns: int, ego_pose: Transform) -> SensorReading | None:
        path = self.inertial_file(scene)
        base = Transform(np.eye(3), np.zeros(3))
        return SensorReading('IMU', 'imu', path, stamp_ns, True, base, ego_pose) if path.is_file() else None

    def files(self, scene: Record | str, key_frames_only: bool = False) -> Iterator[tuple[Record, Path]]:
        """Yield the sensor record and path of the sensor files of a scene, whether or not they exist."""
        for sample in self.samples(scene):
            yield from self.files_of(sample['token'], key_frames_only)

    def files_of(self, sample_token: str, key_frames_only: bool = False) -> Iterator[tuple[Record, Path]]:
        """Yield the sensor record and path of the files of a sample, with or without sweeps."""
        for data in self._data(sample_token):
            if data['is_key_frame'] or not key_frames_only:
                yield self._sensor(data)[1], self.root / data['filename']

    def readings(self, scene: Record | str) -> list[SensorReading]:
        """Return all sensor readings of a scene in time order, with the sweeps between key frames."""
        records = (data for sample in self.samples(scene) for data in self._data(sample['token']))
        return sorted(map(self._reading, records), key=lambda reading: (reading.stamp_ns, reading.channel))

    @cached_property
    def _annotated_scenes(self) -> frozenset[str]:
        samples = self.table('sample')
        return frozenset(self.get('sample', token)['scene_token'] for token in self._annotations_of_sample
                         if token in samples)

    @cached_property
    def _data_of_sample(self) -> dict[str, list[str]]:
        return self._group_by_sample('sample_data')

    @cached_property
    def _annotations_of_sample(self) -> dict[str, list[str]]:
        return self._group_by_sample('sample_annotation')

    def _group_by_sample(self, table: str) -> dict[str, list[str]]:
        """Return the tokens of the records of each sample."""
        groups: dict[str, list[str]] = defaultdict(list)
        for token, record in self.table(table).items():
            sample = record.get('sample_token')
            if not isinstance(sample, str) or not sample:
                sample = self.get(table, token)['sample_token']  # raises the error
            groups[sample].append(token)
        return groups

    def _data(self, sample_token: str) -> list[Record]:
        return [self.get('sample_data', token) for token in self._data_of_sample.get(sample_token, ())]

    def _history(self, sample_token: str, channel: str) -> Iterator[SensorReading]:
        """Yield the readings of a channel before that of a sample's key frame, newest first.

        Raises DatasetError if a record leads to another channel or not back in time.
        """
        data = next((data for data in self._data(sample_token)
                     if data['is_key_frame'] and self._sensor(data)[1]['channel'] == channel), None)
        while data and data['prev']:
            asked = f'sample_data {data["token"]!r}'
            before = self.get('sample_data', data['prev'], asked)
            reading = self._reading(before)
            if reading.channel != channel or before['timestamp'] >= data['timestamp']:
                fault = (f'which is of {reading.channel}' if reading.channel != channel
                         else 'which is not before it in time')
                raise DatasetError(f'prev of {asked} of {self._path("sample_data")} is {before["token"]!r}, '
                                   f'{fault}; {METADATA_REMEDY}')
            yield reading
            data = before

    def _reading(self, data: Record) -> SensorReading:
        calibration, sensor = self._sensor(data)
        is_camera = sensor['modality'] == 'camera'
        if is_camera and not calibration['camera_intrinsic']:
            raise DatasetError(f'record {calibration["token"]!r} of {self._path("calibrated_sensor")}: '
                               f'camera_intrinsic of {sensor["channel"]} is empty, expected 3 x 3 numbers; '
                               f'{METADATA_REMEDY}')
        if is_camera and not (data['width'] and data['height']):
            raise DatasetError(f'record {data["token"]!r} of {self._path("sample_data")} has no width and '
                               f'height of the image; {METADATA_REMEDY}')
        return SensorReading(
            channel=sensor['channel'], modality=sensor['modality'], path=self.root / data['filename'],
            stamp_ns=data['timestamp'] * 1000, is_key_frame=data['is_key_frame'],
            extrinsics=_pose(calibration),
            ego_pose=_pose(self.get('ego_pose', data['ego_pose_token'], f'sample_data {data["token"]!r}')),
            intrinsics=np.array(calibration['camera_intrinsic'], np.float64) if is_camera else None,
            size=(data['width'], data['height']) if is_camera else None,
        )

    def _sensor(self, data: Record) -> tuple[Record, Record]:
        """Return the calibrated_sensor and the sensor of a sample_data record."""
        calibration = self.get('calibrated_sensor', data['calibrated_sensor_token'],
                               f'sample_data {data["token"]!r}')
        return calibration, self.get('sensor', calibration['sensor_token'],
                                     f'calibrated_sensor {calibration["token"]!r}')

    def _objects(self, sample_token: str, ego_pose: Transform) -> tuple[AnnotatedObject, ...]:
        """Return the objects of a sample in the ego frame; those of no category of questions are left out."""
        to_ego = ego_pose.inverse()
        objects = []
        for token in self._annotations_of_sample.get(sample_token, ()):
            annotation, asked = self.get('sample_annotation', token), f'sample_annotation {token!r}'
            instance = self.get('instance', annotation['instance_token'], asked)
            category = CATEGORY_OF_NUSCENES.get(self.get(
                'category', instance['category_token'], f'instance {instance["token"]!r}')['name'])
            if not category:
                continue
            box = to_ego @ _pose(annotation)
            velocity = self._velocity(annotation)
            width, length, height = annotation['size']
            attributes = (self.get('attribute', attribute, asked)['name']
                          for attribute in annotation['attribute_tokens'])
            objects.append(AnnotatedObject(
                instance=annotation['instance_token'], category=category,
                attribute=next((ATTRIBUTE_OF_NUSCENES.get(name) for name in attributes), None),
                centre=tuple(box.translation.tolist()), size=(length, width, height), yaw=box.yaw,
                velocity=None if velocity is None else tuple((to_ego.rotation @ velocity)[:2].tolist()),
                num_lidar_pts=annotation['num_lidar_pts'], num_radar_pts=annotation['num_radar_pts'],
                visibility=annotation['visibility_token'],
            ))
        return tuple(objects)

    def _velocity(self, annotation: Record) -> np.ndarray | None:
        """Return the velocity [3] in the map frame; None if it is not known.

        It follows from the annotations before and after, as in box_velocity of the devkit.
        """
        asked = f'sample_annotation {annotation["token"]!r}'
        first, last = (self.get('sample_annotation', annotation[side] or annotation['token'], asked)
                       for side in ('prev', 'next'))
        for neighbour in (first, last):
            if neighbour['instance_token'] != annotation['instance_token']:
                raise DatasetError(f'{asked} of {self._path("sample_annotation")} leads to '
                                   f'{neighbour["token"]!r}, which is of another instance; {METADATA_REMEDY}')
        start, end = (self.get('sample', item['sample_token'],
                               f'sample_annotation {item["token"]!r}')['timestamp'] / 1e6
                      for item in (first, last))
        limit = MAX_VELOCITY_INTERVAL * (2 if annotation['prev'] and annotation['next'] else 1)
        if not 0 < end - start <= limit:
            return None
        return (np.array(last['translation']) - np.array(first['translation'])) / (end - start)

    def _path(self, table: str) -> Path:
        return self.root / self.version / f'{table}.json'

    def _versions(self) -> list[str]:
        return sorted(path.parent.name for path in self.root.glob('v*/scene.json'))

    def _only_version(self) -> str:
        """Return the version that the root has.  Raises DatasetError for none or several."""
        versions = self._versions()
        if not versions:
            nested = next(iter(sorted(self.root.glob('*/v*/scene.json'))), None)
            hint = f'; {nested.parents[1]} is one' if nested else ''
            raise DatasetError(f'{self.root} is not a nuScenes root: it has no v1.0-*/scene.json; give the '
                               f'folder that holds samples/, maps/ and v1.0-mini/ (or v1.0-trainval/){hint}')
        if len(versions) > 1:
            raise DatasetError(f'{self.root} holds several nuScenes versions: {", ".join(versions)}; name '
                               f'one of them, or give its folder: {self.root / versions[0]}')
        return versions[0]


def _pose(record: Record) -> Transform:
    return Transform.from_quaternion(record['translation'], record['rotation'])
