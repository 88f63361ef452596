"""The height of the ground around the robot, and how far LiDAR points lie above it."""
from __future__ import annotations

import numpy as np
from scipy import ndimage

CELL, REACH = 4.0, 60.0
"""Metres: side of a cell, and how far the grid goes."""
FEWEST, LOW = 5, 0.05
"""Fewest points that give the height of a cell, and the share of them that lies below the ground."""
STEEP = 0.3
"""Metres that a cell may lie above its neighbours; more is an object that fills it."""
WIDE = 5
"""Cells, side of the square whose median is the smooth ground."""


def heights_above_ground(points: np.ndarray) -> np.ndarray:
    """Return how far points [N, 3] of the base frame lie above the ground, [N] metres."""
    ground = ground_heights(points)
    place = _cells(points).clip(0, len(ground) - 1)
    return points[:, 2] - ground[place[:, 0], place[:, 1]]


def ground_heights(points: np.ndarray) -> np.ndarray:
    """Return the height of the ground in square cells around the robot, [n, n] metres; 0: not known."""
    n = int(2 * REACH / CELL)
    place = _cells(points)
    near = ((place >= 0) & (place < n)).all(1) & (np.abs(points[:, 2]) < 3)
    cell, height = place[near] @ [n, 1], points[near, 2]
    order = np.lexsort((height, cell))
    cell, height = cell[order], height[order]
    names, starts, counts = np.unique(cell, return_index=True, return_counts=True)
    low = starts + (LOW * (counts - 1)).round().astype(int)
    flat = np.full(n * n, np.nan)
    flat[names[counts >= FEWEST]] = height[low[counts >= FEWEST]]
    grid = flat.reshape(n, n)
    for _ in range(3):
        # The mean height of a cell and its eight neighbours, of those that are known.
        padded = np.pad(grid, 1, constant_values=np.nan)
        parts = np.stack([padded[row:row + n, column:column + n] for row in range(3) for column in range(3)])
        count = (~np.isnan(parts)).sum(0)
        mean = np.where(count, np.nansum(parts, 0) / count.clip(1), np.nan)
        grid = np.where(np.isnan(grid), mean, np.fmin(grid, mean + STEEP))
    return np.nan_to_num(grid)


def smooth_ground(points: np.ndarray) -> np.ndarray:
    """Return the height of the ground as :func:`ground_heights` does, without what is narrower than a street.

    It follows slopes and dips; kerbs and large objects do not show in it.
    """
    return ndimage.median_filter(ground_heights(points), WIDE, mode='nearest')


def heights_over(ground: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return how far points [N, 3] lie above a ground of square cells, [N] metres.

    Between the middles of cells the ground is interpolated; beyond the last ones it goes on level.
    """
    place = (points[:, :2] + REACH) / CELL - 0.5
    return points[:, 2] - ndimage.map_coordinates(ground, place.T, order=1, mode='nearest')


def _cells(points: np.ndarray) -> np.ndarray:
    return np.floor((points[:, :2] + REACH) / CELL).astype(np.int64)
