"""Triangle meshes, simple solids, and the materials of surfaces.

The camera renderer and the ray caster use the same meshes.  All faces face outwards; lengths are in metres.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

CREASE = 50.0
"""Angle between faces from which an edge is sharp, degrees."""

Point = Sequence[float] | np.ndarray
Points = Sequence[Point] | np.ndarray


@dataclass(frozen=True)
class Material:
    """Optical properties of a surface.

    colour: linear RGB, 0..1.  gloss: specular reflectance at normal incidence, 0..1.  reflectivity: of a
    LiDAR pulse, 0..1, 1 for retro-reflectors.  painted: whether the colour of the object is multiplied in.
    """

    colour: tuple[float, float, float]
    gloss: float = 0.03
    reflectivity: float = 0.3
    painted: bool = False


MATERIALS: dict[str, Material] = {
    'paint': Material((1.0, 1.0, 1.0), 0.10, 0.45, painted=True),
    'glass': Material((0.012, 0.018, 0.024), 0.22, 0.05),
    'tyre': Material((0.025, 0.025, 0.027), 0.02, 0.06),
    'metal': Material((0.30, 0.30, 0.32), 0.20, 0.50),
    'trim': Material((0.05, 0.05, 0.055), 0.06, 0.10),
    'head_light': Material((0.80, 0.80, 0.76), 0.50, 0.80),
    'tail_light': Material((0.30, 0.008, 0.008), 0.04, 0.95),
    'orange_light': Material((0.70, 0.22, 0.02), 0.05, 0.90),
    'siren_light': Material((0.02, 0.06, 0.55), 0.40, 0.80),
    'plate': Material((0.80, 0.80, 0.78), 0.10, 1.00),
    'skin': Material((0.55, 0.36, 0.26), 0.03, 0.45),
    'cloth': Material((1.0, 1.0, 1.0), 0.01, 0.40, painted=True),
    'trousers': Material((1.0, 1.0, 1.0), 0.01, 0.25, painted=True),
    'hair': Material((0.05, 0.035, 0.028), 0.04, 0.20),
    'orange': Material((0.90, 0.20, 0.025), 0.05, 0.60),
    'white': Material((0.82, 0.82, 0.80), 0.05, 0.60),
    'red': Material((0.62, 0.03, 0.03), 0.05, 0.50),
    'reflector': Material((0.86, 0.86, 0.84), 0.10, 1.00),
    'yellow': Material((0.80, 0.46, 0.02), 0.12, 0.50),
    'concrete': Material((0.46, 0.45, 0.43), 0.02, 0.40),
    'leaf': Material((0.075, 0.145, 0.04), 0.02, 0.40),
    'bark': Material((0.17, 0.12, 0.08), 0.01, 0.30),
    'facade': Material((1.0, 1.0, 1.0), 0.02, 0.45, painted=True),
    'roof': Material((0.16, 0.15, 0.15), 0.02, 0.25),
    'lamp_glass': Material((0.85, 0.80, 0.66), 0.10, 0.30),
    'signal_red': Material((0.10, 0.012, 0.010), 0.20, 0.30),
    'signal_yellow': Material((0.11, 0.070, 0.008), 0.20, 0.30),
    'signal_green': Material((0.008, 0.09, 0.045), 0.20, 0.30),
    'road': Material((0.115, 0.115, 0.12), 0.03, 0.12),
    'sidewalk': Material((0.40, 0.39, 0.37), 0.02, 0.30),
    'marking': Material((0.66, 0.66, 0.64), 0.03, 0.80),
    'line': Material((0.62, 0.42, 0.06), 0.03, 0.75),
    'grass': Material((0.13, 0.22, 0.06), 0.01, 0.35),
}
"""Materials by name; meshes have indices into this order."""

INDEX: dict[str, int] = {name: index for index, name in enumerate(MATERIALS)}
COLOUR = np.array([material.colour for material in MATERIALS.values()], np.float32)
"""Linear RGB [materials, 3]."""
GLOSS = np.array([material.gloss for material in MATERIALS.values()], np.float32)
REFLECTIVITY = np.array([material.reflectivity for material in MATERIALS.values()], np.float32)
"""LiDAR reflectivity [materials], 0..1."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles that face outwards.

    vertices: [V, 3] float32.  faces: [F, 3] int32, counter-clockwise seen from outside.  material: [F] uint8,
    indices into :data:`~mpnp_world.models.mesh.MATERIALS`.  normals: [V, 3] float32, of unit length.
    """

    vertices: np.ndarray
    faces: np.ndarray
    material: np.ndarray
    normals: np.ndarray

    @classmethod
    def of_triangles(cls, corners: Sequence[Points] | np.ndarray, material: int) -> Mesh:
        """Flat triangles of one material; corners: [F, 3, 3]."""
        corners = np.asarray(corners, np.float32).reshape(-1, 3, 3)
        normals = np.repeat(face_normals(corners), 3, axis=0)
        return cls(corners.reshape(-1, 3), np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3),
                   np.full(len(corners), material, np.uint8), normals)

    @classmethod
    def join(cls, parts: Iterable[Mesh]) -> Mesh:
        """All parts as one mesh."""
        parts = list(parts)
        starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
        return cls(np.concatenate([part.vertices for part in parts]),
                   np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]
                                  ).astype(np.int32),
                   np.concatenate([part.material for part in parts]),
                   np.concatenate([part.normals for part in parts]))

    @property
    def corners(self) -> np.ndarray:
        """Corner points of every triangle [F, 3, 3]."""
        return self.vertices[self.faces]

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest coordinates, [3] each."""
        return self.vertices.min(0), self.vertices.max(0)

    @property
    def vertex_material(self) -> np.ndarray:
        """Material of every vertex [V] uint8; no vertex is shared by faces of different materials."""
        material = np.zeros(len(self.vertices), np.uint8)
        material[self.faces.ravel()] = np.repeat(self.material, 3)
        return material

    def moved(self, offset: Point) -> Mesh:
        """The mesh moved by `offset`."""
        return replace(self, vertices=self.vertices + np.asarray(offset, np.float32))

    def scaled(self, factors: Point) -> Mesh:
        """The mesh stretched along the axes by factors above zero."""
        factors = np.asarray(factors, np.float32)
        return replace(self, vertices=self.vertices * factors, normals=unit(self.normals / factors))

    def turned(self, angle: float, axis: int) -> Mesh:
        """The mesh turned about a coordinate axis (0 x, 1 y, 2 z) through the origin by `angle` radians."""
        i, j = (axis + 1) % 3, (axis + 2) % 3
        rotation = np.eye(3, dtype=np.float32)
        rotation[i, i] = rotation[j, j] = math.cos(angle)
        rotation[j, i], rotation[i, j] = math.sin(angle), -math.sin(angle)
        return replace(self, vertices=self.vertices @ rotation.T, normals=self.normals @ rotation.T)

    def fitted(self) -> Mesh:
        """The mesh moved and stretched to fill the unit box: x and y in -0.5..0.5, z in 0..1."""
        low, high = self.bounds
        middle = (low + high) / 2
        return self.moved((-middle[0], -middle[1], -low[2])).scaled(tuple(1 / (high - low)))

    def smoothed(self, crease: float = CREASE) -> Mesh:
        """The mesh with normals averaged over faces that meet at less than `crease` degrees.

        Faces smaller than a hundredth of a millimetre are left out.
        """
        corners = np.round(self.corners.astype(np.float64), 5)
        facing = face_normals(corners)
        real = np.linalg.norm(facing, axis=1) > 0.5
        corners, facing, material = corners[real], facing[real], self.material[real]
        to_next, to_last = (unit(np.roll(corners, step, axis=1) - corners) for step in (-1, 1))
        angles = np.arccos(np.clip(np.einsum('fck,fck->fc', to_next, to_last), -1, 1))
        weighted = (facing[:, None] * angles[..., None]).reshape(-1, 3)
        positions = corners.reshape(-1, 3)
        normals = _averaged(positions, weighted, math.cos(math.radians(crease)))
        rows = np.concatenate([positions, np.round(normals, 3), np.repeat(material, 3)[:, None]], 1)
        _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        return Mesh(positions[first].astype(np.float32), inverse.reshape(-1, 3).astype(np.int32), material,
                    normals[first].astype(np.float32))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] at unit length; zero vectors stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def face_normals(corners: np.ndarray) -> np.ndarray:
    """Unit normals [F, 3] of triangles [F, 3, 3] that are counter-clockwise seen from their tips."""
    return unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])).astype(np.float32)


