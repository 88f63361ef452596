"""The polar grid in which a network finds objects: height slices of a sweep and of an earlier one.

Cells are seen from above in the base frame and begin straight behind, see
:func:`~mpnp_ros.modalities.geometry.polar_cells`.
"""
from __future__ import annotations

import numpy as np

from mpnp_ros.detection.ground import heights_over, smooth_ground
from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.detection_network import AZIMUTHS, LENGTH, RANGES
from mpnp_ros.modalities.geometry import in_base_frame, polar_cells
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.sweep import LidarFrame, usable_points

VERSION = 1  # goes up whenever `detection_grid` gives other values for the same sweeps
SLICES = (-0.6, 0.15, 0.45, 0.8, 1.15, 1.5, 1.9, 2.5, 4.5)
"""Borders of the height slices, metres above the ground; the lowest slice holds the road."""
EARLIER_SLICES = (0.25, 0.8, 1.4, 2.0, 3.5)
"""Borders of the height slices of the earlier sweep."""
FULL_COUNT = 60.0
"""Points of a cell and a slice that give 1."""
HIGHEST = len(SLICES) - 1
"""Planes: the slices, the highest point, the mean intensity, the earlier slices, whether they are known."""
INTENSITY, BEFORE = HIGHEST + 1, HIGHEST + 2
KNOWN = BEFORE + len(EARLIER_SLICES) - 1
PLANES = KNOWN + 1


def detection_grid(frame: LidarFrame, config: LidarConfig, azimuths: int = AZIMUTHS,
                   ranges: int = RANGES) -> np.ndarray:
    """Return the grid of a sweep, float32 [PLANES, azimuths, ranges], 0..1 and 0 where nothing is.

    Heights are above the ground, which the sweep itself shows.  Without an earlier sweep its planes are 0.
    Raises PointCloudError where no point can be used.
    """
    cloud = usable_points(frame, config.min_range)
    points = in_base_frame(frame, cloud.points)
    ground = smooth_ground(points)
    cell, height = polar_cells(points, azimuths, ranges, LENGTH), heights_over(ground, points)
    cells = azimuths * ranges
    grid = np.zeros((PLANES, cells), np.float32)
    grid[:HIGHEST] = _slices(cell, height, SLICES, cells)
    above = (cell >= 0) & (height > SLICES[1]) & (height < SLICES[-1])
    cell, intensity = cell[above], (cloud.intensity[above] / config.max_intensity).clip(0, 1)
    np.maximum.at(grid[HIGHEST], cell, (height[above] / SLICES[-1]).astype(np.float32))
    grid[INTENSITY] = np.bincount(cell, intensity, cells) / np.bincount(cell, minlength=cells).clip(1)
    if (before := _earlier_points(frame, config.min_range)) is not None:
        grid[BEFORE:KNOWN] = _slices(polar_cells(before, azimuths, ranges, LENGTH),
                                     heights_over(ground, before), EARLIER_SLICES, cells)
        grid[KNOWN] = 1
    return grid.reshape(PLANES, azimuths, ranges)


def _slices(cell: np.ndarray, height: np.ndarray, borders: tuple[float, ...], cells: int) -> np.ndarray:
    """Return the log of the number of points in each slice and cell, 0..1, [slices, cells]."""
    place, count = np.digitize(height, borders) - 1, len(borders) - 1
    inside = (cell >= 0) & (place >= 0) & (place < count)
    number = np.bincount(place[inside] * cells + cell[inside], minlength=count * cells)
    return (np.log1p(number) / np.log1p(FULL_COUNT)).clip(0, 1).reshape(count, cells)


def _earlier_points(frame: LidarFrame, min_range: float) -> np.ndarray | None:
    """Return the points of the earlier sweep in the base frame of this moment; None: there are none."""
    if frame.earlier is None:
        return None
    try:
        return in_base_frame(frame.earlier, usable_points(frame.earlier, min_range).points)
    except PointCloudError:  # it was of no use when it came; the present sweep is judged by itself
        return None
