"""What is hidden behind what, without casting rays: shadows of boxes around a LiDAR, seen from above.

Around the sensor lie as many directions as a sweep has columns.  In each one, whatever stands nearer hides
what is behind it up to the angle of its top, and walls hide everything.  From what is left of a box follow
the points on it and its share in sight.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mpnp_ros.nuscenes.standin.rig import LIDAR_COLUMNS, LIDAR_ELEVATIONS, LIDAR_RINGS
from mpnp_ros.world.boxes import footprints
from mpnp_ros.world.catalogue import KINDS
from mpnp_ros.world.rig import LIDAR
from mpnp_ros.world.state import WorldState

LOWEST, HIGHEST = (math.radians(angle) for angle in LIDAR_ELEVATIONS)
RINGS_A_RADIAN = (LIDAR_RINGS - 1) / (HIGHEST - LOWEST)
COLUMN = math.tau / LIDAR_COLUMNS
FILLED = {'pedestrian': .6, 'child': .6, 'bicycle': .35, 'motorcycle': .5, 'cone': .5, 'barrier': .8,
          'excavator': .65}
"""Share of the outline of a box that its object fills, where it is below that of vehicles."""
FILLED_VEHICLE = .85
SHADOWLESS = ('bicycle', 'cone')
FARTHEST = 75.0
"""Metres beyond which the LiDAR gets nothing back from dark paint."""
NEAREST = 0.5


@dataclass(frozen=True)
class Sight:
    """num_lidar_pts, and the share in sight, 0..1, by identity."""

    num_lidar_pts: dict[int, int]
    shares: dict[int, float]


class Walls:
    """The outlines of the buildings of a scene."""

    def __init__(self, state: WorldState) -> None:
        buildings = [(item.x, item.y, item.yaw, *item.size[:2]) for item in state.scenery.fixtures
                     if item.kind == 'building']
        corners = footprints(np.array(buildings))
        self._starts = corners.reshape(-1, 2)
        self._ends = np.roll(corners, -1, axis=1).reshape(-1, 2)

    def distances(self, x: float, y: float) -> np.ndarray:
        """Metres to the nearest wall in every direction from a place; inf where there is none."""
        starts, ends = self._starts - (x, y), self._ends - (x, y)
        along = ends - starts
        normal = np.stack([along[:, 1], -along[:, 0]], -1)
        offset = (normal * starts).sum(1)
        near = (offset < 0) & (np.minimum(np.hypot(*starts.T), np.hypot(*ends.T)) < 1.5 * FARTHEST)
        first = np.ceil(np.arctan2(ends[near, 1], ends[near, 0]) / COLUMN)
        last = np.arctan2(starts[near, 1], starts[near, 0]) / COLUMN
        nearest = np.full(LIDAR_COLUMNS, np.inf)
        for begin, count, across, away in zip(first.astype(int).tolist(), ((last - first) % LIDAR_COLUMNS).tolist(),
                                              normal[near], offset[near].tolist(), strict=True):
            columns = np.arange(begin, begin + min(int(count) + 1, LIDAR_COLUMNS // 2)) % LIDAR_COLUMNS
            distance = away / (_DIRECTIONS[columns] @ across)
            nearest[columns] = np.minimum(nearest[columns], np.where(distance > 0, distance, np.inf))
        return nearest


def sight(state: WorldState, walls: Walls) -> Sight:
    """What the LiDAR of the ego vehicle gets of every object.  walls: those of the state's scene."""
    eye = state.ego.pose.apply(LIDAR.translation)
    items = state.objects
    if not items:
        return Sight({}, {})
    outlines = _outlines(state, eye)
    wall = walls.distances(float(eye[0]), float(eye[1]))
    horizon = np.full(LIDAR_COLUMNS, LOWEST)
    points, shares = {}, {}
    for index in np.argsort(outlines.near).tolist():
        item, top, bottom = items[index], outlines.top[index], outlines.bottom[index]
        columns = np.arange(outlines.first[index], outlines.last[index] + 1) % LIDAR_COLUMNS
        shadow = horizon[columns]
        left = np.maximum(top - np.maximum(shadow, bottom), 0) * (wall[columns] > outlines.near[index])
        whole, angle = max(top - bottom, 0) * len(columns), float(left.sum())
        shares[item.identity] = angle / whole if whole else 0.0
        density = RINGS_A_RADIAN * FILLED.get(item.kind, FILLED_VEHICLE) * outlines.fraction[index]
        points[item.identity] = round(angle * density) if outlines.near[index] < FARTHEST else 0
        if item.kind not in SHADOWLESS:
            horizon[columns] = np.maximum(shadow, top)
    return Sight(points, shares)


@dataclass(frozen=True, eq=False)
class _Outlines:
    """Of boxes, [N] each.  near: metres; first, last: columns; fraction: width in columns to their number;
    bottom, top: radians, within those of the sweep.
    """

    near: np.ndarray
    first: np.ndarray
    last: np.ndarray
    fraction: np.ndarray
    bottom: np.ndarray
    top: np.ndarray


def _outlines(state: WorldState, eye: np.ndarray) -> _Outlines:
    boxes = np.array([(item.x, item.y, item.yaw, *item.size, item.z) for item in state.objects])
    offset = eye[:2] - boxes[:, :2]
    cosine, sine = np.cos(boxes[:, 2]), np.sin(boxes[:, 2])
    along = np.abs(offset[:, 0] * cosine + offset[:, 1] * sine)
    across = np.abs(offset[:, 1] * cosine - offset[:, 0] * sine)
    near = np.maximum(np.hypot(np.maximum(along - boxes[:, 3] / 2, 0), np.maximum(across - boxes[:, 4] / 2, 0)),
                      NEAREST)
    corners = footprints(boxes[:, :5]) - eye[:2]
    middle = np.arctan2(-offset[:, 1], -offset[:, 0])
    aside = (np.arctan2(corners[..., 1], corners[..., 0]) - middle[:, None] + math.pi) % math.tau - math.pi
    first, last = (middle + aside.min(1)) / COLUMN, (middle + aside.max(1)) / COLUMN
    columns = np.floor(first).astype(int), np.ceil(last).astype(int)
    top = boxes[:, 6] + boxes[:, 5] - eye[2]
    far = np.hypot(*offset.T)
    elevations = np.arctan2(boxes[:, 6] - eye[2], near), np.arctan2(top, np.where(top > 0, near, far))
    bottom, top = np.clip(elevations, LOWEST, HIGHEST)
    return _Outlines(near, *columns, (last - first) / (columns[1] - columns[0] + 1), bottom, top)


_DIRECTIONS = np.stack([np.cos(np.arange(LIDAR_COLUMNS) * COLUMN),
                        np.sin(np.arange(LIDAR_COLUMNS) * COLUMN)], -1)
