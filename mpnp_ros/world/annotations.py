"""Boxes around the ego vehicle, with what its sensors got of them."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mpnp_ros.nuscenes.geometry import wrap_angle
from mpnp_ros.nuscenes.key_frame import AnnotatedObject
from mpnp_ros.world.catalogue import KINDS
from mpnp_ros.world.state import EgoState, WorldObject, WorldState

MAX_DISTANCE = 80.0
"""Metres from the ego origin to the middle of a box."""
LEVELS = (.4, .6, .8)
"""Shares in sight above which the visibility of nuScenes is 2, 3 and 4."""


@dataclass(frozen=True)
class Annotation:
    """An object with the points that lie on it and its visibility, 1..4 as in nuScenes."""

    object: WorldObject
    num_lidar_pts: int
    num_radar_pts: int
    visibility: int

    def seen_from(self, ego: EgoState, instance: str) -> AnnotatedObject:
        """The box in the ego frame; instance: what it is called."""
        item = self.object
        cosine, sine = math.cos(ego.yaw), math.sin(ego.yaw)
        dx, dy, yaw = item.x - ego.x, item.y - ego.y, wrap_angle(item.yaw - ego.yaw)
        centre = cosine * dx + sine * dy, cosine * dy - sine * dx, item.z + item.size[2] / 2
        velocity = item.speed * math.cos(yaw), item.speed * math.sin(yaw)
        return AnnotatedObject(instance, KINDS[item.kind].category, item.attribute, centre, item.size, yaw,
                               velocity, self.num_lidar_pts, self.num_radar_pts, self.visibility)


def annotate(state: WorldState, shares: Mapping[int, float], num_lidar_pts: Mapping[int, int],
             num_radar_pts: Mapping[int, int]) -> tuple[Annotation, ...]:
    """What is within MAX_DISTANCE, hidden or not.

    shares: in sight of the cameras, 0..1; points: on every object; all by identity, 0 where it is absent.
    """
    ego = state.ego
    return tuple(
        Annotation(item, num_lidar_pts.get(item.identity, 0), num_radar_pts.get(item.identity, 0),
                   visibility_level(shares.get(item.identity, 0.0)))
        for item in state.objects if math.hypot(item.x - ego.x, item.y - ego.y) <= MAX_DISTANCE)


def visibility_level(share: float) -> int:
    """1 for up to 40 % in sight, 2 up to 60 %, 3 up to 80 %, 4 above."""
    return 1 + sum(share > level for level in LEVELS)


def seen(annotations: tuple[Annotation, ...], ego: EgoState,
         instance: Callable[[int], str]) -> tuple[AnnotatedObject, ...]:
    """All of them in the ego frame; instance: the name of an identity."""
    return tuple(item.seen_from(ego, instance(item.object.identity)) for item in annotations)
