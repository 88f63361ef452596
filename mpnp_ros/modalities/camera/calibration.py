"""Viewing directions of image columns and rows, and lens distortion.

Distortion has the models and coefficients of ``sensor_msgs/CameraInfo``.  The formulas are those of OpenCV,
whose calibrations ROS drivers publish.
"""
from __future__ import annotations

import functools
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.images import CameraView, ImageFile
from mpnp_ros.modalities.geometry import azimuth_of, check_rotation

BROWN, EQUIDISTANT = 'plumb_bob', 'equidistant'
MODELS = {
    'plumb_bob': BROWN, 'rational_polynomial': BROWN, 'radtan': BROWN, 'radial-tangential': BROWN,
    'radial_tangential': BROWN, 'brown_conrady': BROWN, 'thin_prism': BROWN, 'opencv': BROWN,
    'equidistant': EQUIDISTANT, 'fisheye': EQUIDISTANT, 'kannala_brandt': EQUIDISTANT,
    'kannala_brandt4': EQUIDISTANT, 'kb4': EQUIDISTANT, 'opencv_fisheye': EQUIDISTANT}
"""Values of distortion_model used by drivers, and the family of each."""
MOST = {BROWN: 14, EQUIDISTANT: 4}
STRIDES, ROUNDS, FOLD = 24, 6, 0.02
ANGLES = np.linspace(0, np.pi, 4097)

STEEPEST = 2.0
VERTICAL, SLANTED, LEVEL = 0.87, 0.71, 0.2  # sines of 60, 45 and 12 degrees


@dataclass(frozen=True)
class Distortion:
    """Distortion of a lens.  family: BROWN or EQUIDISTANT.

    coefficients: of BROWN k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tx ty, of EQUIDISTANT k1 k2 k3 k4; those left
    out at the end are zero.
    """

    family: str
    coefficients: tuple[float, ...] = ()

    @property
    def padded(self) -> tuple[float, ...]:
        """All coefficients of the family."""
        return (*self.coefficients, *[0.] * (MOST[self.family] - len(self.coefficients)))


def distort(lens: Distortion, rays: np.ndarray) -> np.ndarray:
    """Return where directions [N, 3] of the optical frame appear at focal length one, float64 [N, 2].

    Directions of BROWN must point ahead, z > 0.
    """
    x, y, z = np.asarray(rays, np.float64).T
    if lens.family == EQUIDISTANT:
        across = np.hypot(x, y)
        bent = _bent(lens, np.arctan2(across, z)) / np.maximum(across, np.finfo(np.float64).tiny)
        return np.stack([x * bent, y * bent], axis=1)
    u, v = _brown(lens, x / z, y / z)
    homogeneous = _tilt(lens) @ np.stack([u, v, np.ones_like(u)])
    return (homogeneous[:2] / homogeneous[2]).T


