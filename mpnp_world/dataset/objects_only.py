"""Key frames of true objects without sensor data: a hundred thousand in minutes, and their files.

Occlusion is estimated (:mod:`~mpnp_world.sensors.visibility`) instead of ray-cast.  Names and tokens equal
those of the same moments with sensors.  The files are much smaller than nuScenes tables; a hundred thousand
key frames would take gigabytes there.
"""
from __future__ import annotations

import io
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from mpnp_ros.errors import DatasetError
from mpnp_ros.files import write_file
from mpnp_ros.poses import Transform, rotation_about_z
from mpnp_ros.progress import progress as shown
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.vocabulary import CATEGORIES, STATUSES
from mpnp_world.dataset.annotations import MAX_DISTANCE, annotate, seen
from mpnp_world.scene.identity import Conditions, SceneIdentity
from mpnp_world.scene.state import WorldState
from mpnp_world.scene.world import World
from mpnp_world.sensors.visibility import Walls, estimate_occlusion

AHEAD = 4
"""Submitted scenes per process."""
FRAME_DTYPE = np.dtype([('stamp_ns', '<i8'), ('x', '<f8'), ('y', '<f8'), ('yaw', '<f8'), ('count', '<i4')])
OBJECT_DTYPE = np.dtype([
    ('instance', 'S32'), ('category', 'i1'), ('attribute', 'i1'), ('centre', '<f4', 3), ('size', '<f4', 3),
    ('yaw', '<f4'), ('velocity', '<f4', 2), ('num_lidar_pts', '<i4'), ('num_radar_pts', '<i4'),
    ('visibility', 'i1'),
])
"""Fields of AnnotatedObject; category, attribute: index into CATEGORIES and STATUSES, -1 for no attribute."""


def key_frame(state: WorldState, index: int, walls: Walls | None = None) -> KeyFrame:
    """The objects of a state as the key frame number `index` of its scene.

    walls: of the scene; computed if None.
    """
    identity = SceneIdentity(state.seed, state.conditions)
    occlusion = estimate_occlusion(state, walls or Walls(state))
    boxes = annotate(state, occlusion.shares, occlusion.num_lidar_pts, {})
    return KeyFrame(identity.token('sample', index), identity.name, identity.description,
                    identity.stamp(state.time) * 1000, state.ego.pose, {}, None, {},
                    seen(boxes, state.ego, partial(_instance, identity)))


def scene_key_frames(seed: int, frames: int = 10, interval: float = 2.0,
                     conditions: Conditions | None = None) -> list[KeyFrame]:
    """The key frames of one scene, one every `interval` seconds."""
    world = World(seed, conditions, MAX_DISTANCE)
    walls = Walls(world.state())
    result = []
    for index in range(frames):
        world.step(interval)
        result.append(key_frame(world.state(), index, walls))
    return result


def object_key_frames(seeds: Sequence[int], frames_per_scene: int = 10, interval: float = 2.0,
                      workers: int | None = None, progress: bool = True) -> Iterator[KeyFrame]:
    """The key frames of many scenes, in order of `seeds` and time.

    workers: number of processes, default: number of cores; 1: run in this process.
    """
    make = partial(scene_key_frames, frames=frames_per_scene, interval=interval)
    count = workers or len(os.sched_getaffinity(0))
    scenes = map(make, seeds) if count == 1 else _in_processes(make, seeds, count)
    with shown('driving', 'scene', quiet=not progress) as show:
        for done, scene in enumerate(scenes, 1):
            show(done, len(seeds))
            yield from scene


def _in_processes(make: Callable[[int], list[KeyFrame]], seeds: Sequence[int],
                  count: int) -> Iterator[list[KeyFrame]]:
    """Scenes in order, with a bounded number of submitted ones."""
    rest = iter(seeds)
    with ProcessPoolExecutor(count, multiprocessing.get_context('spawn')) as pool:
        pending: deque[Future[list[KeyFrame]]] = deque(
            pool.submit(make, seed) for seed in islice(rest, AHEAD * count))
        while pending:
            scene = pending.popleft().result()
            pending.extend(pool.submit(make, seed) for seed in islice(rest, 1))
            yield scene


@lru_cache(4096)
def _instance(identity: SceneIdentity, number: int) -> str:
    return identity.token('instance', number)


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
