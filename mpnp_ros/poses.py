"""Rigid transforms, quaternions and yaw, in the conventions of nuScenes and REP-103.

Quaternions are (w, x, y, z) as nuScenes stores them; x is ahead, y is left, z is up; angles are
radians, counter-clockwise seen from above.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def wrap_angle(angle: float) -> float:
    """Bring ``angle`` (radians) into (-pi, pi]."""
    wrapped = math.remainder(angle, math.tau)
    return math.pi if wrapped == -math.pi else wrapped


def rotation_from_quaternion(quaternion: Sequence[float]) -> np.ndarray:
    """Rotation matrix [3, 3] of a quaternion (w, x, y, z) of any length above zero."""
    q = np.asarray(quaternion, np.float64)
    w, x, y, z = q / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])


def quaternion_from_rotation(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """Unit quaternion (w, x, y, z), w >= 0, of a rotation matrix [3, 3].

    The quaternion is the eigenvector of the largest eigenvalue of a symmetric 4x4 matrix (Bar-Itzhack,
    J. Guidance 23(6), 2000), which is stable at every angle.
    """
    (a, b, c), (d, e, f), (g, h, i) = np.asarray(rotation, np.float64)
    symmetric = np.array([
        [a + e + i, h - f, c - g, d - b],
        [h - f, a - e - i, b + d, c + g],
        [c - g, b + d, e - a - i, f + h],
        [d - b, c + g, f + h, i - a - e],
    ])
    w, x, y, z = np.linalg.eigh(symmetric)[1][:, -1].tolist()
    sign = -1.0 if w < 0 else 1.0
    return sign * w, sign * x, sign * y, sign * z


def rotation_about_z(yaw: float) -> np.ndarray:
    """Rotation matrix [3, 3] about the vertical axis by ``yaw`` radians."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def yaw_of(rotation: np.ndarray) -> float:
    """Heading in (-pi, pi] of the rotated x axis, seen from above."""
    return wrap_angle(math.atan2(rotation[1, 0], rotation[0, 0]))


@dataclass(frozen=True, eq=False)
class Transform:
    """A pose, or the map from the frame that has this pose to the frame it is expressed in.

    rotation: [3, 3]; translation: [3], metres.
    """

    rotation: np.ndarray
    translation: np.ndarray

    @classmethod
    def from_quaternion(cls, translation: Sequence[float], quaternion: Sequence[float]) -> Transform:
        """Pose of a nuScenes record: ``translation`` in metres, ``quaternion`` as (w, x, y, z)."""
        return cls(rotation_from_quaternion(quaternion), np.asarray(translation, np.float64))

    @classmethod
    def about_z(cls, yaw: float) -> Transform:
        """A turn in place by ``yaw`` radians."""
        return cls(rotation_about_z(yaw), np.zeros(3))

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """Orientation as (w, x, y, z), w >= 0."""
        return quaternion_from_rotation(self.rotation)

    @property
    def yaw(self) -> float:
        """Heading, radians in (-pi, pi]."""
        return yaw_of(self.rotation)

    def inverse(self) -> Transform:
        """The map in the other direction."""
        return Transform(self.rotation.T, -self.rotation.T @ self.translation)

    def apply(self, points: np.ndarray | Sequence[float]) -> np.ndarray:
        """Map points [..., 3]."""
        return np.asarray(points) @ self.rotation.T + self.translation

    def __matmul__(self, other: Transform) -> Transform:
        """First ``other``, then ``self``."""
        return Transform(self.rotation @ other.rotation, self.apply(other.translation))


def box_corners(centre: Sequence[float], size: Sequence[float], yaw: float) -> np.ndarray:
    """Corners [8, 3] of an upright box.

    centre: (x, y, z) of the middle; size: (length, width, height) along its own x, y and z, metres.
    The first four corners are the bottom, counter-clockwise from ahead left.
    """
    signs = np.array([(x, y, z) for z in (-1, 1) for x, y in ((1, 1), (-1, 1), (-1, -1), (1, -1))])
    return (signs * np.asarray(size) / 2) @ rotation_about_z(yaw).T + np.asarray(centre)
