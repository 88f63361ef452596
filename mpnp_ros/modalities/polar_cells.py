"""Cells of a polar bird's-eye grid: azimuths run counter-clockwise from straight behind, ranges outwards."""
from __future__ import annotations

import numpy as np

CELL = 1.0  # metres of range


def polar_cells(points: np.ndarray, azimuths: int, ranges: int) -> np.ndarray:
    """Return the cell of each point [N, >=2] of the base frame: azimuth * ranges + range; -1 beyond the last.

    int64 [N].  Ranges are metres seen from above.
    """
    x, y = points[:, 0], points[:, 1]
    distance = np.hypot(x, y)
    azimuth = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * azimuths).astype(np.int64) % azimuths
    inside = distance < ranges * CELL
    return np.where(inside, azimuth * ranges + (np.where(inside, distance, 0) / CELL).astype(np.int64), -1)