def _averaged(positions: np.ndarray, weighted: np.ndarray, least_cosine: float) -> np.ndarray:
    """Normal of each corner: the sum of the weighted normals at its position that are near its own."""
    _, place = np.unique(positions, axis=0, return_inverse=True)
    directions = unit(weighted)
    normals = np.empty_like(weighted)
    order = np.argsort(place, kind='stable')
    for corners in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        near = directions[corners] @ directions[corners].T >= least_cosine
        normals[corners] = near @ weighted[corners]
    return unit(normals)


def polygon(points: Points, material: str) -> Mesh:
    """A flat convex polygon; points: [N, 3], counter-clockwise seen from its front."""
    corners = np.asarray(points, np.float64)
    return Mesh.of_triangles([(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)],
                             INDEX[material])


def loft(rings: Sequence[Points] | np.ndarray, material: str, caps: bool = True) -> Mesh:
    """The skin through closed rings of equally many points each, [R, N, 3], with or without its two ends.

    Every ring and every piece between two rings must be star-shaped about its middle.
    """
    rings = np.asarray(rings, np.float64)
    after = np.roll(rings, -1, axis=1)
    pieces = []
    for i in range(len(rings) - 1):
        near, far, near_after, far_after = rings[i], rings[i + 1], after[i], after[i + 1]
        sides = np.concatenate([np.stack([near, near_after, far_after], 1),
                                np.stack([near, far_after, far], 1)])
        pieces.append(_outward(sides, (near.mean(0) + far.mean(0)) / 2))
    if caps:
        inside = rings.mean((0, 1))
        for ring in (rings[0], rings[-1]):
            if len(ring) <= 4:  # a fan from a corner
                fan = np.stack([(ring[0], ring[i], ring[i + 1]) for i in range(1, len(ring) - 1)])
            else:  # a fan from the middle
                middle = np.broadcast_to(ring.mean(0), ring.shape)
                fan = np.stack([middle, ring, np.roll(ring, -1, axis=0)], 1)
            pieces.append(_outward(fan, inside))
    triangles = np.concatenate(pieces)
    areas = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]),
                           axis=1)
    return Mesh.of_triangles(triangles[areas > 1e-9], INDEX[material])