def undistort(lens: Distortion, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the directions that appear at ``points`` [N, 2], and whether the model defines them.

    Unit vectors, float64 [N, 3] in the optical frame, and bool [N].  A model of high order folds back beyond
    the image it was fitted to; a point out there gets the last direction before the fold.
    """
    return _undistort(lens, np.ascontiguousarray(points, np.float64).tobytes())


@functools.lru_cache(64)
def _undistort(lens: Distortion, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Cached, because the same pixels of the same lens come with every image."""
    points = np.frombuffer(data).reshape(-1, 2)
    rays, told = _from_fisheye(lens, points) if lens.family == EQUIDISTANT else _from_brown(lens, points)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    rays.flags.writeable = told.flags.writeable = False
    return rays, told


def _from_fisheye(lens: Distortion, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    radius = np.hypot(*points.T)
    bent = _bent(lens, ANGLES)
    folds = np.flatnonzero(np.diff(bent) <= 0)
    end = folds[0] + 1 if len(folds) else len(ANGLES)
    angle = np.interp(radius, bent[:end], ANGLES[:end])
    told = radius <= bent[end - 1]
    for _ in range(ROUNDS):
        step = 1e-20
        slope = _bent(lens, angle + 1j * step).imag / step
        better = angle - (_bent(lens, angle) - radius) / np.where(slope > 0, slope, np.inf)
        angle = np.where(told, better.clip(0, ANGLES[end - 1]), angle)
    across = np.sin(angle) / np.maximum(radius, np.finfo(np.float64).tiny)
    return np.stack([*(points.T * across), np.cos(angle)], axis=1), told


def _from_brown(lens: Distortion, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow each point outwards from the centre, which finds the first of several solutions."""
    flat = np.linalg.solve(_tilt(lens), np.column_stack([points, np.ones(len(points))]).T)
    goal = flat[:2] / flat[2]
    found, share = np.zeros_like(goal), np.zeros(goal.shape[1])
    stride = np.full(len(share), 0.125)
    for _ in range(STRIDES):
        ahead = np.minimum(share + stride, 1)
        trial = found.copy()
        for _ in range(ROUNDS):
            step, good = _newton(lens, trial, ahead * goal)
            trial += np.where(good, step, 0)
        missed = np.abs(np.stack(_brown(lens, *trial)) - ahead * goal).max(0)
        reached = good & (missed < 1e-9)
        found, share = np.where(reached, trial, found), np.where(reached, ahead, share)
        stride = np.where(reached, stride, stride / 2)
        if (share == 1).all():
            break
    return np.column_stack([*found, np.ones(len(points))]), share == 1


def _newton(lens: Distortion, at: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a step [2, N] towards _brown(...) = ``goal``, and whether the model does not fold at ``at``."""
    tiny = 1e-20  # a complex step gives derivatives without a loss of digits
    value = np.stack(_brown(lens, *at))
    (xx, yx), (xy, yy) = (np.stack(_brown(lens, at[0] + 1j * tiny * along, at[1] + 1j * tiny * (1 - along))
                                   ).imag / tiny for along in (1, 0))
    determinant = xx * yy - xy * yx
    good = (determinant > FOLD) & (xx + yy > 0)
    u, v = goal - value
    step = np.stack([yy * u - xy * v, xx * v - yx * u]) / np.where(good, determinant, 1)
    return step.clip(-1, 1), good


def _bent(lens: Distortion, angle: np.ndarray) -> np.ndarray:
    """Return the radius at which a direction ``angle`` (radians) off the optical axis appears."""
    k1, k2, k3, k4 = lens.padded
    square = angle * angle
    return angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))


def _brown(lens: Distortion, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply radial, tangential and thin prism distortion."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, _, _ = lens.padded
    square = x * x + y * y
    radial = (1 + square * (k1 + square * (k2 + square * k3))) / (
        1 + square * (k4 + square * (k5 + square * k6)))
    return (x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x) + square * (s1 + square * s2),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y + square * (s3 + square * s4))


def _tilt(lens: Distortion) -> np.ndarray:
    """Return the homography [3, 3] of a sensor that is tilted against the lens."""
    (sin_x, sin_y), (cos_x, cos_y) = np.sin(lens.padded[12:]), np.cos(lens.padded[12:])
    turn = np.array([[cos_y, 0, -sin_y], [0, 1, 0], [sin_y, 0, cos_y]]) @ np.array(
        [[1, 0, 0], [0, cos_x, sin_x], [0, -sin_x, cos_x]])
    return np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]]) @ turn


def column_azimuths(view: CameraView, size: tuple[int, int], columns: int,
                    config: CameraConfig) -> np.ndarray:
    """Return the azimuth of the centre of each of ``columns`` vertical bands, left to right.

    size: width and height of the full image, pixels.  Result: float32 [columns] radians, see
    :func:`azimuth_of`; taken along the row of the principal point.
    Raises ImageError naming the view where its direction cannot be known.
    """
    intrinsics = view_intrinsics(view, size, config)
    centres = (np.arange(columns) + 0.5) * size[0] / columns - 0.5
    return _azimuths(view, centres, intrinsics, config)


def column_edges(view: CameraView, size: tuple[int, int], columns: int, config: CameraConfig) -> np.ndarray:
    """Return the azimuths between ``columns`` vertical bands and at both ends, float32 [columns + 1].

    Errors and the rest as :func:`column_azimuths`.
    """
    intrinsics = view_intrinsics(view, size, config)
    return _azimuths(view, np.arange(columns + 1) * size[0] / columns - 0.5, intrinsics, config)


def ray_slopes(view: CameraView, size: tuple[int, int], rows: int, columns: int,
               config: CameraConfig) -> np.ndarray:
    """Return the rise of each line of sight per metre ahead, float32 [rows, columns] within [-2, 2].

    rows: horizontal bands between config.top and config.bottom, from the top; errors as above.
    """
    intrinsics = view_intrinsics(view, size, config)
    down = config.top + (np.arange(rows) + 0.5) / rows * (config.bottom - config.top)
    pixels = np.stack([*np.meshgrid((np.arange(columns) + 0.5) * size[0] / columns - 0.5,
                                    down * size[1] - 0.5), np.ones((rows, columns))])
    x, y, z = view_rotation(view, config) @ _rays(view, pixels.reshape(3, -1), intrinsics)
    slopes = z / np.hypot(x, y).clip(1e-6)
    return slopes.reshape(rows, columns).clip(-STEEPEST, STEEPEST).astype(np.float32)


def pixel_rays(view: CameraView, size: tuple[int, int], pixels: np.ndarray,
               config: CameraConfig) -> np.ndarray:
    """Return directions [N, 3] in the base frame of pixels [N, 2] of the full image; errors as above."""
    homogeneous = np.column_stack([pixels, np.ones(len(pixels))]).T
    return (view_rotation(view, config) @ _rays(view, homogeneous, view_intrinsics(view, size, config))).T


