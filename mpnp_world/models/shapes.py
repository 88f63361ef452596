"""Simple solids of one material.  All face outwards; lengths in metres."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpnp_world.models.materials import INDEX
from mpnp_world.models.mesh import Mesh, unit

Point = Sequence[float]


def polygon(points: Sequence[Point], material: str) -> Mesh:
    """A flat convex polygon; points: [N, 3], counter-clockwise seen from its front."""
    corners = np.asarray(points, np.float64)
    return Mesh.of_triangles([(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)],
                             INDEX[material])


def loft(rings: Sequence[Sequence[Point]], material: str, caps: bool = True) -> Mesh:
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
        pieces += [_outward(_cap(ring), inside) for ring in (rings[0], rings[-1])]
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


def tube(points: Sequence[Point], radius: float, material: str, sides: int = 6) -> Mesh:
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


def _cap(ring: np.ndarray) -> np.ndarray:
    """Triangles [F, 3, 3] that fill a ring, as a fan from its middle or, up to four points, a corner."""
    if len(ring) <= 4:
        return np.stack([(ring[0], ring[i], ring[i + 1]) for i in range(1, len(ring) - 1)])
    return np.stack([np.broadcast_to(ring.mean(0), ring.shape), ring, np.roll(ring, -1, axis=0)], 1)


def _outward(triangles: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Triangles [F, 3, 3] with those that face `inside` flipped."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    wrong = np.einsum('fk,fk->f', normals, triangles.mean(1) - inside) < 0
    return np.where(wrong[:, None, None], triangles[:, ::-1], triangles)
