"""The tables that all scenes of the world share, in the schema of nuScenes v1.0."""
from __future__ import annotations

from typing import Any

from mpnp_ros.poses import Transform
from mpnp_ros.questions.vocabulary import ATTRIBUTE_OF_NUSCENES
from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.identity import token
from mpnp_world.sensors.rig import CAMERAS, LIDAR, RADARS
from mpnp_world.standin.rig import IMAGE_SIZE, LIDAR_CHANNEL
from mpnp_world.standin.writer import VISIBILITY_LEVELS

VERSION = 'v1.0-world'
MAP_FILE = 'maps/world.png'
MICROPHONE_CHANNEL = 'MICROPHONES'
CHANNELS = {'camera': tuple(CAMERAS), 'lidar': (LIDAR_CHANNEL,), 'radar': tuple(RADARS)}
"""nuScenes channels by modality."""
SENSORS = (*CHANNELS, 'imu', 'microphones')
ADDITIONS = ('sound',)
"""Additional tables; the nuScenes devkit ignores them."""

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
