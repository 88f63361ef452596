"""The state of the world at one moment: ego vehicle, objects, signals and static scenery.

World frame: x east, y north, z up from flat ground, metres; yaw in radians, counter-clockwise, 0 along +x.
An object's own frame: x ahead, y left, z up, origin at the middle of its underside.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_ros.poses import Transform, rotation_about_z
from mpnp_world.scene.identity import Conditions

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class EgoState:
    """The ego vehicle: the point on the ground below the middle of its rear axle, as in nuScenes.

    speed: metres/second ahead; acceleration: metres/second^2 ahead; yaw_rate: radians/second.
    """

    x: float
    y: float
    yaw: float
    speed: float
    acceleration: float = 0.0
    yaw_rate: float = 0.0

    @property
    def pose(self) -> Transform:
        """Ego frame -> world frame."""
        return Transform(rotation_about_z(self.yaw), np.array((self.x, self.y, 0.0)))


@dataclass(frozen=True)
class WorldObject:
    """An annotated object.

    identity: from 1, constant in a scene; 0 is for things without annotation.  kind: a key of
    :data:`~mpnp_world.scene.catalogue.KINDS`.  attribute: status word of NuScenes-QA or None.  size: length,
    width, height, metres.  phase: of gait or wheels, radians.  lights, braking: whether its lights and
    brake lights are on.  siren, horn: whether they sound.
    """

    identity: int
    kind: str
    attribute: str | None
    x: float
    y: float
    yaw: float
    size: tuple[float, float, float]
    speed: float = 0.0
    z: float = 0.0
    colour: Colour = (1.0, 1.0, 1.0)
    phase: float = 0.0
    body: int = 0
    lights: bool = False
    braking: bool = False
    siren: bool = False
    horn: bool = False


@dataclass(frozen=True)
class Fixture:
    """A static thing without annotation, e.g. a building, tree or street lamp.

    kind: building, tree, lamp, signal_pole, bench.  size: length, width, height, metres.
    """

    kind: str
    x: float
    y: float
    yaw: float
    size: tuple[float, float, float]
    z: float = 0.0
    colour: Colour = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Patch:
    """A flat convex polygon of ground: road, sidewalk, marking (white), line (yellow), grass.

    corners: counter-clockwise (x, y); z: metres, sidewalks 0.15.  Later patches lie on earlier ones.
    """

    material: str
    corners: tuple[tuple[float, float], ...]
    z: float = 0.0


@dataclass(frozen=True)
class Signal:
    """A traffic light that faces traffic coming along `yaw`: red, yellow or green."""

    x: float
    y: float
    yaw: float
    colour: str


@dataclass(frozen=True, eq=False)
class Scenery:
    """The static scenery of a scene."""

    fixtures: tuple[Fixture, ...]
    patches: tuple[Patch, ...]


@dataclass(frozen=True, eq=False)
class WorldState:
    """The world at one moment.  seed, conditions: of the scene; time: seconds since its beginning."""

    seed: int
    conditions: Conditions
    time: float
    ego: EgoState
    objects: tuple[WorldObject, ...]
    signals: tuple[Signal, ...]
    scenery: Scenery
