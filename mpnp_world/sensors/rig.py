"""The sensor rig of the ego vehicle: that of nuScenes, with microphones added."""
from __future__ import annotations

import math
from dataclasses import dataclass

from mpnp_ros.poses import Transform
from mpnp_world.standin.rig import LIDAR_CHANNEL, RIG, Mounting

EGO_SIZE = (4.1, 1.73, 1.56)
"""Length, width, height of the ego vehicle, metres; its origin is 1.4 m behind the middle."""
EGO_REAR = 0.65
"""Metres from the origin to the rear end of the ego vehicle."""

CAMERAS: dict[str, Mounting] = {name: mounting for name, mounting in RIG.items() if mounting.camera}
LIDAR: Mounting = RIG[LIDAR_CHANNEL]


@dataclass(frozen=True)
class RadarMounting:
    """The pose of a radar: metres, and degrees counter-clockwise from ahead."""

    translation: tuple[float, float, float]
    yaw: float

    @property
    def pose(self) -> Transform:
        """Sensor frame -> ego frame."""
        half = math.radians(self.yaw) / 2
        return Transform.from_quaternion(self.translation, (math.cos(half), 0., 0., math.sin(half)))


RADARS: dict[str, RadarMounting] = {
    'RADAR_FRONT': RadarMounting((3.412, 0.0, 0.5), 0.0),
    'RADAR_FRONT_LEFT': RadarMounting((2.422, 0.8, 0.78), 90.0),
    'RADAR_FRONT_RIGHT': RadarMounting((2.422, -0.8, 0.77), -90.0),
    'RADAR_BACK_LEFT': RadarMounting((-0.562, 0.628, 0.53), 170.0),
    'RADAR_BACK_RIGHT': RadarMounting((-0.562, -0.618, 0.53), -170.0),
}

MICROPHONES: dict[str, tuple[float, float, float]] = {
    'MIC_FRONT_LEFT': (1.5, 0.6, 1.55), 'MIC_FRONT_RIGHT': (1.5, -0.6, 1.55),
    'MIC_BACK_LEFT': (0.0, 0.6, 1.55), 'MIC_BACK_RIGHT': (0.0, -0.6, 1.55),
}
"""Positions on the roof, metres in the ego frame."""
