"""The sensor rig of the ego vehicle: that of nuScenes, with microphones added."""
from __future__ import annotations

import math
from dataclasses import dataclass

from mpnp_ros.poses import Transform

EGO_SIZE = (4.1, 1.73, 1.56)
"""Length, width, height of the ego vehicle, metres; its origin is 1.4 m behind the middle."""
EGO_REAR = 0.65
"""Metres from the origin to the rear end of the ego vehicle."""
IMAGE_SIZE = (1600, 900)
SMALL_SIZE = (640, 360)
"""Width and height of rendered images where no other size is asked for, pixels."""
LIDAR_CHANNEL = 'LIDAR_TOP'
RATES = {'camera': 12, 'lidar': 20, 'radar': 13}
"""Readings per second by modality, where there are sweeps between key frames."""
LIDAR_RINGS, LIDAR_COLUMNS = 32, 1084
LIDAR_ELEVATIONS = (-30.67, 10.67)
"""Elevation of the lowest and the highest ring of the HDL-32E, degrees."""


@dataclass(frozen=True)
class Mounting:
    """Pose of a camera or LiDAR on the vehicle, (w, x, y, z) and metres, and its delay.

    delay: seconds after the time of the key frame (cameras fire before the LiDAR has come round).
    camera: focal length and principal point (x, y) in pixels, None for a LiDAR.
    """

    translation: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]
    delay: float = 0.0
    camera: tuple[float, float, float] | None = None

    @property
    def pose(self) -> Transform:
        """Sensor frame -> ego frame."""
        return Transform.from_quaternion(self.translation, self.quaternion)

    @property
    def intrinsics(self) -> list[list[float]]:
        """Camera matrix, rows; empty for a LiDAR, as in the calibrated_sensor table."""
        if self.camera is None:
            return []
        focal, x, y = self.camera
        return [[focal, 0.0, x], [0.0, focal, y], [0.0, 0.0, 1.0]]


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


CAMERAS: dict[str, Mounting] = {
    'CAM_FRONT_LEFT': Mounting((1.5239, .4946, 1.5093), (.6757, -.6736, .2121, -.2112), -.043,
                               (1272.6, 826.6, 479.8)),
    'CAM_FRONT': Mounting((1.7008, .0159, 1.5110), (.4998, -.5030, .4998, -.4974), -.035,
                          (1266.4, 816.3, 491.5)),
    'CAM_FRONT_RIGHT': Mounting((1.5508, -.4934, 1.4957), (.2060, -.2027, .6824, -.6714), -.028,
                                (1260.8, 808.0, 495.3)),
    'CAM_BACK_RIGHT': Mounting((1.0149, -.4806, 1.5624), (.1228, -.1324, -.7043, .6865), -.020,
                               (1259.5, 807.3, 501.2)),
    'CAM_BACK': Mounting((.0283, .0035, 1.5791), (.5038, -.4974, -.4942, .5045), -.010,
                         (809.2, 829.2, 481.8)),
    'CAM_BACK_LEFT': Mounting((1.0357, .4848, 1.5910), (.6924, -.7032, -.1165, .1120), 0.0,
                              (1256.7, 792.1, 492.8)),
}
LIDAR = Mounting((.9437, 0., 1.8402), (.7077, -.0065, .0107, -.7064))
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
