"""Viewing directions of image columns and rows."""
from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.distortion import undistort
from mpnp_ros.modalities.camera.frames import CameraView
from mpnp_ros.modalities.camera.images import ImageFile
from mpnp_ros.modalities.geometry import azimuth_of, check_rotation

STEEPEST = 2.0
VERTICAL, SLANTED, LEVEL = 0.87, 0.71, 0.2  # sines of 60, 45 and 12 degrees


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
    """Return how far each line of sight rises a metre ahead, float32 [rows, columns] within [-2, 2].

    rows: horizontal bands between config.top and config.bottom, from the top; errors as above.
    """
    intrinsics = view_intrinsics(view, size, config)
    down = config.top + (np.arange(rows) + 0.5) / rows * (config.bottom - config.top)
    pixels = np.stack([*np.meshgrid((np.arange(columns) + 0.5) * size[0] / columns - 0.5,
                                    down * size[1] - 0.5), np.ones((rows, columns))])
    x, y, z = view_rotation(view, config) @ _rays(view, pixels.reshape(3, -1), intrinsics)
    slopes = z / np.hypot(x, y).clip(1e-6)
    return slopes.reshape(rows, columns).clip(-STEEPEST, STEEPEST).astype(np.float32)


def axis_azimuth(view: CameraView, size: tuple[int, int], config: CameraConfig) -> np.ndarray:
    """Return the azimuth of the optical axis, float32 [1]; errors as :func:`column_azimuths`."""
    intrinsics = view_intrinsics(view, size, config)
    return _azimuths(view, intrinsics[0, 2:], intrinsics, config)


def view_intrinsics(view: CameraView, size: tuple[int, int], config: CameraConfig) -> np.ndarray:
    """Return the view's [3, 3] pinhole matrix, or where it has none that of ``config.nominal_fov``."""
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
        raise ImageError(f'view {view.name!r}: nothing tells which way it looks; publish its transform, '
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
    return rotation @ facing(0.), (f'frame {frame!r} is not an optical frame: {degrees}; taking its x axis '
                                   f'as where the camera looks; put {_optical(frame)!r} into the header of '
                                   'its images and publish its transform')


def _optical(frame: str) -> str:
    return f'{frame.removesuffix("_link").removesuffix("_frame")}_optical_frame'


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
    """Directions of homogeneous pixels [3, N] in the optical frame, [3, N] of any length."""
    rays = np.linalg.solve(intrinsics, pixels)
    if view.distortion is None or view.intrinsics is None:
        return rays
    return undistort(view.distortion, (rays[:2] / rays[2]).T)[0].T
