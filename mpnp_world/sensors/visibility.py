"""Visible share of each object and numbers of sensor points on it, ray-cast or estimated.

:func:`visibility` casts rays.  :func:`estimate_occlusion` does without, from shadows of boxes around a LiDAR:
directions around the sensor are the columns of a sweep.  In each column, nearer boxes hide everything behind
them up to the elevation of their tops, and walls hide everything.  The remaining part of a box gives its
number of points and its visible share.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mpnp_ros.poses import rotation_about_z
from mpnp_world.scene.boxes import footprints
from mpnp_world.scene.state import WorldState
from mpnp_world.sensors.rig import LIDAR, LIDAR_COLUMNS, LIDAR_ELEVATIONS, LIDAR_RINGS

if TYPE_CHECKING:
    from mpnp_world.sensors.rays import Rays

EYE = (0.9, 0.0, 1.7)
"""View point amid the roof cameras, metres in the ego frame."""
POINTS = 32
"""Number of rays per object."""
_SPREAD = np.outer(np.arange(1, POINTS + 1), (0.8191725134, 0.6710436067, 0.5497004779)) % 1
BOX_POINTS = (_SPREAD - (0.5, 0.5, 0.0)) * (0.8, 0.8, 0.9) + (0.0, 0.0, 0.05)
"""Points [POINTS, 3] evenly distributed in the unit box, slightly inside its faces.