def project_points(view: CameraView, size: tuple[int, int], points: np.ndarray,
                   config: CameraConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels [N, 2] of directions [N, 3] in the base frame, and how far ahead each is, [N]."""
    there = points @ view_rotation(view, config)
    x, y, z = there.T
    ahead = np.where(np.abs(z) < 1e-6, 1e-6, z)
    flat = np.stack([x / ahead, y / ahead], 1)
    if view.distortion is not None and view.intrinsics is not None:
        told = z > 0.05 * np.hypot(x, y)
        flat[told] = distort(view.distortion, there[told])
    matrix = view_intrinsics(view, size, config)
    return (np.column_stack([flat, np.ones(len(flat))]) @ matrix.T)[:, :2], z


def axis_azimuth(view: CameraView, size: tuple[int, int], config: CameraConfig) -> np.ndarray:
    """Return the azimuth of the optical axis, float32 [1]; errors as :func:`column_azimuths`."""
    intrinsics = view_intrinsics(view, size, config)
    return _azimuths(view, intrinsics[0, 2:], intrinsics, config)


def view_intrinsics(view: CameraView, size: tuple[int, int], config: CameraConfig) -> np.ndarray:
    """Return the view's [3, 3] pinhole matrix; without one, that of ``config.nominal_fov``."""
    if view.intrinsics is not None and np.any(view.intrinsics):
        matrix = np.asarray(view.intrinsics, np.float64)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1]) <= 0:
            raise ImageError(f'view {view.name!r}: its intrinsics are not a pinhole matrix with positive '
                             'focal lengths; check its camera_info')
        return matrix
    width, height = size
    focal = width / 2 / np.tan(np.radians(config.nominal_fov) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def image_size(image: np.ndarray | bytes | ImageFile) -> tuple[int, int] | None:
    """Return width and height of an image, see CameraView; None where it cannot be read."""
    if isinstance(image, np.ndarray):
        return image.shape[1], image.shape[0]
    try:
        return Image.open(BytesIO(image.data if isinstance(image, ImageFile) else image)).size
    except Exception:  # damaged files make Pillow raise errors of every kind
        return None


def view_rotation(view: CameraView, config: CameraConfig) -> np.ndarray:
    """Return [3, 3] optical frame to base frame, from the view or from its name's nominal direction."""
    if view.rotation is not None:
        return check_rotation(view.rotation, f'view {view.name!r}', ImageError)
    yaw = nominal_yaw(view.name, config)
    if yaw is None:
        raise ImageError(f'view {view.name!r}: its direction is unknown; publish its transform, '
                         f'or add {_bare(view.name)!r} to nominal_views and its direction to nominal_yaws')
    return facing(yaw)


def nominal_yaw(name: str, config: CameraConfig) -> float | None:
    """Return the direction given by the name of a view in radians, or None."""
    yaws = dict(zip(config.nominal_views, config.nominal_yaws, strict=True))
    bare = _bare(name)
    known = bare if bare in yaws else bare.replace('rear', 'back')
    return np.radians(yaws[known]) if known in yaws else None


def optical_rotation(rotation: np.ndarray, frame: str) -> tuple[np.ndarray, str]:
    """Return [3, 3] optical frame to base frame of a camera with images in ``frame``, and the problem.

    rotation: [3, 3] ``frame`` to base frame.  A frame without "optical" in its name whose z axis points up,
    as that of a camera body, is taken as the body: x ahead (REP-103).
    """
    along, lift = rotation[2, 1], rotation[2, 2]
    vertical = abs(lift) > VERTICAL
    if not vertical and not (lift > SLANTED and abs(along) < LEVEL):
        return rotation, ''
    degrees = f'its z axis points {np.degrees(np.arcsin(np.clip(lift, -1, 1))):.0f} degrees up'
    if frame.endswith(('_optical', '_optical_frame')):
        return rotation, (f'frame {frame!r} is called optical but {degrees}; check its transform: the z axis '
                          'of an optical frame is where the camera looks') if vertical else ''
    optical = f'{frame.removesuffix("_link").removesuffix("_frame")}_optical_frame'
    return rotation @ facing(0.), (f'frame {frame!r} is not an optical frame: {degrees}; taking its x axis '
                                   f'as where the camera looks; put {optical!r} into the header of '
                                   'its images and publish its transform')


def _bare(name: str) -> str:
    return name.lower().removeprefix('cam_').removeprefix('camera_')


def facing(yaw: float) -> np.ndarray:
    """Return [3, 3], optical frame to base frame, of a level camera that looks along ``yaw`` (radians)."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[sin, 0.0, cos], [-cos, 0.0, sin], [0.0, -1.0, 0.0]])


def _azimuths(view: CameraView, columns: np.ndarray, intrinsics: np.ndarray,
              config: CameraConfig) -> np.ndarray:
    pixels = np.stack([columns, np.full(len(columns), intrinsics[1, 2]), np.ones(len(columns))])
    return azimuth_of((view_rotation(view, config) @ _rays(view, pixels, intrinsics)).T)


def _rays(view: CameraView, pixels: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Return directions of homogeneous pixels [3, N] in the optical frame, [3, N] of any length."""
    rays = np.linalg.solve(intrinsics, pixels)
    if view.distortion is None or view.intrinsics is None:
        return rays
    return undistort(view.distortion, (rays[:2] / rays[2]).T)[0].T
