"""One annotated moment of a scene: its sensor readings and the objects around the vehicle."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
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

    def turned(self, theta: float) -> SensorReading:
        """Return the reading on a vehicle whose heading is ``theta`` radians further left."""
        return replace(self, extrinsics=Transform.about_z(-theta) @ self.extrinsics,
                       ego_pose=self.ego_pose @ Transform.about_z(theta))


def no_history(channel: str) -> Iterator[SensorReading]:
    """Return no readings."""
    return iter(())


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
    history: returns the readings of a channel before that of this moment, as recorded, newest first.
    seen_by: sensors that see each of its objects; empty: it has all objects that are annotated.
    imu: the file with the readings of its whole scene, of the CAN bus expansion; None: there is none.
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
    history: Callable[[str], Iterator[SensorReading]] = no_history
    seen_by: tuple[str, ...] = ()
    imu: SensorReading | None = None

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

    def earlier(self, channel: str, seconds: float) -> list[SensorReading]:
        """Return the readings of a channel in the ``seconds`` before that of this moment, newest first.

        These are its sweeps between key frames and its readings of earlier key frames; none where this moment
        has no reading of the channel.  :meth:`to_base` places them.
        """
        current = next((reading for reading in self.readings if reading.channel == channel), None)
        if current is None:
            return []
        oldest = current.stamp_ns - round(seconds * 1e9)
        return [reading.turned(self.turn) for reading in takewhile(
            lambda reading: reading.stamp_ns >= oldest, self.history(channel))]

    def to_base(self, reading: SensorReading) -> Transform:
        """Return the map from the sensor frame of a reading at its time to the ego frame of this moment.

        It includes the motion of the vehicle between the two, so what stands is where it is now.
        """
        return self.ego_pose.inverse() @ reading.ego_pose @ reading.extrinsics

    def turned(self, theta: float) -> KeyFrame:
        """Return the same moment as recorded by a vehicle whose heading is ``theta`` radians further left.

        The sensors keep their poses in the world, so their mounting on the vehicle is turned by ``-theta``.
        Images and points are unchanged; extrinsics, poses and objects change.
        """
        return replace(
            self,
            ego_pose=self.ego_pose @ Transform.about_z(theta),
            cameras={name: reading.turned(theta) for name, reading in self.cameras.items()},
            lidar=self.lidar.turned(theta) if self.lidar else None,
            radars={name: reading.turned(theta) for name, reading in self.radars.items()},
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
