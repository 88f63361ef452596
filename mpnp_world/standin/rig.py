"""The cameras and the LiDAR of nuScenes: poses and intrinsics."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_ros.poses import Transform

IMAGE_SIZE = (1600, 900)
LIDAR_CHANNEL = 'LIDAR_TOP'
LIDAR_RINGS, LIDAR_COLUMNS = 32, 1084
LIDAR_ELEVATIONS = (-30.67, 10.67)
"""Elevation of the lowest and the highest ring of the HDL-32E, degrees."""


@dataclass(frozen=True)
class Mounting:
    """Pose of a sensor on the vehicle, (w, x, y, z) and metres, and its delay.

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


RIG = {
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
    LIDAR_CHANNEL: Mounting((.9437, 0., 1.8402), (.7077, -.0065, .0107, -.7064)),
}


def lidar_rays() -> tuple[np.ndarray, np.ndarray]:
    """Directions [32 * 1084, 3] of one sweep in the ego frame and the ring index of each."""
    azimuth = np.linspace(0, 2 * np.pi, LIDAR_COLUMNS, endpoint=False)[:, None]
    elevation = np.radians(np.linspace(*LIDAR_ELEVATIONS, LIDAR_RINGS))[None]
    rays = np.stack(np.broadcast_arrays(np.cos(azimuth) * np.cos(elevation),
                                        np.sin(azimuth) * np.cos(elevation), np.sin(elevation)), -1)
    return rays.reshape(-1, 3), np.tile(np.arange(LIDAR_RINGS), LIDAR_COLUMNS)
