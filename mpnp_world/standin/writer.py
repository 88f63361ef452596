"""Writes generated streets as a nuScenes root: 13 tables, pictures and LiDAR sweeps."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.schema import link_records
from mpnp_ros.nuscenes.tables import TABLES
from mpnp_ros.poses import Transform
from mpnp_ros.questions.vocabulary import ATTRIBUTE_OF_NUSCENES
from mpnp_world.sensors.rig import CAMERAS, IMAGE_SIZE, LIDAR, LIDAR_CHANNEL
from mpnp_world.standin.sensors import StandinPainter, Sweep, cast_sweep
from mpnp_world.standin.street import StandinStreet, make_street

RIG = {**CAMERAS, LIDAR_CHANNEL: LIDAR}
VERSION = 'v1.0-mini'
KEY_FRAME_INTERVAL = 0.5
FIRST_TIMESTAMP = 1_600_000_000_000_000
"""Microseconds; every later scene starts an hour after the one before."""
SCENE_INTERVAL = 3_600_000_000
JPEG_QUALITY = 88
MAP_FILE = 'maps/standin.png'

CATEGORY_NAMES = {
    'barrier': 'movable_object.barrier', 'bicycle': 'vehicle.bicycle', 'bus': 'vehicle.bus.rigid',
    'car': 'vehicle.car', 'construction vehicle': 'vehicle.construction', 'motorcycle': 'vehicle.motorcycle',
    'pedestrian': 'human.pedestrian.adult', 'traffic cone': 'movable_object.trafficcone',
    'trailer': 'vehicle.trailer', 'truck': 'vehicle.truck',
}
VISIBILITY_LEVELS = {'1': 'v0-40', '2': 'v40-60', '3': 'v60-80', '4': 'v80-100'}

Record = dict[str, Any]


def write_standin(root: str | Path, seed: int = 0, scenes: int = 2, key_frames: int = 4) -> Path:
    """Write a stand-in for nuScenes; returns its root. The same ``seed`` gives the same bytes.

    scenes: every second one at night; key_frames: of each scene, with six cameras and a LiDAR. The
    default has about 8 MB and takes as many seconds on one core.
    Raises DatasetError if ``root`` exists and is not empty.
    """
    root = Path(root)
    if root.exists() and any(root.iterdir()):
        raise DatasetError(f'{root} exists and is not empty; give a new folder for the stand-in')
    writer = StandInWriter(root)
    for number in range(1, scenes + 1):
        writer.add(make_street(number, seed), number, key_frames, seed)
    writer.close()
    return root


class StandInWriter:
    """Collects the tables of a root and writes its sensor files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tables: dict[str, dict[str, Record]] = {name: {} for name in TABLES}
        for channel in RIG:
            (root / 'samples' / channel).mkdir(parents=True)
            self._add('sensor', _token('sensor', channel), channel=channel,
                      modality='lidar' if channel == LIDAR_CHANNEL else 'camera')
        for index, name in enumerate(CATEGORY_NAMES.values()):
            self._add('category', _token('category', name), name=name, description='', index=index + 1)
        for name in ATTRIBUTE_OF_NUSCENES:
            self._add('attribute', _token('attribute', name), name=name, description='')
        for token, level in VISIBILITY_LEVELS.items():
            self._add('visibility', token, level=level, description='')

    def add(self, street: StandinStreet, number: int, key_frames: int, seed: int) -> None:
        """Write the key frames of a street as scene ``number``."""
        scene = _token('scene', seed, street.name)
        log = self._add('log', _token('log', seed, street.name), logfile=f'standin-{street.name}',
                        vehicle='standin', date_captured='2020-09-13', location='singapore-onenorth')
        for channel, mounting in RIG.items():
            self._add('calibrated_sensor', _token('calibration', scene, channel),
                      sensor_token=_token('sensor', channel), translation=list(mounting.translation),
                      rotation=list(mounting.quaternion), camera_intrinsic=mounting.intrinsics)
        samples = [_token('sample', scene, index) for index in range(key_frames)]
        self._add('scene', scene, log_token=log, nbr_samples=key_frames, name=street.name,
                  description=street.description, first_sample_token=samples[0],
                  last_sample_token=samples[-1])
        start = FIRST_TIMESTAMP + (number - 1) * SCENE_INTERVAL
        for index, sample in enumerate(samples):
            time = index * KEY_FRAME_INTERVAL
            timestamp = start + round(time * 1e6)
            self._add('sample', sample, timestamp=timestamp, scene_token=scene, prev='', next='')
            sweep = cast_sweep(street, time, np.random.default_rng([seed, number, index]))
            self._sensor_data(street, sample, index, timestamp, sweep)
            self._annotate(street, scene, sample, time, sweep)

    def close(self) -> None:
        """Link successive records and write the tables and the map."""
        link_records(self._tables['sample'].values(), 'scene_token')
        link_records(self._tables['sample_data'].values(), 'calibrated_sensor_token')
        boxes = link_records(self._tables['sample_annotation'].values(), 'instance_token')
        for instance, chain in boxes.items():
            self._tables['instance'][instance].update(
                nbr_annotations=len(chain), first_annotation_token=chain[0]['token'],
                last_annotation_token=chain[-1]['token'])
        self._add('map', _token('map'), category='semantic_prior', filename=MAP_FILE,
                  log_tokens=list(self._tables['log']))
        (self._root / MAP_FILE).parent.mkdir()
        Image.new('L', (64, 64), 255).save(self._root / MAP_FILE)
        (self._root / VERSION).mkdir()
        for name, records in self._tables.items():
            path = self._root / VERSION / f'{name}.json'
            path.write_text(json.dumps(list(records.values()), indent=0), 'utf-8')

    def _sensor_data(self, street: StandinStreet, sample: str, index: int, timestamp: int,
                     sweep: Sweep) -> None:
        for channel, mounting in RIG.items():
            time = index * KEY_FRAME_INTERVAL + mounting.delay
            stamp = timestamp + round(mounting.delay * 1e6)
            extension = 'jpg' if mounting.camera else 'pcd.bin'
            filename = f'samples/{channel}/standin-{street.name}__{channel}__{stamp}.{extension}'
            if mounting.camera:
                picture = StandinPainter(street, mounting, time).paint()
                picture.save(self._root / filename, quality=JPEG_QUALITY)
            else:
                (self._root / filename).write_bytes(sweep.points.tobytes())
            token = _token('data', sample, channel)
            self._add('ego_pose', token, timestamp=stamp, **_pose(street.ego_in_map(time)))
            width, height = IMAGE_SIZE if mounting.camera else (0, 0)
            calibration = _token('calibration', self._tables['sample'][sample]['scene_token'], channel)
            self._add('sample_data', token, sample_token=sample, ego_pose_token=token, timestamp=stamp,
                      calibrated_sensor_token=calibration, fileformat=extension.partition('.')[0],
                      is_key_frame=True, height=height, width=width, filename=filename, prev='', next='')

    def _annotate(self, street: StandinStreet, scene: str, sample: str, time: float, sweep: Sweep) -> None:
        """Add boxes of the actors with points in the sweep."""
        families = {'pedestrian': 'pedestrian', 'bicycle': 'cycle', 'motorcycle': 'cycle'}
        for number in np.flatnonzero(sweep.hits).tolist():
            actor = street.actors[number]
            instance = self._add('instance', _token('instance', scene, actor.name),
                                 category_token=_token('category', CATEGORY_NAMES[actor.category]))
            family = families.get(actor.category, 'vehicle')
            attributes = [_token('attribute', name) for name, word in ATTRIBUTE_OF_NUSCENES.items()
                          if word == actor.attribute and name.startswith(family)]
            length, width, height = actor.size
            box = actor.pose(time)
            centre = Transform(box.rotation, box.translation + (0, 0, height / 2))
            self._add('sample_annotation', _token('annotation', sample, actor.name), sample_token=sample,
                      instance_token=instance, attribute_tokens=attributes,
                      visibility_token=str(1 + int(np.searchsorted([.4, .6, .8], sweep.visible[number]))),
                      size=[width, length, height], num_lidar_pts=int(sweep.hits[number]), num_radar_pts=0,
                      prev='', next='', **_pose(street.origin @ centre))

    def _add(self, table: str, token: str, **fields: Any) -> str:
        self._tables[table][token] = {'token': token, **fields}
        return token


def _pose(pose: Transform) -> Record:
    return {'translation': pose.translation.tolist(), 'rotation': list(pose.quaternion)}


def _token(*parts: object) -> str:
    return hashlib.md5('/'.join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()
