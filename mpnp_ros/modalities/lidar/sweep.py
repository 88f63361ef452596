"""LiDAR sweeps: frames, usable points, the scale of intensities, range views and polar grids.

A range view has columns that run clockwise from behind and rows from the highest beam down; each pixel keeps
the nearest point, as in RangeViT (arXiv:2301.10222) and nuScenes-QA-mini.  A polar grid is seen from above.

The scale of intensities differs between drivers: nuScenes, Velodyne, Hesai, Livox and the reflectivity of
Ouster use 0 to 255; KITTI, Gazebo and CARLA 0 to 1; signal strengths are unlimited photon counts.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.geometry import (
    heading_of,
    in_base_frame,
    levelled,
    polar_cells,
    sensor_rotation,
    wrap_azimuth,
)
from mpnp_ros.modalities.lidar.config import LidarConfig

ENOUGH = 100
"""Minimum number of points for a decision on the scale of intensities."""
MOST = 0.99
"""Share of the points that must fit a scale; retroreflectors exceed it."""
FAINT = 0.02
"""Share of the full scale that some return of a sweep exceeds."""

VIEW_RANGE, VIEW_HEIGHTS = 80.0, (-1.0, 5.0)  # metres that the fields of the range view span

GRID_VERSION = 1  # goes up whenever `polar_grid` gives other values for the same sweep
GRID_HEIGHTS = 0.2, 4.5  # metres above the base frame: no road, no trees above it
FEATURES = 6
FULL_COUNT = 50.0


@dataclass(frozen=True, eq=False)
class LidarFrame:
    """One sweep.

    points: [N, >=3] floating point x y z in metres, sensor frame; NaN and Inf mark lost returns.
    intensity: [N], or None where the sensor has none.
    rotation, translation: [3, 3] and [3] metres, sensor to base frame; None means that they coincide.
    name: of the sensor; stamp_ns: sensor time; ``frame_id`` names the base frame.
    earlier: a sweep of about half a second before; its rotation and translation contain the motion of the
        robot, so that they lead to the base frame of this moment.  None: there is none.
    """

    points: np.ndarray
    intensity: np.ndarray | None = None
    rotation: np.ndarray | None = None
    translation: np.ndarray | None = None
    stamp_ns: int = 0
    name: str = 'lidar'
    frame_id: str = 'base_link'
    earlier: LidarFrame | None = None


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


def are_shares(values: np.ndarray) -> bool:
    """Return whether intensities [N], finite and :data:`ENOUGH`, are shares of the full scale, 0 to 1.

    Integers are not taken for shares: a weak sensor on a scale of 255 gives 0 and 1 too.
    """
    lit = values[values > 0]
    fractions = np.mean((lit < 1) & (lit % 1 != 0)) if len(lit) else 0.
    return bool(fractions > 0.5 and values.min() >= 0 and np.mean(values <= 1) >= MOST)


class IntensityScale:
    """Brings the sweeps of one sensor to the full scale that its encoder reads.

    full: intensity of a perfect reflector at the encoder.  given: the same in the sweeps; 0: it is found, 1
    for shares and ``full`` for anything else.  Sweeps too small to tell keep the scale of the one before.
    """

    def __init__(self, full: float, given: float = 0.) -> None:
        self.full, self.given = full, given
        self._shares = False

    def fit(self, intensity: np.ndarray | None) -> tuple[np.ndarray | None, str]:
        """Return intensities [N] on the encoder's scale, and a misfit in words, or ''."""
        if intensity is None:
            return None, ''
        known = intensity[np.isfinite(intensity)]
        enough = len(known) >= ENOUGH
        if enough:
            self._shares = are_shares(known)
        scale = self.given or (1. if self._shares else self.full)
        scaled = intensity if scale == self.full else intensity * np.float32(self.full / scale)
        if not enough:
            return scaled, ''
        above, highest = np.mean(known > scale), float(known.max())
        remedy = ('set full_intensity to what a perfect reflector gives, or let the driver publish a '
                  'calibrated field, reflectivity')
        if above > 1 - MOST:
            return scaled, f'{above:.0%} of the intensities are above {scale:g}, up to {highest:g}; {remedy}'
        if 0 < highest < FAINT * scale:
            return scaled, f'intensities reach {highest:g} of {scale:g} only; {remedy}'
        return scaled, ''


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
    lowest, highest = VIEW_HEIGHTS
    pixels = project(azimuth, elevation(seen, cloud.distance), config.rows, config.columns, config.fov_up,
                     config.fov_down)
    fields = np.stack([np.log1p(cloud.distance) / np.log1p(VIEW_RANGE),
                       cloud.intensity / config.max_intensity,
                       (base[:, 2] - lowest) / (highest - lowest)])
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


def polar_grid(frame: LidarFrame, config: LidarConfig, azimuths: int, ranges: int) -> np.ndarray:
    """Return what lies in each cell of the base frame, float32 [FEATURES, azimuths, ranges], 0 where empty.

    Log of the number of points; highest, lowest and mean height; mean and highest intensity; about 0..1.
    Cells as of :func:`~mpnp_ros.modalities.geometry.polar_cells`.
    Raises PointCloudError where no point can be used.
    """
    cloud, (lowest, highest) = usable_points(frame, config.min_range), GRID_HEIGHTS
    points = in_base_frame(frame, cloud.points)
    cell, height = polar_cells(points, azimuths, ranges), points[:, 2]
    kept = (height > lowest) & (height < highest) & (cell >= 0)
    cell, height = cell[kept], height[kept] / highest
    intensity = (cloud.intensity[kept] / config.max_intensity).clip(0, 1)
    cells = azimuths * ranges
    fields = np.zeros((FEATURES, cells), np.float32)
    count = np.bincount(cell, minlength=cells)
    fields[0] = np.log1p(count) / np.log1p(FULL_COUNT)
    np.maximum.at(fields[1], cell, height)
    fields[2] = np.where(count > 0, 1, 0)
    np.minimum.at(fields[2], cell, height)
    fields[3] = np.bincount(cell, height, cells) / count.clip(1)
    fields[4] = np.bincount(cell, intensity, cells) / count.clip(1)
    np.maximum.at(fields[5], cell, intensity)
    return fields.reshape(-1, azimuths, ranges)
