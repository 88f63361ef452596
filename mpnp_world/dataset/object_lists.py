"""Files of key frames without sensor data: the true objects of a scene.

They are much smaller than nuScenes tables; a hundred thousand key frames would take gigabytes there.
"""
from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from mpnp_ros.errors import DatasetError
from mpnp_ros.files import write_file
from mpnp_ros.poses import Transform, rotation_about_z
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.vocabulary import CATEGORIES, STATUSES
from mpnp_world.scene.identity import SceneIdentity

FRAME_DTYPE = np.dtype([('stamp_ns', '<i8'), ('x', '<f8'), ('y', '<f8'), ('yaw', '<f8'), ('count', '<i4')])
OBJECT_DTYPE = np.dtype([
    ('instance', 'S32'), ('category', 'i1'), ('attribute', 'i1'), ('centre', '<f4', 3), ('size', '<f4', 3),
    ('yaw', '<f4'), ('velocity', '<f4', 2), ('num_lidar_pts', '<i4'), ('num_radar_pts', '<i4'),
    ('visibility', 'i1'),
])
"""Fields of AnnotatedObject; category, attribute: index into CATEGORIES and STATUSES, -1 for no attribute."""


def objects_file(root: Path, identity: SceneIdentity) -> Path:
    """The file of the objects of a scene; it exists once the scene is complete."""
    return root / 'objects' / f'{identity.name}.npz'


def write_objects(path: Path, frames: Sequence[KeyFrame]) -> None:
    """Write the key frames of a scene atomically to ``path``."""
    rows = [(frame.stamp_ns, *frame.ego_pose.translation[:2], frame.ego_pose.yaw, len(frame.objects))
            for frame in frames]
    objects = [_row(item) for frame in frames for item in frame.objects]
    stream = io.BytesIO()
    np.savez_compressed(stream, frames=np.array(rows, FRAME_DTYPE), objects=np.array(objects, OBJECT_DTYPE))
    path.parent.mkdir(exist_ok=True)
    write_file(path, stream.getvalue())


def read_objects(path: str | Path) -> Iterator[KeyFrame]:
    """The key frames in a file of :func:`write_objects`, with objects and without sensors.

    Raises DatasetError if the file is damaged.
    """
    path = Path(path)
    identity = SceneIdentity.of_name(path.stem)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            rows, objects = arrays['frames'], arrays['objects']
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DatasetError(f'{path} cannot be read ({error}); remove it and generate it again') from None
    ends = np.cumsum(rows['count'])
    for index, (row, end) in enumerate(zip(rows, ends, strict=True)):
        pose = Transform(rotation_about_z(row['yaw']), np.array((row['x'], row['y'], 0.0)))
        yield KeyFrame(
            token=identity.token('sample', index), scene=identity.name, description=identity.description,
            stamp_ns=int(row['stamp_ns']), ego_pose=pose, cameras={}, lidar=None, radars={},
            objects=tuple(map(_object, objects[end - row['count']:end])))


def _row(item: AnnotatedObject) -> tuple[object, ...]:
    attribute = STATUSES.index(item.attribute) if item.attribute else -1
    return (item.instance.encode(), CATEGORIES.index(item.category), attribute, item.centre, item.size,
            item.yaw, item.velocity or (np.nan, np.nan), item.num_lidar_pts, item.num_radar_pts,
            item.visibility)


def _object(row: np.void) -> AnnotatedObject:
    velocity = tuple(row['velocity'].tolist())
    return AnnotatedObject(
        instance=row['instance'].decode(), category=CATEGORIES[row['category']],
        attribute=STATUSES[row['attribute']] if row['attribute'] >= 0 else None,
        centre=tuple(row['centre'].tolist()), size=tuple(row['size'].tolist()), yaw=float(row['yaw']),
        velocity=None if np.isnan(velocity).any() else velocity, num_lidar_pts=int(row['num_lidar_pts']),
        num_radar_pts=int(row['num_radar_pts']), visibility=int(row['visibility']))
