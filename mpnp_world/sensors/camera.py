"""Cameras: projections of world points, noise and rain."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_ros.poses import Transform
from mpnp_world.models.mesh import Point, unit
from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState
from mpnp_world.sensors.rig import IMAGE_SIZE, Mounting

NEAR, FAR = 0.3, 500.0
"""Near and far plane, metres."""

GAMMA = 2.2


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
    assert mounting.camera is not None  # only a LiDAR has none
    focal, x, y = mounting.camera
    width, height = IMAGE_SIZE
    return View(vehicle.rotation @ pose.rotation,
                vehicle.rotation @ pose.translation + np.array((ego.x, ego.y, 0.0)),
                (focal / width, focal / height, x / width, y / height))


def looking_view(eye: Point, target: Point, aspect: float, field: float = 1.0) -> View:
    """An upright view from `eye` to `target`.  field: focal length over image height."""
    eye, target = np.asarray(eye, np.float64), np.asarray(target, np.float64)
    ahead = unit(target - eye)
    right = unit(np.cross(ahead, (0, 0, 1) if abs(ahead[2]) < 0.999 else (0, 1, 0)))
    return View(np.column_stack([right, np.cross(ahead, right), ahead]), eye,
                (field / aspect, field, 0.5, 0.5))


def sun_projection(middle: Point, direction: Point, reach: float) -> np.ndarray:
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


@dataclass(frozen=True)
class Noise:
    """Noise of linear light; 1 is white.  shot: variance per light; read: standard deviation in the dark."""

    shot: float
    read: float


NOISE = {'day': Noise(1e-5, 1e-3), 'dusk': Noise(3e-4, 3e-3), 'night': Noise(2.5e-3, 8e-3)}
"""Higher gain at night also amplifies noise."""
_STREAK_LIGHT = {'day': 200.0, 'dusk': 120.0, 'night': 45.0}
_STREAKS_PER_COLUMN = 0.2


class CameraSensor:
    """Adds the effects of a camera under some conditions to noiseless images."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        noise, values = NOISE[conditions.light], np.arange(256)
        light = (values / 255) ** GAMMA
        brighter = light + np.sqrt(noise.shot * light + noise.read ** 2)
        self._deviation = (255 * brighter ** (1 / GAMMA) - values).astype(np.float32)
        """Standard deviation of a pixel by its value."""

    def expose(self, images: np.ndarray, seed: int, time: float) -> np.ndarray:
        """Images [N, H, W, 3] uint8 with noise and rain; deterministic in seed and time (seconds)."""
        rng = np.random.default_rng([seed, round(time * 1000), 0xCA3])
        values = images.astype(np.float32)
        if self._conditions.weather == 'rain':
            light, (height, width) = _STREAK_LIGHT[self._conditions.light], images.shape[1:3]
            count = int(width * _STREAKS_PER_COLUMN)
            for image in values:
                columns, rows = rng.integers(width, size=count), rng.integers(height, size=count)
                lengths = rng.integers(4, height // 12 + 6, count)
                for column, row, length in zip(columns, rows, lengths, strict=True):
                    streak = image[row:row + length, column]
                    streak += 0.25 * (light - streak)
        values += self._deviation[images] * rng.standard_normal(images.shape, np.float32)
        return np.clip(values, 0, 255, out=values).astype(np.uint8)
