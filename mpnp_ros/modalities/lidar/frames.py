"""Frames of a LiDAR."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LidarFrame:
    """One sweep.

    points: [N, >=3] floating point x y z in metres, sensor frame; NaN and Inf mark lost returns.
    intensity: [N], or None where the sensor has none.
    rotation, translation: [3, 3] and [3] metres, sensor to base frame; None means that they coincide.
    name: of the sensor; stamp_ns: sensor time; ``frame_id`` names the base frame.
    """

    points: np.ndarray
    intensity: np.ndarray | None = None
    rotation: np.ndarray | None = None
    translation: np.ndarray | None = None
    stamp_ns: int = 0
    name: str = 'lidar'
    frame_id: str = 'base_link'
