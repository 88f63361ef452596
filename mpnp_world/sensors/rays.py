"""Ray casting into the world, by Embree.

Static geometry is built once per scenery, objects once per state; the nearer hit counts.  Building takes
longer than casting, so distant objects have coarse models.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from mpnp_world.models.lookup import key_of, model_of, placement
from mpnp_world.models.mesh import Mesh
from mpnp_world.models.street import ground_mesh
from mpnp_world.scene.state import Fixture, Scenery, WorldObject, WorldState

REACH = 120.0
"""Radius around the ego vehicle within which objects are hit, metres."""
COARSE_FROM, CELLS = 30.0, 12
"""Distance from which models are simplified, metres, and grid cells along every axis."""


class _Placed(NamedTuple):
    """Triangles in the world frame and the identity of their object."""

    vertices: np.ndarray
    faces: np.ndarray
    material: np.ndarray
    identity: int


@dataclass(frozen=True, eq=False)
class Hits:
    """The first hits of N rays.

    distance: [N] float32, metres, inf for nothing.  identity: [N] int32, of the object, 0 for
    scenery and for no hit.  material: [N] uint8, index into
    :data:`~mpnp_world.models.mesh.MATERIALS`, 0 for nothing.  normal: [N, 3] float32, of unit length,
    world frame, with either orientation; zero for no hit.  incidence: [N] float32, 1 at normal incidence,
    0 at grazing incidence.
    """

    distance: np.ndarray
    identity: np.ndarray
    material: np.ndarray
    normal: np.ndarray
    incidence: np.ndarray


_NOTHING = _Placed(np.zeros((0, 3)), np.zeros((0, 3), int), np.zeros(0, np.uint8), 0)


class Rays:
    """Casts rays into states; caches the geometry of the last state."""

    def __init__(self) -> None:
        self._scenery: Scenery | None = None
        self._state: WorldState | None = None
        self._standing: _Triangles
        self._objects: _Triangles

    def cast(self, state: WorldState, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """The first hits of rays.  origins: [3] or [N, 3], directions: [N, 3] of unit length, world frame."""
        self._build(state)
        directions = np.ascontiguousarray(directions, np.float32)
        origins = np.ascontiguousarray(np.broadcast_to(np.asarray(origins, np.float32), directions.shape))
        distance = np.full(len(directions), np.inf, np.float32)
        identity, material = np.zeros(len(directions), np.int32), np.zeros(len(directions), np.uint8)
        normal = np.zeros_like(directions)
        for triangles in (self._standing, self._objects):
            face, toward = triangles.nearest(origins, directions, distance)
            met = face >= 0
            identity[met], material[met] = triangles.identity[face[met]], triangles.material[face[met]]
            normal[met] = toward[met]
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        incidence = np.abs(np.einsum('nk,nk->n', normal, directions))
        return Hits(distance, identity, material, normal, incidence)

    def _build(self, state: WorldState) -> None:
        """Place the meshes of a state that is not the last one."""
        if state.scenery is not self._scenery:
            ground = ground_mesh(state.scenery)
            self._standing = _Triangles([
                _Placed(ground.vertices, ground.faces, ground.material, 0),
                *(_place(model_of(fixture.kind), fixture) for fixture in state.scenery.fixtures)])
            self._scenery = state.scenery
        if state is not self._state:
            placed = []
            for thing in state.objects:
                away = math.dist((thing.x, thing.y), (state.ego.x, state.ego.y))
                if away < REACH:
                    model = model_of if away < COARSE_FROM else coarse_model_of
                    placed.append(_place(model(*key_of(thing)), thing))
            self._objects, self._state = _Triangles(placed), state


class _Triangles:
    """Placed meshes as one Embree scene."""

    def __init__(self, placed: Iterable[_Placed]) -> None:
        self._scene = EmbreeScene()
        placed = [_NOTHING, *placed]
        self.identity = np.repeat(np.array([part.identity for part in placed], np.int32),
                                  [len(part.faces) for part in placed])
        self.material = np.concatenate([part.material for part in placed])
        starts = np.cumsum([0] + [len(part.vertices) for part in placed[:-1]])
        faces = [part.faces + start for part, start in zip(placed, starts, strict=True)]
        TriangleMesh(self._scene, np.concatenate([part.vertices for part in placed]).astype(np.float32),
                     np.concatenate(faces).astype(np.int32))

    def nearest(self, origins: np.ndarray, directions: np.ndarray, distance: np.ndarray,
                ) -> tuple[np.ndarray, np.ndarray]:
        """Faces [N] nearer than `distance`, -1 without, and normals [N, 3]; updates `distance` in place."""
        hits = self._scene.run(origins, directions, distance, output=True)
        return hits['primID'], hits['Ng']


@cache
def coarse_model_of(kind: str, body: int, pose: int) -> Mesh:
    """The simplified model of an object: one vertex per grid cell, without degenerate faces."""
    model = model_of(kind, body, pose)
    cells = np.round(model.vertices * CELLS).astype(int)
    _, first, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    faces = cell.ravel()[model.faces]
    whole = (faces != np.roll(faces, 1, axis=1)).all(1)
    _, single = np.unique(np.sort(faces[whole], axis=1), axis=0, return_index=True)
    return Mesh(model.vertices[first], faces[whole][single], model.material[whole][single],
                model.normals[first])


def _place(model: Mesh, thing: WorldObject | Fixture) -> _Placed:
    """A unit-box model with the size and the pose of a thing."""
    to_world = placement(thing.x, thing.y, thing.z, thing.yaw, thing.size).astype(np.float32)
    vertices = model.vertices @ to_world[:3, :3].T + to_world[:3, 3]
    return _Placed(vertices, model.faces, model.material, getattr(thing, 'identity', 0))
