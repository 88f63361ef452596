"""Rotations, azimuths, mountings and polar cells, the same for all modalities (REP-103).

Azimuths are counter-clockwise.  Polar cells begin straight behind, as the sectors of tokens do.
"""
from __future__ import annotations

from typing import Protocol

import numpy as np

from mpnp_ros.errors import PointCloudError

ORTHONORMAL_TOLERANCE = 1e-2
HORIZONTAL_MINIMUM = 1e-3  # a direction closer than this (0.06 degrees) to the vertical has no azimuth
LEVEL = 3.0  # degrees: more than the body of a vehicle leans, and about two beams of a LiDAR of 32
CELL = 1.0  # metres of range


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
    if (matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not np.linalg.det(matrix) > 0
            or not np.abs(matrix @ matrix.T - np.eye(3)).max() < ORTHONORMAL_TOLERANCE):
        raise error(f'{owner}: its rotation to the base frame is not one; check its transform')
    return matrix


class Mounted(Protocol):
    """Measurement of a sensor with its name and mounting, as in a LidarFrame."""

    @property
    def name(self) -> str:
        """Name of the sensor."""

    @property
    def rotation(self) -> np.ndarray | None:
        """[3, 3], sensor to base frame; None: they coincide."""

    @property
    def translation(self) -> np.ndarray | None:
        """[3] metres, sensor to base frame; None: they coincide."""


def sensor_rotation(reading: Mounted) -> np.ndarray:
    """Return [3, 3], sensor frame to base frame; raises PointCloudError where it is not a rotation."""
    if reading.rotation is None:
        return np.eye(3)
    return check_rotation(reading.rotation, reading.name, PointCloudError)


def is_level(rotation: np.ndarray) -> bool:
    """Return whether a sensor with this rotation to the base frame leans by at most :data:`LEVEL`."""
    return bool(rotation[2, 2] >= np.cos(np.radians(LEVEL)))


def levelled(reading: Mounted, points: np.ndarray) -> np.ndarray:
    """Return points [N, 3] of the sensor frame as a level sensor in its place, with its heading, sees them.

    The points of a level sensor are returned as they are.
    """
    rotation = sensor_rotation(reading)
    if is_level(rotation):
        return points
    heading = heading_of(rotation)
    cos, sin = np.cos(heading), np.sin(heading)
    back = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return points @ (back @ rotation).T


def in_base_frame(reading: Mounted, points: np.ndarray) -> np.ndarray:
    """Return points [N, 3] of the sensor frame in the base frame, float64 metres."""
    points = points @ sensor_rotation(reading).T
    if reading.translation is None:
        return points
    translation = np.asarray(reading.translation, np.float64)
    if translation.shape != (3,) or not np.isfinite(translation).all():
        raise PointCloudError(f'{reading.name}: its translation to the base frame is not three finite '
                              'numbers; check its transform')
    return points + translation


def polar_cells(points: np.ndarray, azimuths: int, ranges: int, length: float = CELL) -> np.ndarray:
    """Return the cell of each point [N, >=2] of the base frame: azimuth * ranges + range; -1 beyond the last.

    int64 [N].  Ranges are seen from above, ``length`` metres each.
    """
    x, y = points[:, 0], points[:, 1]
    distance = np.hypot(x, y)
    azimuth = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * azimuths).astype(np.int64) % azimuths
    inside = distance < ranges * length
    place = (np.where(inside, distance, 0) / length).astype(np.int64)
    return np.where(inside, azimuth * ranges + place, -1)
