"""``sensor_msgs/CameraInfo`` -> pinhole matrix and distortion of the received images."""
from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CameraInfo

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.calibration import BROWN, EQUIDISTANT, MODELS, MOST, Distortion, undistort

SAME_SHAPE = 0.01  # by which width over height may differ in two sizes of the same picture
TRANSPORTS = ('compressed', 'theora', 'ffmpeg', 'zstd', 'draco')


@dataclass(frozen=True, eq=False)
class Calibration:
    """Viewing directions of the pixels of an image.

    matrix: [3, 3] in pixels of the image, None for an uncalibrated camera.  distortion: of the lens, None if
    the image has none.  concern: assumptions, in words; empty without any.
    """

    matrix: np.ndarray | None
    distortion: Distortion | None = None
    concern: str = ''


def calibration(message: CameraInfo, size: tuple[int, int] | None = None,
                rectified: bool = True) -> Calibration:
    """Return the calibration of images that are ``size`` (width, height) pixels large.

    rectified: the images are rectified, so P holds and not K and D (REP-104); the other matrix replaces an
    empty one.  The matrices are for the full resolution: region of interest, binning and any other reduction
    of the image are applied.  size: None where it is as the message says.
    Raises ImageError where a matrix is given that is not one of a camera.
    """
    name, matrix = _matrix(message, rectified)
    if matrix is None:
        return Calibration(None)
    lens, concerns = None, []
    if name == 'K' and not rectified:
        lens, concern = _lens(message)
        concerns.append(concern)
    elif name != ('P' if rectified else 'K') and _distorts(message):
        other = 'P' if rectified else 'K'
        concerns.append(f'{other} is empty, and {name} need not be the same, because the lens distorts; '
                        f'taking {name}; calibrate the camera again')
    concerns.append(_fit(matrix, message, size))
    if lens and size:
        ends = (np.array([-0.5, size[0] - 0.5]) - matrix[0, 2]) / matrix[0, 0]
        if not undistort(lens, np.column_stack([ends, np.zeros(2)]))[1].all():
            concerns.append('D holds for the middle of the image only, since the distortion that it gives '
                            'folds back before the sides; calibrate the camera with patterns there too')
    return Calibration(matrix, lens, '; '.join(filter(None, concerns)))


def intrinsics(message: CameraInfo, rectified: bool = True) -> np.ndarray | None:
    """Return the matrix of :func:`calibration` for images as described by the message."""
    return calibration(message, None, rectified).matrix


def is_rectified_topic(topic: str) -> bool:
    """Return whether an image topic has rectified images by its name, such as ``image_rect``."""
    names = [name for name in topic.lower().split('/') if name]
    while len(names) > 1 and names[-1].startswith(TRANSPORTS):
        names.pop()
    said = [re.findall(r'(?:^|_)(rect|undist|raw|unrect)', name) for name in reversed(names)]
    words = next(filter(None, said), [])
    return 'rect' in words or 'undist' in words


def _matrix(message: CameraInfo, rectified: bool) -> tuple[str, np.ndarray | None]:
    """Return the name and a copy of the valid matrix, with 1 in its corner."""
    matrices = {'P': np.array(message.p, np.float64).reshape(3, -1)[:, :3],
                'K': np.array(message.k, np.float64).reshape(3, -1)}
    given = [name for name in ('PK' if rectified else 'KP') if matrices[name].any()]
    for name in given:
        matrix = matrices[name]
        if np.isfinite(matrix).all() and min(matrix[0, 0], matrix[1, 1]) > 0 and matrix[2, 2]:
            return name, matrix / matrix[2, 2]
    if given:
        raise ImageError(f'camera_info of {message.header.frame_id!r}: {given[0]} is not a pinhole matrix '
                         'with positive focal lengths; calibrate the camera again')
    return '', None


def _distorts(message: CameraInfo) -> bool:
    """Return whether the lens distorts; an equidistant one always does."""
    return bool(np.any(message.d)) or MODELS.get(_model(message)) == EQUIDISTANT


def _model(message: CameraInfo) -> str:
    return message.distortion_model.strip().lower().replace(' ', '_')


