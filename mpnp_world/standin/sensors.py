"""Camera images and LiDAR sweeps of a street.

An image is painted with flat shaded faces, far ones first.  A sweep casts rays against blocks and the ground;
the nearest hit wins.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from mpnp_ros.poses import Transform
from mpnp_world.sensors.lidar_models import HDL_32E
from mpnp_world.sensors.rig import IMAGE_SIZE, LIDAR, Mounting
from mpnp_world.standin.street import (
    BUILDING_EDGE,
    ROAD_EDGES,
    Block,
    Building,
    Colour,
    StandinStreet,
    blocks_of,
    building_block,
)

NEAR = 0.3
"""Near plane of the camera, metres."""
SUN = np.array([.38, -.52, .76])
NIGHT_LIGHT, AMBIENT = .36, .58
SKY, NIGHT_SKY = ((116, 162, 214), (214, 226, 234)), ((8, 10, 22), (34, 34, 46))
GRASS, ASPHALT, PAVEMENT = (112, 128, 84), (84, 86, 90), (158, 154, 148)
PAINT, SHADOW = (224, 224, 218), (58, 60, 64)
WINDOW, LIT_WINDOW = (72, 88, 104), (238, 204, 120)
FACES = ((3, 2, 1, 0), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))
"""Corners of the six faces of a block, counter-clockwise seen from outside."""

MAX_RANGE = 70.0
RANGE_NOISE = .02
"""Standard deviation of a range, metres."""
DROPOUT = .01
GROUND, BUILDING = -1, -2
GROUND_INTENSITY = 8.0


@dataclass(frozen=True)
class Face:
    """A flat polygon [N, 3] in the street frame. lit: emits light."""

    polygon: np.ndarray
    colour: Colour
    lit: bool = False


class StandinPainter:
    """Paints the image of ``street`` by the camera of ``mounting`` at ``time`` seconds."""

    def __init__(self, street: StandinStreet, mounting: Mounting, time: float) -> None:
        self._street, self._time = street, time
        pose = street.ego(time) @ mounting.pose
        self._eye, self._camera = pose.translation, pose.inverse()
        self._intrinsics = np.array(mounting.intrinsics)
        self._light = NIGHT_LIGHT if street.night else 1.0
        top, horizon = (np.array(colour, float) for colour in (NIGHT_SKY if street.night else SKY))
        width, height = IMAGE_SIZE
        share = np.clip(np.linspace(0, 1.8, height), 0, 1)[:, None]
        sky = (top * (1 - share) + horizon * share).astype(np.uint8)
        self.image = Image.fromarray(np.repeat(sky[:, None], width, 1))
        self._draw = ImageDraw.Draw(self.image)

    def paint(self) -> Image.Image:
        """Paint everything; returns the image, 1600x900."""
        for face in _ground(self._eye[0]):
            self._face(face)
        for building in sorted(self._street.buildings, reverse=True, key=lambda building: abs(
                np.clip(self._eye[0], building.start, building.end) - self._eye[0])):
            middle = (building.start + building.end) / 2
            if not self._behind(np.array([middle, self._eye[1], 0.0]), building.end - building.start + 15):
                self._solid(_building_faces(building, self._street.night))
        self._actors()
        return self.image

    def _actors(self) -> None:
        """Paint all shadows, then the blocks of the actors."""
        posed = [(actor, actor.pose(self._time)) for actor in self._street.actors]
        posed.sort(key=lambda item: np.linalg.norm(item[1].translation - self._eye), reverse=True)
        for actor, pose in posed:
            length, width, _ = actor.size
            shadow = Block((.0, .0, .0), (length * 1.04, width * 1.12, 0.0), SHADOW).corners[:4] + (0, 0, .01)
            self._face(Face(pose.apply(shadow), SHADOW))
        for actor, pose in posed:
            if self._behind(pose.translation, max(actor.size)):
                continue
            eye = pose.inverse().apply(self._eye)
            # Far blocks first, those on the surface of another block last.
            for block in sorted(blocks_of(actor), key=lambda block: (
                    block.outward is not None, -float(np.linalg.norm(block.centre - eye)))):
                if block.outward is None or (eye[:2] - block.centre[:2]) @ block.outward > 0:
                    corners = pose.apply(block.corners)
                    self._solid(Face(corners[list(face)], block.colour, block.lit) for face in FACES)

    def _behind(self, middle: np.ndarray, radius: float) -> bool:
        """Whether everything within ``radius`` metres of a point is behind the camera."""
        return float(self._camera.apply(middle)[2]) < -radius

    def _solid(self, faces: Iterable[Face]) -> None:
        """Paint the faces of a convex body that face the camera."""
        for face in faces:
            polygon = face.polygon
            normal = np.cross(polygon[1] - polygon[0], polygon[2] - polygon[1])
            normal = normal / (np.linalg.norm(normal) + 1e-12)
            if normal @ (self._eye - polygon[0]) > 0:
                self._face(face, normal)

    def _face(self, face: Face, normal: np.ndarray | None = None) -> None:
        """Paint a face as far as it is in the image; normal: for shading, None for the ground."""
        polygon = _clip(self._camera.apply(face.polygon))
        if len(polygon) < 3:
            return
        pixels = polygon @ self._intrinsics.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        if (pixels.max(0) < 0).any() or (pixels.min(0) > IMAGE_SIZE).any():
            return
        colour: tuple[int, ...] = face.colour
        if not face.lit:
            sun = 1.0 if normal is None else AMBIENT + (1 - AMBIENT) * max(0.0, float(normal @ SUN))
            colour = tuple(int(channel * sun * self._light) for channel in colour)
        self._draw.polygon([tuple(point) for point in pixels.tolist()], fill=colour)


def _ground(x: float) -> Iterator[Face]:
    """Grass, pavements, road and its markings around ``x`` metres along the road."""
    yield _strip(x, -400, 400, GRASS)
    right, left = ROAD_EDGES
    yield _strip(x, BUILDING_EDGE['right'], BUILDING_EDGE['left'], PAVEMENT)
    yield _strip(x, right, left, ASPHALT)
    for y in (right + 2.65, 1.75, left - 2.65):
        yield _strip(x, y - .07, y + .07, PAINT)
    for y in (-1.75, 5.25):
        for start in np.arange(np.floor((x - 80) / 8) * 8, x + 80, 8):
            yield Face(np.array([(start, y - .07, 0), (start + 3, y - .07, 0), (start + 3, y + .07, 0),
                                 (start, y + .07, 0)]), PAINT)


def _strip(x: float, low: float, high: float, colour: Colour) -> Face:
    start, end = x - 400, x + 400
    return Face(np.array([(start, low, 0), (end, low, 0), (end, high, 0), (start, high, 0)]), colour)


def _building_faces(building: Building, night: bool) -> Iterator[Face]:
    """The block of a building, and the windows towards the road."""
    block, outwards = building_block(building), 1 if building.side == 'left' else -1
    yield from (Face(block.corners[list(face)], block.colour) for face in FACES)
    y = BUILDING_EDGE[building.side] - outwards * .02
    columns, floors = int((building.end - building.start) / 3), int(building.height / 3)
    pitch = (building.end - building.start) / max(columns, 1)
    for column in range(columns):
        x = building.start + (column + .5) * pitch
        for floor in range(floors):
            lit = night and (column * 7 + floor * 5 + int(building.height * 10)) % 4 == 0
            z = 3 * floor + 1.0
            corners = [(x - .6, y, z), (x + .6, y, z), (x + .6, y, z + 1.5), (x - .6, y, z + 1.5)]
            yield Face(np.array(corners[::outwards]), LIT_WINDOW if lit else WINDOW, lit)


def _clip(polygon: np.ndarray) -> np.ndarray:
    """The part of a polygon [N, 3] in the camera frame that is farther than NEAR (Sutherland-Hodgman)."""
    kept: list[np.ndarray] = []
    for here, following in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        inside, next_inside = here[2] >= NEAR, following[2] >= NEAR
        if inside:
            kept.append(here)
        if inside != next_inside:
            share = (NEAR - here[2]) / (following[2] - here[2])
            kept.append(here + share * (following - here))
    return np.array(kept).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Sweep:
    """One sweep. points: [N, 5] float32: x, y, z in the sensor frame, intensity 0..255, ring.

    hits: rays that hit each actor, in the street's order; visible: share of the rays to
    the actor that are not blocked, 0 without rays.
    """

    points: np.ndarray
    hits: np.ndarray
    visible: np.ndarray


def cast_sweep(street: StandinStreet, time: float, rng: np.random.Generator) -> Sweep:
    """The sweep of the street at ``time`` seconds."""
    mounting = LIDAR.pose
    ego = street.ego(time)
    rays, rings = HDL_32E.directions()
    directions, origin = rays @ ego.rotation.T, ego.apply(mounting.translation)
    ranges, owners, intensity = _background(street, origin, directions)
    alone = np.zeros(len(street.actors), int)
    for index, actor in enumerate(street.actors):
        distance, shade = _actor_ranges(blocks_of(actor), actor.pose(time), actor.size, origin, directions)
        alone[index] = np.isfinite(distance).sum()
        nearer = distance < ranges
        ranges[nearer], owners[nearer], intensity[nearer] = distance[nearer], index, shade[nearer]
    kept = (ranges < MAX_RANGE) & (rng.random(len(ranges)) >= DROPOUT)
    hits = np.bincount(owners[kept & (owners >= 0)], minlength=len(street.actors))
    noisy = ranges[kept] + rng.normal(0, RANGE_NOISE, kept.sum())
    points = (rays[kept] * noisy[:, None]) @ mounting.rotation
    return Sweep(np.c_[points, intensity[kept], rings[kept]].astype('<f4'), hits,
                 hits / np.maximum(alone, 1))


def _background(street: StandinStreet, origin: np.ndarray,
                directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Range, owner and intensity of every ray for ground and buildings."""
    with np.errstate(divide='ignore'):
        ranges = np.where(directions[:, 2] < 0, -origin[2] / directions[:, 2], np.inf)
    owners = np.full(len(ranges), GROUND)
    intensity = np.full(len(ranges), GROUND_INTENSITY)
    for building in street.buildings:
        block = building_block(building)
        distance = _block_ranges(block, origin, directions)
        nearer = distance < ranges
        ranges[nearer], owners[nearer], intensity[nearer] = distance[nearer], BUILDING, _brightness(block)
    return ranges, owners, intensity


