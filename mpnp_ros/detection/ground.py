"""Height of the ground around the robot from LiDAR points, and points above it."""
from __future__ import annotations

import numpy as np

CELL, REACH = 4.0, 60.0
"""Metres: side of a cell, and how far the grid goes."""
FEWEST, LOW = 5, 0.05
"""Points that tell the height of a cell, and the share of them that lies below the ground."""
STEEP = 0.3
"""Metres that a cell may lie above its neighbours; more is an object that fills it."""
CLEAR = 0.25
"""Metres above the ground from which on a point belongs to an object."""


def above_ground(points: np.ndarray) -> np.ndarray:
    """Return which points [N, 3] of the base frame belong to objects, not to the ground, bool [N]."""
    ground = ground_heights(points)
    place = _cells(points).clip(0, len(ground) - 1)
    return points[:, 2] - ground[place[:, 0], place[:, 1]] > CLEAR


def ground_heights(points: np.ndarray) -> np.ndarray:
    """Return the height of the ground in square cells around the robot, [n, n] metres; 0 where none tells."""
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
        near_height = _around(grid)
        known = ~np.isnan(grid)
        grid = np.where(known, np.fmin(grid, near_height + STEEP), near_height)
    return np.nan_to_num(grid)


def _cells(points: np.ndarray) -> np.ndarray:
    return np.floor((points[:, :2] + REACH) / CELL).astype(np.int64)


def _around(grid: np.ndarray) -> np.ndarray:
    """Mean of a cell and its eight neighbours where they are known."""
    padded = np.pad(grid, 1, constant_values=np.nan)
    n = len(grid)
    parts = np.stack([padded[row:row + n, column:column + n] for row in range(3) for column in range(3)])
    known = (~np.isnan(parts)).sum(0)
    return np.where(known, np.nansum(parts, 0) / known.clip(1), np.nan)
