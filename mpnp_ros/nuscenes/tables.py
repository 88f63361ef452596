"""A nuScenes root: its tables, read when first needed, and the key frames they describe.

The records keep the schema's own names. Reading ``sample_data`` of v1.0-trainval takes a few gigabytes,
as with the official devkit; v1.0-mini takes next to nothing.
"""
from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.categories import ATTRIBUTE_OF_NUSCENES, CATEGORY_OF_NUSCENES
from mpnp_ros.nuscenes.geometry import Transform
from mpnp_ros.nuscenes.key_frame import AnnotatedObject, KeyFrame, SensorReading

TABLES = ('attribute', 'calibrated_sensor', 'category', 'ego_pose', 'instance', 'log', 'map', 'sample',
          'sample_annotation', 'sample_data', 'scene', 'sensor', 'visibility')
MAX_VELOCITY_INTERVAL = 1.5
"""Seconds between two annotations above which no velocity is derived, as in the official devkit."""

Record = dict[str, Any]


class NuScenes:
    """Reads one version folder (``v1.0-mini``, ``v1.0-trainval``, ...) of a nuScenes root.

    version: name of the version folder; may be left out where the root holds only one.
    Raises DatasetError, naming what is missing and the remedy.
    """

    def __init__(self, root: str | Path, version: str | None = None) -> None:
        self.root = Path(root)
        self.version = version or self._only_version()
        self._tables: dict[str, dict[str, Record]] = {}
        if not (self.root / self.version).is_dir():
            raise DatasetError(f'{self.root} has no folder {self.version}; '
                               f'it has: {", ".join(self._versions()) or "no version folder"}')

    def table(self, name: str) -> dict[str, Record]:
        """All records of a table by token, in file order."""
        if name not in self._tables:
            self._tables[name] = {record['token']: record for record in self._read_table(name)}
        return self._tables[name]

    def get(self, table: str, token: str) -> Record:
        """One record. Raises DatasetError where the table has no such token."""
        try:
            return self.table(table)[token]
        except KeyError:
            raise DatasetError(f'table {table} of {self.root / self.version} has no record {token!r}; '
                               'the tables do not belong together: download the metadata again') from None

    @property
    def scenes(self) -> tuple[Record, ...]:
        """Scene records in file order."""
        return tuple(self.table('scene').values())

    def scene(self, name: str) -> Record:
        """The scene of this name (``scene-0061``) or token."""
        for record in self.scenes:
            if name in (record['name'], record['token']):
                return record
        known = [record['name'] for record in self.scenes]
        raise DatasetError(f'{self.root / self.version} has no scene {name!r}; it has {len(known)}: '
                           f'{", ".join(known[:10])}{" ..." if len(known) > 10 else ""}')

    def samples(self, scene: Record | str) -> Iterator[Record]:
        """Sample records of a scene in time order."""
        record = self.scene(scene) if isinstance(scene, str) else scene
        token = record['first_sample_token']
        while token:
            sample = self.get('sample', token)
            yield sample
            token = sample['next']

    def key_frames(self, scene: Record | str) -> Iterator[KeyFrame]:
        """Key frames of a scene (its record, name or token) in time order."""
        for sample in self.samples(scene):
            yield self.key_frame(sample['token'])

    def key_frame(self, token: str) -> KeyFrame:
        """The key frame of a sample token."""
        sample = self.get('sample', token)
        scene = self.get('scene', sample['scene_token'])
        records = [data for data in self._data_of_sample[token] if data['is_key_frame']]
        readings = {reading.channel: reading for reading in map(self._reading, records)}
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
            objects=tuple(self._objects(token, ego_pose)),
        )

    def readings(self, scene: Record | str) -> list[SensorReading]:
        """All sensor readings of a scene in time order, the sweeps between key frames included."""
        records = (data for sample in self.samples(scene) for data in self._data_of_sample[sample['token']])
        return sorted(map(self._reading, records), key=lambda reading: (reading.stamp_ns, reading.channel))

    @cached_property
    def _data_of_sample(self) -> dict[str, list[Record]]:
        return self._group_by_sample('sample_data')

    @cached_property
    def _annotations_of_sample(self) -> dict[str, list[Record]]:
        return self._group_by_sample('sample_annotation')

    def _group_by_sample(self, table: str) -> dict[str, list[Record]]:
        groups: dict[str, list[Record]] = defaultdict(list)
        for record in self.table(table).values():
            groups[record['sample_token']].append(record)
        return groups

    def _reading(self, data: Record) -> SensorReading:
        calibration = self.get('calibrated_sensor', data['calibrated_sensor_token'])
        sensor = self.get('sensor', calibration['sensor_token'])
        is_camera = sensor['modality'] == 'camera'
        return SensorReading(
            channel=sensor['channel'], modality=sensor['modality'], path=self.root / data['filename'],
            stamp_ns=data['timestamp'] * 1000, is_key_frame=data['is_key_frame'],
            extrinsics=_pose(calibration), ego_pose=_pose(self.get('ego_pose', data['ego_pose_token'])),
            intrinsics=np.array(calibration['camera_intrinsic'], np.float64) if is_camera else None,
            size=(data['width'], data['height']) if is_camera else None,
        )

    def _objects(self, sample_token: str, ego_pose: Transform) -> Iterator[AnnotatedObject]:
        to_ego = ego_pose.inverse()
        for annotation in self._annotations_of_sample[sample_token]:
            category = CATEGORY_OF_NUSCENES.get(self._category(annotation))
            if category:
                yield self._object(annotation, category, to_ego)

    def _object(self, annotation: Record, category: str, to_ego: Transform) -> AnnotatedObject:
        box = to_ego @ _pose(annotation)
        velocity = self._velocity(annotation)
        width, length, height = annotation['size']
        attributes = (self.get('attribute', token)['name'] for token in annotation['attribute_tokens'])
        return AnnotatedObject(
            instance=annotation['instance_token'], category=category,
            attribute=next((ATTRIBUTE_OF_NUSCENES.get(name) for name in attributes), None),
            centre=tuple(box.translation.tolist()), size=(length, width, height), yaw=box.yaw,
            velocity=None if velocity is None else tuple((to_ego.rotation @ velocity)[:2].tolist()),
            num_lidar_pts=annotation['num_lidar_pts'], num_radar_pts=annotation['num_radar_pts'],
            visibility=int(annotation['visibility_token'] or 0),
        )

    def _category(self, annotation: Record) -> str:
        instance = self.get('instance', annotation['instance_token'])
        return self.get('category', instance['category_token'])['name']

    def _velocity(self, annotation: Record) -> np.ndarray | None:
        """Velocity [3] in the map frame from the annotations before and after (devkit: box_velocity)."""
        first, last = (self.get('sample_annotation', annotation[side] or annotation['token'])
                       for side in ('prev', 'next'))
        start, end = (self.get('sample', item['sample_token'])['timestamp'] / 1e6 for item in (first, last))
        limit = MAX_VELOCITY_INTERVAL * (2 if annotation['prev'] and annotation['next'] else 1)
        if not 0 < end - start <= limit:
            return None
        return (np.array(last['translation']) - np.array(first['translation'])) / (end - start)

    def _read_table(self, name: str) -> list[Record]:
        path = self.root / self.version / f'{name}.json'
        try:
            records = json.loads(path.read_bytes())
        except OSError as error:
            raise DatasetError(f'nuScenes table {path} cannot be read ({error.strerror}); unpack the '
                               f'metadata archive of {self.version} into {self.root}') from None
        except ValueError as error:
            raise DatasetError(f'nuScenes table {path} is not valid JSON ({error}); '
                               'download the metadata again') from None
        if not isinstance(records, list) or not all(isinstance(record, dict) and 'token' in record
                                                    for record in records):
            raise DatasetError(f'nuScenes table {path} is not a list of records with tokens; '
                               'download the metadata again')
        return records

    def _versions(self) -> list[str]:
        return sorted(path.parent.name for path in self.root.glob('v*/scene.json'))

    def _only_version(self) -> str:
        versions = self._versions()
        if not versions:
            raise DatasetError(f'{self.root} is not a nuScenes root: it has no v1.0-*/scene.json; give the '
                               'folder that holds samples/, maps/ and v1.0-mini/ (or v1.0-trainval/)')
        if len(versions) > 1:
            raise DatasetError(f'{self.root} holds several nuScenes versions; name one of them: '
                               f'{", ".join(versions)}')
        return versions[0]


def _pose(record: Record) -> Transform:
    return Transform.from_quaternion(record['translation'], record['rotation'])