def _lens(message: CameraInfo) -> tuple[Distortion | None, str]:
    """Return the distortion, and its problem."""
    model, coefficients = _model(message), tuple(map(float, message.d))
    family = MODELS.get(model)
    if not _distorts(message):
        return None, ''
    without = 'taking the directions of its pixels without distortion'
    if not np.isfinite(coefficients).all():
        return None, f'D holds numbers that are not finite; {without}'
    if family is None and model:
        return None, (f'distortion_model {message.distortion_model!r} is unknown; {without}; use plumb_bob, '
                      'rational_polynomial or equidistant, or rectified images')
    concern = '' if family else 'distortion_model is empty; taking it as plumb_bob'
    family = family or BROWN
    if len(np.trim_zeros(coefficients, 'b')) > MOST[family]:
        return None, f'D has {len(coefficients)} numbers, more than {model or BROWN} has; {without}'
    return Distortion(family, coefficients[:MOST[family]]), concern


def _fit(matrix: np.ndarray, message: CameraInfo, size: tuple[int, int] | None) -> str:
    """Change the matrix from the full resolution to an image of ``size``; return the assumption made."""
    region, full = message.roi, (message.width, message.height)
    corner = (region.x_offset, region.y_offset)
    binning = (max(1, message.binning_x), max(1, message.binning_y))
    part = (region.width or full[0] - corner[0], region.height or full[1] - corner[1])
    if size is None or not all(full):
        _cut(matrix, corner)
        _bin(matrix, binning)
        if size is None or all(0.25 < matrix[axis, 2] / size[axis] < 0.75 for axis in (0, 1)):
            return ''
        guess = tuple(max(1, round(2 * matrix[axis, 2] + 1)) for axis in (0, 1))
        _scale(matrix, (size[0] / guess[0], size[1] / guess[1]))
        return (f'camera_info does not say for which size of image it is; the image is {_words(size)}, and '
                f'its optical axis is in the middle of {_words(guess)}; taking it as for that size')
    if _near(size, (part[0] // binning[0], part[1] // binning[1])):
        _cut(matrix, corner)
        _bin(matrix, binning)
    elif _near(size, full):
        pass
    elif _near(size, (full[0] // binning[0], full[1] // binning[1])):
        _bin(matrix, binning)
    elif _alike(size, part):
        _cut(matrix, corner)
        _scale(matrix, (size[0] / part[0], size[1] / part[1]))
    elif _alike(size, full):
        _scale(matrix, (size[0] / full[0], size[1] / full[1]))
    else:  # most often another mode of the same sensor, which cuts off two sides
        scale = max(size[0] / full[0], size[1] / full[1])
        _scale(matrix, (scale, scale))
        _cut(matrix, tuple((full[axis] * scale - size[axis]) / 2 for axis in (0, 1)))
        return (f'the image is {_words(size)} and camera_info is for {_words(full)}, which is of another '
                'shape; taking the image as cut from the middle of that; calibrate the camera at the size of '
                'its images')
    return ''


def _near(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return all(its > 0 and abs(mine - its) <= 1 for mine, its in zip(size, other, strict=True))


def _alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two sizes can be of the same picture, up to a pixel of rounding or one per cent."""
    across, down = size[0] * other[1], size[1] * other[0]
    return min(other) > 0 and abs(across - down) <= max(SAME_SHAPE * max(across, down), *other)


def _cut(matrix: np.ndarray, corner: tuple[float, float]) -> None:
    matrix[:2, 2] -= corner


def _bin(matrix: np.ndarray, binning: tuple[int, int]) -> None:
    """Apply binning as image_geometry does."""
    matrix[0] /= binning[0]
    matrix[1] /= binning[1]


def _scale(matrix: np.ndarray, scale: tuple[float, float]) -> None:
    """Resize about the corner of the corner pixel, whose centre is at (0, 0)."""
    matrix[:2, 2] += 0.5
    matrix[:2] *= np.array(scale)[:, None]
    matrix[:2, 2] -= 0.5


def _words(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'
