"""Conversion of a sweep of any number of points to a range view.

Projection as in RangeViT (arXiv:2301.10222) and nuScenes-QA-mini: columns run clockwise from behind, rows
from the highest beam down, and each pixel keeps the nearest point.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.geometry import heading_of, in_base_frame, levelled, sensor_rotation, wrap_azimuth
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.frames import LidarFrame

FARTHEST, LOWEST, HIGHEST = 80.0, -1.0, 5.0  # metres that the fields of the range view span


@dataclass(frozen=True, eq=False)
class Cloud:
    """The usable points of a sweep: float32 [N, 3] and [N]; distance in metres from the sensor."""

    points: np.ndarray
    intensity: np.ndarray
    distance: np.ndarray


def usable_points(frame: LidarFrame, min_range: float) -> Cloud:
    """Drop points that are not finite or nearer than ``min_range`` metres, and clear odd intensities.

    Raises PointCloudError where the arrays do not fit together or no point is left.
    """
    points = np.asarray(frame.points)
    if points.ndim != 2 or points.shape[1] < 3:
        raise PointCloudError(f'{frame.name}: points have shape {list(points.shape)}; expected [N, >= 3]')
    intensity = np.zeros(len(points)) if frame.intensity is None else np.asarray(frame.intensity)
    if intensity.shape != (len(points),):
        raise PointCloudError(f'{frame.name}: {len(points)} points but intensity of shape '
                              f'{list(intensity.shape)}')
    with np.errstate(over='ignore', invalid='ignore'):
        points = points[:, :3].astype(np.float32)
        distance = np.sqrt(np.square(points).sum(axis=1))
        keep = np.isfinite(distance) & (distance >= max(min_range, np.finfo(np.float32).tiny))
    if not keep.any():
        raise PointCloudError(f'{frame.name}: none of {len(points)} points is finite and farther than '
                              f'min_range = {min_range} m; check the sensor')
    intensity = np.nan_to_num(intensity[keep].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return Cloud(points[keep], intensity, distance[keep])


def range_view(frame: LidarFrame, config: LidarConfig) -> np.ndarray:
    """Return log range, intensity and height above the base frame, 0..1 and 0 where nothing is.

    float32 [3, config.rows, config.columns].  Columns are azimuths in the base frame, seen from its origin
    and counted from the sensor's heading, so that a sensor turned on the robot gives the same view; rows
    are elevations from the sensor over the base frame's level.  Of a sensor that is about level, see
    :func:`~mpnp_ros.modalities.geometry.levelled`, a beam stays a row.
    """
    cloud = usable_points(frame, config.min_range)
    base = in_base_frame(frame, cloud.points)
    azimuth = wrap_azimuth(np.arctan2(base[:, 1], base[:, 0]) - sensor_heading(frame))
    seen = levelled(frame, cloud.points)
    pixels = project(azimuth, elevation(seen, cloud.distance), config.rows, config.columns, config.fov_up,
                     config.fov_down)
    fields = np.stack([np.log1p(cloud.distance) / np.log1p(FARTHEST),
                       cloud.intensity / config.max_intensity,
                       (base[:, 2] - LOWEST) / (HIGHEST - LOWEST)])
    return paint(pixels, cloud.distance, fields.clip(0, 1), config.rows, config.columns)[0]


def sensor_heading(frame: LidarFrame) -> float:
    """Return the azimuth of the sensor's x axis in the base frame, radians; 0 without a rotation."""
    return heading_of(sensor_rotation(frame))


def elevation(points: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the elevation of each of the points [N, 3] that are ``distance`` [N] away, radians [N]."""
    return np.arcsin((points[:, 2] / distance).clip(-1, 1))


def project(azimuth: np.ndarray, elevation: np.ndarray, rows: int, columns: int, fov_up: float,
            fov_down: float) -> np.ndarray:
    """Return the pixel of each direction as row * columns + column, int64 [N].

    azimuth, elevation: radians [N]; fov_up, fov_down: degrees.  Directions beyond them fall on the
    outermost row.
    """
    across = 0.5 * (1 - azimuth / np.pi) * columns
    down = (fov_up - np.degrees(elevation)) / (fov_up - fov_down) * rows
    column, row = (np.floor(value).astype(np.int64) for value in (across, down))
    return row.clip(0, rows - 1) * columns + column.clip(0, columns - 1)


def paint(pixels: np.ndarray, distance: np.ndarray, fields: np.ndarray, rows: int,
          columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the fields [F, N] of the nearest point at each pixel, and where there is one.

    Result: float32 [F, rows, columns], 0 where empty, and bool [rows, columns].
    """
    order = np.argsort(-distance, kind='stable')
    nearest = np.full(rows * columns, -1)
    nearest[pixels[order]] = order  # the last write to a pixel stays, and the nearest point comes last
    filled = nearest >= 0
    picture = np.where(filled, fields[:, nearest], 0).astype(np.float32)
    return picture.reshape(-1, rows, columns), filled.reshape(rows, columns)


def view_azimuths(sectors: int) -> np.ndarray:
    """Return where each sector's centre is from the sensor's heading, in the order of columns, radians."""
    return np.pi * (1 - (2 * np.arange(sectors) + 1) / sectors)
