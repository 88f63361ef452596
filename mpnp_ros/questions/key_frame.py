"""One annotated moment of a scene: its sensor readings and the objects around the vehicle."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mpnp_ros.poses import Transform, rotation_about_z, wrap_angle


@dataclass(frozen=True, eq=False)
class SensorReading:
    """One file of one sensor.

    channel: nuScenes channel, e.g. ``CAM_FRONT``; modality: ``camera``, ``lidar`` or ``radar``.
    extrinsics: sensor frame -> ego frame; ego_pose: ego frame -> map frame at ``stamp_ns``.
    intrinsics: [3, 3], pixels, and size: (width, height), both for cameras only.
    """

    channel: str
    modality: str
    path: Path
    stamp_ns: int
    is_key_frame: bool
    extrinsics: Transform
    ego_pose: Transform
    intrinsics: np.ndarray | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class AnnotatedObject:
    """A labelled box in the ego frame of its key frame.

    category: one of :data:`~mpnp_ros.questions.vocabulary.CATEGORIES`; attribute: status word or None.
    centre: (x, y, z) metres; size: (length, width, height) metres; yaw: radians, 0 is the ego heading.
    velocity: (x, y) metres/second over ground along the ego axes, None if unknown.
    visibility: 1 (up to 40 % visible in the cameras) .. 4 (over 80 %), 0: not annotated.
    """

    instance: str
    category: str
    attribute: str | None
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    velocity: tuple[float, float] | None = None
    num_lidar_pts: int = 0
    num_radar_pts: int = 0
    visibility: int = 0

    @property
    def distance(self) -> float:
        """Return the metres from the ego origin to the centre, seen from above."""
        return float(np.hypot(*self.centre[:2]))


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """One annotated moment.

    token: nuScenes sample token; scene: its scene's name; stamp_ns: time of the sample.
    ego_pose: ego frame -> map frame at the time of the LiDAR sweep; objects are in that ego frame.
    turn: radians by which :meth:`turned` has turned the vehicle, 0 for the frame as recorded.
    annotated: False if its scene has no annotations; empty objects then have no meaning.
    """

    token: str
    scene: str
    description: str
    stamp_ns: int
    ego_pose: Transform
    cameras: dict[str, SensorReading]
    lidar: SensorReading | None
    radars: dict[str, SensorReading]
    objects: tuple[AnnotatedObject, ...]
    turn: float = field(default=0.0)
    annotated: bool = True

    @property
    def is_night(self) -> bool:
        """Return whether the scene is described as a night scene."""
        return 'night' in self.description.lower()

    @property
    def readings(self) -> list[SensorReading]:
        """Return all sensor readings in time order."""
        lidar = [self.lidar] if self.lidar else []
        return sorted([*self.cameras.values(), *lidar, *self.radars.values()],
                      key=lambda reading: (reading.stamp_ns, reading.channel))

    def turned(self, theta: float) -> KeyFrame:
        """Return the same moment as recorded by a vehicle whose heading is ``theta`` radians further left.

        The sensors keep their poses in the world, so their mounting on the vehicle is turned by ``-theta``.
        Images and points are unchanged; extrinsics, poses and objects change.
        """
        def turn_reading(reading: SensorReading) -> SensorReading:
            return replace(reading, extrinsics=Transform.about_z(-theta) @ reading.extrinsics,
                           ego_pose=reading.ego_pose @ Transform.about_z(theta))

        return replace(
            self,
            ego_pose=self.ego_pose @ Transform.about_z(theta),
            cameras={name: turn_reading(reading) for name, reading in self.cameras.items()},
            lidar=turn_reading(self.lidar) if self.lidar else None,
            radars={name: turn_reading(reading) for name, reading in self.radars.items()},
            objects=turned(self.objects, theta),
            turn=self.turn + theta,
        )


def turned(objects: Iterable[AnnotatedObject], theta: float) -> tuple[AnnotatedObject, ...]:
    """Return ``objects`` as seen from a vehicle whose heading is turned left by ``theta`` radians."""
    rotation = rotation_about_z(-theta)
    return tuple(
        replace(item,
                centre=tuple((rotation @ item.centre).tolist()),
                yaw=wrap_angle(item.yaw - theta),
                velocity=item.velocity and tuple((rotation[:2, :2] @ item.velocity).tolist()))
        for item in objects)
