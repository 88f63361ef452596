"""Inputs of radar heads from key frames."""
from __future__ import annotations

import numpy as np

from mpnp_ros.modalities.head_training import PolarInput
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.dataset import radar_frame
from mpnp_ros.modalities.radar.frames import FEATURES, GRID_VERSION, polar_grid
from mpnp_ros.questions.key_frame import KeyFrame


class RadarInput(PolarInput):
    """The polar grid of the scans of all radars."""

    kind, version, features, config = 'radar', GRID_VERSION, FEATURES, RadarConfig()

    def grid(self, frame: KeyFrame, azimuths: int, ranges: int) -> np.ndarray:
        """See PolarInput."""
        return polar_grid(radar_frame(frame), self.config, azimuths, ranges)
