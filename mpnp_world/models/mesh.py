"""Triangle meshes for the camera renderer and the ray caster."""
from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

CREASE = 50.0
"""Angle between faces from which an edge is sharp, degrees."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles that face outwards.

    vertices: [V, 3] float32.  faces: [F, 3] int32, counter-clockwise seen from outside.  material: [F] uint8,
    indices into :data:`~mpnp_world.models.materials.MATERIALS`.  normals: [V, 3] float32, of unit length.
    """

    vertices: np.ndarray
    faces: np.ndarray
    material: np.ndarray
    normals: np.ndarray

    @classmethod
    def of_triangles(cls, corners: np.ndarray, material: int) -> Mesh:
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

    def moved(self, offset: tuple[float, float, float]) -> Mesh:
        """The mesh moved by `offset`."""
        return replace(self, vertices=self.vertices + np.asarray(offset, np.float32))

    def scaled(self, factors: tuple[float, float, float]) -> Mesh:
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
        weighted = (facing[:, None] * _angles(corners)[..., None]).reshape(-1, 3)
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


def _angles(corners: np.ndarray) -> np.ndarray:
    """Angle [F, 3] at each corner of triangles [F, 3, 3], radians."""
    to_next, to_last = (unit(np.roll(corners, step, axis=1) - corners) for step in (-1, 1))
    return np.arccos(np.clip(np.einsum('fck,fck->fc', to_next, to_last), -1, 1))


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
