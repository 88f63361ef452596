"""Mounting of a sensor that measures points, and its points in the base frame."""
from __future__ import annotations

from typing import Protocol

import numpy as np

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.directions import check_rotation, heading_of

LEVEL = 3.0  # degrees: more than the body of a vehicle leans, and about two beams of a LiDAR of 32


class Mounted(Protocol):
    """Measurement of a sensor with its name and mounting, as in a LidarFrame."""

    name: str
    rotation: np.ndarray | None
    translation: np.ndarray | None


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

    The points of a sensor that is level are as they were.
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
