"""Meshes of the objects and fixtures of the world.

Every model fits a unit box (x and y in -0.5..0.5, z in 0..1) and is stretched by the size of its object.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from mpnp_ros.errors import ConfigurationError
from mpnp_world.models.figures import ADULT_BODIES, RIDDEN, SITTING, STANDING, WALKING_POSES, cycle, person
from mpnp_world.models.mesh import Mesh
from mpnp_world.models.street import FIXTURES, POLES, THINGS, signal_head
from mpnp_world.models.vehicles import VEHICLES
from mpnp_world.scene.state import Fixture, WorldObject

ModelKey = tuple[str, int, int]
"""Kind, body and pose: arguments of :func:`model_of`."""

SIGNAL_HEAD = 'signal_head'
"""The head of a traffic light, the only model in metres."""


@cache
def model_of(kind: str, body: int = 0, pose: int = 0) -> Mesh:
    """The model of a kind of object or fixture, in its unit box.

    body: number of the body, for people.  pose: see :func:`pose_of`.  Raises ConfigurationError for an
    unknown kind.
    """
    if kind in ('pedestrian', 'child'):
        return person(kind, body, pose)
    if kind in ('bicycle', 'motorcycle'):
        return cycle(kind, pose).smoothed().fitted()
    builders = VEHICLES | THINGS | FIXTURES
    if kind == SIGNAL_HEAD:
        return signal_head().smoothed()
    if kind not in builders:
        raise ConfigurationError(f'no model of {kind!r}; there are {", ".join(builders)}')
    mesh = builders[kind]().smoothed()
    return mesh.scaled(tuple(1 / np.array(POLES[kind]))) if kind in POLES else mesh.fitted()


def pose_of(thing: WorldObject) -> int:
    """A step of the gait, standing or sitting for people, 1 for a ridden cycle, otherwise 0."""
    if thing.kind in ('pedestrian', 'child'):
        resting = {'standing': STANDING, 'not standing': SITTING}.get(thing.attribute or '')
        return int(thing.phase / math.tau * WALKING_POSES) % WALKING_POSES if resting is None else resting
    return RIDDEN if thing.attribute == 'with rider' else 0


def key_of(thing: WorldObject) -> ModelKey:
    """The arguments of :func:`model_of` for an object; equal keys have the same mesh."""
    body = thing.body % ADULT_BODIES if thing.kind == 'pedestrian' else 0
    return thing.kind, body, pose_of(thing)


def placement(x: float, y: float, z: float, yaw: float, size: Sequence[float]) -> np.ndarray:
    """Unit box -> world, [4, 4]."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c * size[0], -s * size[1], 0, x], [s * size[0], c * size[1], 0, y], [0, 0, size[2], z],
                     [0, 0, 0, 1]])


def mesh_of(thing: WorldObject) -> Mesh:
    """The mesh of an object in metres in its own frame."""
    return model_of(*key_of(thing)).scaled(thing.size)


def mesh_of_fixture(fixture: Fixture) -> Mesh:
    """The mesh of a fixture in metres in its own frame."""
    return model_of(fixture.kind).scaled(fixture.size)