def box(centre: Point, size: Point, material: str, taper: tuple[float, float] = (1.0, 1.0)) -> Mesh:
    """A box along the axes; taper: size of its top over that of its underside, along x and y."""
    square = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * np.asarray(size[:2]) / 2
    rings = [np.column_stack([square, np.full(4, -size[2] / 2)]),
             np.column_stack([square * taper, np.full(4, size[2] / 2)])]
    return loft(np.asarray(rings) + np.asarray(centre), material)


def prism(outline: Sequence[tuple[float, float]], width: float, material: str, y: float = 0.0) -> Mesh:
    """A star-shaped side view (x, z), extruded to `width` along y about `y`."""
    side = np.asarray(outline, np.float64)
    rings = [np.column_stack([side[:, 0], np.full(len(side), y + offset), side[:, 1]])
             for offset in (-width / 2, width / 2)]
    return loft(rings, material)


def cylinder(start: Point, end: Point, radius: float, material: str, end_radius: float | None = None,
             sides: int = 12, caps: bool = True) -> Mesh:
    """A cylinder or, with another `end_radius`, a truncated cone from `start` to `end`."""
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    axis = unit(end - start)
    across = unit(np.cross(axis, (0, 1, 0) if abs(axis[0]) > 0.9 else (1, 0, 0)))
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)[:, None]
    circle = np.cos(angle) * across + np.sin(angle) * np.cross(axis, across)
    tip = radius if end_radius is None else end_radius
    return loft([start + radius * circle, end + max(tip, 1e-4) * circle], material, caps)


def tube(points: Points, radius: float, material: str, sides: int = 6) -> Mesh:
    """A chain of cylinders between points."""
    return Mesh.join(cylinder(a, b, radius, material, sides=sides, caps=False)
                     for a, b in zip(points[:-1], points[1:], strict=True))


def lathe(profile: Sequence[tuple[float, float]], material: str, sides: int = 12) -> Mesh:
    """A solid of revolution of a profile (radius, height) about the vertical axis."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    circle = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(sides)])
    return loft([max(radius, 1e-4) * circle + (0, 0, height) for radius, height in profile], material)


def ellipsoid(centre: Point, radii: Point, material: str, sides: int = 10, rings: int = 6) -> Mesh:
    """An ellipsoid along the axes."""
    polar = np.linspace(0, np.pi, rings + 1)
    ball = lathe(list(zip(np.sin(polar), -np.cos(polar), strict=True)), material, sides)
    return ball.scaled(tuple(radii)).moved(tuple(centre))


def wheel(x: float, y: float, radius: float, width: float = 0.22) -> Mesh:
    """A tyre with its rim about an axle along y, standing on the ground."""
    def disc(size: float, half: float, material: str, sides: int) -> Mesh:
        return cylinder((x, y - half, radius), (x, y + half, radius), size, material, sides=sides)

    return Mesh.join([disc(radius, width / 2, 'tyre', 14), disc(0.62 * radius, width / 2 + 0.01, 'metal', 10),
                      disc(0.2 * radius, width / 2 + 0.02, 'trim', 6)])


def _outward(triangles: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Triangles [F, 3, 3] with those that face `inside` flipped."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    wrong = np.einsum('fk,fk->f', normals, triangles.mean(1) - inside) < 0
    return np.where(wrong[:, None, None], triangles[:, ::-1], triangles)