They are an additive recurrence with a generalised plastic number (Roberts, 2018).
"""

MIN_ELEVATION, MAX_ELEVATION = (math.radians(angle) for angle in LIDAR_ELEVATIONS)
RINGS_A_RADIAN = (LIDAR_RINGS - 1) / (MAX_ELEVATION - MIN_ELEVATION)
COLUMN = math.tau / LIDAR_COLUMNS
FILLED = {'pedestrian': .35, 'child': .35, 'bicycle': .28, 'motorcycle': .5, 'cone': .3, 'barrier': .8,
          'excavator': .47}
"""Share of the outline of a box that its object fills, for kinds that differ from vehicles."""
FILLED_VEHICLE = .7
SHADOWLESS = ('bicycle', 'cone')
SHADOW = 0.85
"""Share of the height of a box that hides objects behind it; bonnets are lower than roofs."""
MAX_RANGE = 75.0
"""Range of the LiDAR for dark paint, metres."""
MIN_RANGE = 0.5


def visibility(state: WorldState, rays: Rays) -> dict[int, float]:
    """Visible share, 0..1, of every object by identity: the share of unblocked rays to points in its box.

    Light and weather have no effect.
    """
    if not state.objects:
        return {}
    eye = state.ego.pose.apply(EYE)
    targets = np.concatenate([
        BOX_POINTS * thing.size @ rotation_about_z(thing.yaw).T + (thing.x, thing.y, thing.z)
        for thing in state.objects]) - eye
    distance = np.linalg.norm(targets, axis=1)
    hits = rays.cast(state, eye, targets / distance[:, None])
    wanted = np.repeat([thing.identity for thing in state.objects], POINTS)
    arrives = (hits.identity == wanted) | (hits.distance >= distance)
    shares = arrives.reshape(-1, POINTS).mean(1)
    return {thing.identity: float(share) for thing, share in zip(state.objects, shares, strict=True)}


def point_counts(identities: Iterable[np.ndarray]) -> Counter[int]:
    """Number of points on every object by identity, in one or more sweeps; zero if absent."""
    counts = Counter(np.concatenate(list(identities)).tolist())
    del counts[0]
    return counts


@dataclass(frozen=True)
class Occlusion:
    """Number of LiDAR points and visible share, 0..1, by identity."""

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
        """Metres to the nearest wall in every direction from a place; inf without a wall."""
        starts, ends = self._starts - (x, y), self._ends - (x, y)
        along = ends - starts
        normal = np.stack([along[:, 1], -along[:, 0]], -1)
        offset = (normal * starts).sum(1)
        near = (offset < 0) & (np.minimum(np.hypot(*starts.T), np.hypot(*ends.T)) < 1.5 * MAX_RANGE)
        first = np.ceil(np.arctan2(ends[near, 1], ends[near, 0]) / COLUMN)
        counts = (np.arctan2(starts[near, 1], starts[near, 0]) / COLUMN - first) % LIDAR_COLUMNS + 1
        nearest = np.full(LIDAR_COLUMNS, np.inf)
        for begin, count, across, away in zip(first.astype(int).tolist(), counts.astype(int).tolist(),
                                              normal[near], offset[near].tolist(), strict=True):
            columns = np.arange(begin, begin + min(count, LIDAR_COLUMNS // 2)) % LIDAR_COLUMNS
            facing = np.minimum(_DIRECTIONS[columns] @ across, -1e-6)
            nearest[columns] = np.minimum(nearest[columns], away / facing)
        return nearest


def estimate_occlusion(state: WorldState, walls: Walls) -> Occlusion:
    """The estimated LiDAR points and visible share of every object.  walls: of the scene."""
    eye = state.ego.pose.apply(LIDAR.translation)
    if not state.objects:
        return Occlusion({}, {})
    outlines = _outlines(state, eye)
    wall = np.tile(walls.distances(float(eye[0]), float(eye[1])), 3)
    horizon = Horizon()
    points, shares = {}, {}
    for index in np.argsort([outline.near for outline in outlines]).tolist():
        item, outline = state.objects[index], outlines[index]
        columns = slice(outline.first, outline.last)
        left = horizon.above(columns, outline.bottom, outline.top)
        left[wall[columns] < outline.near] = 0
        whole, angle = (outline.top - outline.bottom) * len(left), float(left.sum())
        density = RINGS_A_RADIAN * FILLED.get(item.kind, FILLED_VEHICLE) * outline.width / len(left)
        shares[item.identity] = angle / whole if whole else 0.0
        points[item.identity] = round(angle * density) if outline.near < MAX_RANGE else 0
        if item.kind not in SHADOWLESS:
            horizon.hide(columns, outline.bottom + SHADOW * (outline.top - outline.bottom))
    return Occlusion(points, shares)


class Horizon:
    """Elevation up to which the view is hidden, by column; three turns of columns avoid wrapping."""

    def __init__(self) -> None:
        self._angles = np.full(3 * LIDAR_COLUMNS, MIN_ELEVATION)

    def above(self, columns: slice, bottom: float, top: float) -> np.ndarray:
        """Visible radians between bottom and top, in each column."""
        return np.maximum(top - np.maximum(self._angles[columns], bottom), 0)

    def hide(self, columns: slice, top: float) -> None:
        """Hide the view up to `top` in some columns."""
        for turn in (-LIDAR_COLUMNS, 0, LIDAR_COLUMNS):
            taken = self._angles[max(columns.start + turn, 0):max(columns.stop + turn, 0)]
            np.maximum(taken, top, out=taken)


@dataclass(frozen=True)
class Outline:
    """Outline of a box.  near: metres; first, last: columns, counted from one turn on; width: in columns;
    bottom, top: radians, within those of the sweep.
    """

    near: float
    first: int
    last: int
    width: float
    bottom: float
    top: float


def _outlines(state: WorldState, eye: np.ndarray) -> list[Outline]:
    boxes = np.array([(item.x, item.y, item.yaw, *item.size, item.z) for item in state.objects])
    offset = eye[:2] - boxes[:, :2]
    cosine, sine = np.cos(boxes[:, 2]), np.sin(boxes[:, 2])
    along = np.abs(offset[:, 0] * cosine + offset[:, 1] * sine) - boxes[:, 3] / 2
    across = np.abs(offset[:, 1] * cosine - offset[:, 0] * sine) - boxes[:, 4] / 2
    near = np.maximum(np.hypot(np.maximum(along, 0), np.maximum(across, 0)), MIN_RANGE)
    corners = footprints(boxes[:, :5]) - eye[:2]
    middle = np.arctan2(-offset[:, 1], -offset[:, 0])
    aside = (np.arctan2(corners[..., 1], corners[..., 0]) - middle[:, None] + math.pi) % math.tau - math.pi
    first, last = (middle + aside.min(1)) / COLUMN, (middle + aside.max(1)) / COLUMN
    top = boxes[:, 6] + boxes[:, 5] - eye[2]
    elevations = np.clip([np.arctan2(boxes[:, 6] - eye[2], near),
                          np.arctan2(top, np.where(top > 0, near, np.hypot(*offset.T)))],
                         MIN_ELEVATION, MAX_ELEVATION)
    columns = np.array([np.floor(first), np.ceil(last) + 1]).astype(int) + LIDAR_COLUMNS
    return [Outline(*row) for row in zip(near.tolist(), *columns.tolist(), (last - first).tolist(),
                                         *elevations.tolist(), strict=True)]


_DIRECTIONS = np.stack([np.cos(np.arange(LIDAR_COLUMNS) * COLUMN),
                        np.sin(np.arange(LIDAR_COLUMNS) * COLUMN)], -1)
