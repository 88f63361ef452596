"""Which annotated objects the sensors of a vehicle can see."""
from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from mpnp_ros.poses import rotation_about_z
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame, SensorReading

SIGHTED = ('camera', 'lidar', 'radar')
"""Sensors of which it can be told what they see."""
LEAST_SEEN = 0.2
"""Share of a box that a camera must see."""
LEAST_LIDAR_POINTS, LEAST_RADAR_POINTS = 5, 1
LOWEST_LEVEL = 1
"""Visibility of nuScenes from 0 to 40 %."""
LATTICE = (np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3) + .5) / 4 - .5
"""Points [64, 3] of a box of size 1 around the origin."""
NEAREST = 0.1
"""Metres in front of a camera from which on it sees."""


def sensors_of(modalities: Collection[str]) -> tuple[str, ...]:
    """Return the sensors among modalities that decide what is visible; without any, the cameras."""
    return tuple(name for name in SIGHTED if name in modalities) or ('camera',)


def seen_only(frame: KeyFrame, sensors: Sequence[str]) -> KeyFrame:
    """Return the frame with only those of its objects that one of the sensors sees.

    sensors: of SIGHTED.  A LiDAR sees an object with 5 points or more, a radar with 1, cameras see one as
    :func:`seen_by_cameras` tells.
    """
    if frame.seen_by == tuple(sensors):
        return frame
    by_cameras = seen_by_cameras(frame) if 'camera' in sensors else ()
    kept = tuple(item for item in frame.objects if item.instance in by_cameras
                 or 'lidar' in sensors and item.num_lidar_pts >= LEAST_LIDAR_POINTS
                 or 'radar' in sensors and item.num_radar_pts >= LEAST_RADAR_POINTS)
    return replace(frame, objects=kept, seen_by=tuple(sensors))


def seen_by_cameras(frame: KeyFrame) -> frozenset[str]:
    """Return the instances of a key frame that its cameras see.

    At least a fifth of the box of such an object is in images, and at least a fifth is there with no other
    annotated box in front of it.  Boxes hide more than what is in them, so visibility in nuScenes above the
    lowest level tells as well that an object is not hidden.
    """
    objects = frame.objects
    if not objects:
        return frozenset()
    points = np.stack([LATTICE * item.size @ rotation_about_z(item.yaw).T + item.centre for item in objects])
    inside, free = (np.zeros(points.shape[:2], bool) for _ in range(2))
    for camera in frame.cameras.values():
        origin, there = _in_image(frame, camera, points)
        inside |= there
        free |= there & ~_behind(origin, points, there, objects)
    seen = inside.mean(1) >= LEAST_SEEN
    told = np.array([item.visibility > LOWEST_LEVEL for item in objects])
    seen &= (free.mean(1) >= LEAST_SEEN) | told
    return frozenset(item.instance for item, is_seen in zip(objects, seen, strict=True) if is_seen)


def _in_image(frame: KeyFrame, camera: SensorReading, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where a camera is, [3] in the frame of the objects, and which points [..., 3] its image has."""
    assert camera.intrinsics is not None and camera.size is not None  # cameras have both
    pose = frame.ego_pose.inverse() @ camera.ego_pose @ camera.extrinsics
    local = pose.inverse().apply(points)
    ahead = local[..., 2] > NEAREST
    pixels = local @ camera.intrinsics.T
    pixels = pixels[..., :2] / np.where(ahead, pixels[..., 2], 1)[..., None]
    return pose.translation, ahead & (pixels >= 0).all(-1) & (pixels < camera.size).all(-1)


def _behind(origin: np.ndarray, points: np.ndarray, there: np.ndarray,
            objects: Sequence[AnnotatedObject]) -> np.ndarray:
    """Return which points [objects, n, 3] lie behind the box of another object, seen from the origin.

    there: [objects, n] bool, points to look at; the others are not behind anything.
    """
    hidden = np.zeros(there.shape, bool)
    for row, (enter, leave) in enumerate(_crossings(origin, points[there], objects)):
        crossed = np.zeros(there.shape, bool)
        crossed[there] = (enter < leave) & (leave > 0) & (leave < 1)
        crossed[row] = False  # nothing hides itself
        hidden |= crossed
    return hidden


def _crossings(origin: np.ndarray, points: np.ndarray, objects: Sequence[AnnotatedObject],
               ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield where lines from the origin to points [n, 3] enter and leave each box: [n], 1 at the point."""
    for item in objects:
        turn = rotation_about_z(item.yaw)
        start, way = (origin - item.centre) @ turn, (points - origin) @ turn
        half = np.divide(item.size, 2)
        with np.errstate(divide='ignore', invalid='ignore'):
            sides = np.sort(np.stack([(-half - start) / way, (half - start) / way]), 0)
        yield sides[0].max(1), sides[1].min(1)
