"""Annotated boxes around the ego vehicle, with their sensor points and visibility."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mpnp_ros.poses import wrap_angle
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.state import EgoState, WorldObject, WorldState

MAX_DISTANCE = 80.0
"""Metres from the ego origin to the middle of a box."""
LEVELS = (.4, .6, .8)
"""Visible shares above which the visibility level of nuScenes is 2, 3 and 4."""


@dataclass(frozen=True)
class Annotation:
    """An object with its numbers of points and its visibility level, 1..4 as in nuScenes."""

    object: WorldObject
    num_lidar_pts: int
    num_radar_pts: int
    visibility: int

    def seen_from(self, ego: EgoState, instance: str) -> AnnotatedObject:
        """The box in the ego frame.  instance: token of the object."""
        item = self.object
        cosine, sine = math.cos(ego.yaw), math.sin(ego.yaw)
        dx, dy, yaw = item.x - ego.x, item.y - ego.y, wrap_angle(item.yaw - ego.yaw)
        centre = cosine * dx + sine * dy, cosine * dy - sine * dx, item.z + item.size[2] / 2
        velocity = item.speed * math.cos(yaw), item.speed * math.sin(yaw)
        return AnnotatedObject(instance, KINDS[item.kind].category, item.attribute, centre, item.size, yaw,
                               velocity, self.num_lidar_pts, self.num_radar_pts, self.visibility)


def annotate(state: WorldState, shares: Mapping[int, float], num_lidar_pts: Mapping[int, int],
             num_radar_pts: Mapping[int, int]) -> tuple[Annotation, ...]:
    """Annotations of all objects within MAX_DISTANCE, including hidden ones.

    shares: visible to the cameras, 0..1; num_*_pts: points on the object; all by identity, absent ones are 0.
    """
    ego = state.ego
    return tuple(
        Annotation(item, num_lidar_pts.get(item.identity, 0), num_radar_pts.get(item.identity, 0),
                   visibility_level(shares.get(item.identity, 0.0)))
        for item in state.objects if math.hypot(item.x - ego.x, item.y - ego.y) <= MAX_DISTANCE)


def visibility_level(share: float) -> int:
    """The visibility level of a visible share: 1 up to 40 %, 2 up to 60 %, 3 up to 80 %, 4 above."""
    return 1 + sum(share > level for level in LEVELS)


def seen(annotations: tuple[Annotation, ...], ego: EgoState,
         instance: Callable[[int], str]) -> tuple[AnnotatedObject, ...]:
    """All annotations in the ego frame.  instance: returns the token of an identity."""
    return tuple(item.seen_from(ego, instance(item.object.identity)) for item in annotations)
