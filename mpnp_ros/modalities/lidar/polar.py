"""A sweep as a polar bird's-eye grid around the vehicle: the input of a LiDAR head."""
from __future__ import annotations

import numpy as np

from mpnp_ros.modalities.geometry import in_base_frame, polar_cells
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.frames import LidarFrame
from mpnp_ros.modalities.lidar.preprocess import usable_points

GRID_VERSION = 1  # goes up whenever `polar_grid` gives other values for the same sweep
LOWEST, HIGHEST = 0.2, 4.5  # metres above the base frame: no road, no trees above it
FEATURES = 6
FULL_COUNT = 50.0


def polar_grid(frame: LidarFrame, config: LidarConfig, azimuths: int, ranges: int) -> np.ndarray:
    """Return what lies in each cell of the base frame, float32 [FEATURES, azimuths, ranges], 0 where empty.

    Log of the number of points; highest, lowest and mean height; mean and highest intensity; about 0..1.
    Azimuths begin straight behind and run counter-clockwise, ranges are metres seen from above.
    Raises PointCloudError where no point can be used.
    """
    cloud = usable_points(frame, config.min_range)
    points = in_base_frame(frame, cloud.points)
    cell, height = polar_cells(points, azimuths, ranges), points[:, 2]
    kept = (height > LOWEST) & (height < HIGHEST) & (cell >= 0)
    intensity = (cloud.intensity[kept] / config.max_intensity).clip(0, 1)
    fields = _statistics(cell[kept], height[kept] / HIGHEST, intensity, azimuths * ranges)
    return fields.reshape(-1, azimuths, ranges)


def _statistics(cell: np.ndarray, height: np.ndarray, intensity: np.ndarray, cells: int) -> np.ndarray:
    """Fields [FEATURES, cells] of points that lie in ``cell`` [N]."""
    fields = np.zeros((FEATURES, cells), np.float32)
    count = np.bincount(cell, minlength=cells)
    fields[0] = np.log1p(count) / np.log1p(FULL_COUNT)
    np.maximum.at(fields[1], cell, height)
    fields[2] = np.where(count > 0, 1, 0)
    np.minimum.at(fields[2], cell, height)
    fields[3] = np.bincount(cell, height, cells) / count.clip(1)
    fields[4] = np.bincount(cell, intensity, cells) / count.clip(1)
    np.maximum.at(fields[5], cell, intensity)
    return fields
