"""Projections of world points onto images, for OpenGL."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_ros.poses import Transform
from mpnp_world.models.mesh import unit
from mpnp_world.scene.state import EgoState
from mpnp_world.standin.rig import IMAGE_SIZE, Mounting

NEAR, FAR = 0.3, 500.0
"""Near and far plane, metres."""


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera.  rotation: [3, 3] camera -> world, x right, y down, z ahead; eye: [3], metres.

    lens: focal lengths and principal point (x, y each) as shares of image width and height.
    """

    rotation: np.ndarray
    eye: np.ndarray
    lens: tuple[float, float, float, float]

    @property
    def projection(self) -> np.ndarray:
        """World -> clip coordinates [4, 4]; the first row of the image is at y = -1."""
        fx, fy, cx, cy = self.lens
        clip = np.array([[2 * fx, 0, 2 * cx - 1, 0], [0, 2 * fy, 2 * cy - 1, 0],
                         [0, 0, (FAR + NEAR) / (FAR - NEAR), -2 * FAR * NEAR / (FAR - NEAR)], [0, 0, 1, 0]])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self.rotation.T, -self.rotation.T @ self.eye
        return clip @ pose


def camera_view(mounting: Mounting, ego: EgoState) -> View:
    """The view of a camera of the rig on the ego vehicle."""
    pose, vehicle = mounting.pose, Transform.about_z(ego.yaw)
    focal, x, y = mounting.camera
    width, height = IMAGE_SIZE
    return View(vehicle.rotation @ pose.rotation,
                vehicle.rotation @ pose.translation + np.array((ego.x, ego.y, 0.0)),
                (focal / width, focal / height, x / width, y / height))


def looking_view(eye: Sequence[float], target: Sequence[float], aspect: float, field: float = 1.0) -> View:
    """An upright view from `eye` to `target`.  field: focal length over image height."""
    eye, target = np.asarray(eye, np.float64), np.asarray(target, np.float64)
    ahead = unit(target - eye)
    right = unit(np.cross(ahead, (0, 0, 1) if abs(ahead[2]) < 0.999 else (0, 1, 0)))
    return View(np.column_stack([right, np.cross(ahead, right), ahead]), eye,
                (field / aspect, field, 0.5, 0.5))


def sun_projection(middle: Sequence[float], direction: Sequence[float], reach: float) -> np.ndarray:
    """World -> clip coordinates [4, 4] of light from `direction`, `reach` metres around `middle`."""
    view = looking_view(np.asarray(middle) + 90 * np.asarray(direction), middle, 1.0)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = view.rotation.T, -view.rotation.T @ view.eye
    flat = np.diag([1 / reach, 1 / reach, 1 / 90, 1.0])
    flat[2, 3] = -1.0
    return flat @ pose


def seen(projection: np.ndarray, middles: np.ndarray, radii: np.ndarray | float) -> np.ndarray:
    """Mask [N] of the spheres in view of a projection.  middles: [N, 3], radii: [N], metres."""
    planes = projection[3] + np.concatenate([projection[:2], -projection[:2]])
    inside = np.ones(len(middles), bool)
    for plane in planes:
        inside &= middles @ plane[:3] + plane[3] > -radii * np.linalg.norm(plane[:3])
    return inside
