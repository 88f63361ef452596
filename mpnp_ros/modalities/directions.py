"""Rotations and azimuths, checked and wrapped in one way for all modalities (REP-103)."""
from __future__ import annotations

import numpy as np

ORTHONORMAL_TOLERANCE = 1e-2
HORIZONTAL_MINIMUM = 1e-3  # a direction closer than this (0.06 degrees) to the vertical has no azimuth


def azimuth_of(directions: np.ndarray) -> np.ndarray:
    """Return the azimuth of each direction [N, 3] in the base frame: float32 radians in (-pi, pi].

    Counter-clockwise from +x, so +pi/2 is left; NaN where the direction is vertical.
    """
    x, y, _ = np.asarray(directions, np.float64).T
    azimuth = wrap_azimuth(np.arctan2(y, x))
    azimuth[np.hypot(x, y) < HORIZONTAL_MINIMUM * np.linalg.norm(directions, axis=1)] = np.nan
    return azimuth


def wrap_azimuth(angles: np.ndarray) -> np.ndarray:
    """Return angles [N] in radians as float32 in (-pi, pi]."""
    wrapped = (np.pi - np.mod(np.pi - np.asarray(angles, np.float64), 2 * np.pi)).astype(np.float32)
    wrapped[wrapped <= np.float32(-np.pi)] = np.pi
    return wrapped


def heading_of(rotation: np.ndarray) -> float:
    """Return the azimuth that a sensor's x axis has in the base frame, radians; 0 where it is vertical."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def check_rotation(rotation: np.ndarray, owner: str, error: type[Exception]) -> np.ndarray:
    """Return ``rotation`` as float64 [3, 3]; raises ``error`` naming ``owner`` where it is not a rotation."""
    matrix = np.asarray(rotation, np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not _is_rotation(matrix):
        raise error(f'{owner}: its rotation to the base frame is not one; check its transform')
    return matrix


def _is_rotation(matrix: np.ndarray) -> bool:
    skewed = np.abs(matrix @ matrix.T - np.eye(3)).max()
    return bool(skewed < ORTHONORMAL_TOLERANCE and np.linalg.det(matrix) > 0)
