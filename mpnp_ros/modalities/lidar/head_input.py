"""Inputs of LiDAR heads from key frames."""
from __future__ import annotations

import numpy as np

from mpnp_ros.modalities.head_training import PolarInput
from mpnp_ros.modalities.lidar.config import POLAR, LidarConfig
from mpnp_ros.modalities.lidar.dataset import lidar_frame
from mpnp_ros.modalities.lidar.sweep import FEATURES, GRID_VERSION, polar_grid
from mpnp_ros.questions.key_frame import KeyFrame


class LidarInput(PolarInput):
    """The polar grid of a sweep."""

    kind, version, features, config = 'lidar', GRID_VERSION, FEATURES, LidarConfig(backbone=POLAR)

    def grid(self, frame: KeyFrame, azimuths: int, ranges: int) -> np.ndarray:
        """See PolarInput."""
        return polar_grid(lidar_frame(frame), self.config, azimuths, ranges)