def _actor_ranges(blocks: tuple[Block, ...], pose: Transform, size: tuple[float, float, float],
                  origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Range (inf: none) and intensity of every ray that meets one of the blocks."""
    ranges, intensity = np.full(len(directions), np.inf), np.zeros(len(directions))
    middle = pose.translation + (0, 0, size[2] / 2) - origin
    distance, radius = np.linalg.norm(middle), np.linalg.norm(size) / 2 + .1
    if distance - radius > MAX_RANGE:
        return ranges, intensity
    limit = np.sqrt(max(0.0, float(1 - (radius / distance) ** 2))) if distance > radius else -1.0
    near = np.flatnonzero(directions @ (middle / distance) > limit)
    to_actor = pose.inverse()
    local_origin, local = to_actor.apply(origin), directions[near] @ to_actor.rotation.T
    for block in blocks:
        hit = _block_ranges(block, local_origin, local)
        nearer = hit < ranges[near]
        ranges[near[nearer]], intensity[near[nearer]] = hit[nearer], _brightness(block)
    return ranges, intensity


def _block_ranges(block: Block, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Range at which each ray enters an upright block without taper; inf: no hit."""
    half = np.array(block.size) / 2
    with np.errstate(divide='ignore', invalid='ignore'):
        first, second = ((block.centre + sign * half - origin) / directions for sign in (-1, 1))
    entry = np.minimum(first, second).max(1)
    leaving = np.maximum(first, second).min(1)
    return np.where((entry <= leaving) & (entry > 0), entry, np.inf)


def _brightness(block: Block) -> float:
    return 10 + .3 * sum(block.colour) / 3
