"""Radar scans as one polar bird's-eye grid around the vehicle: the input of a radar head."""
from __future__ import annotations

import numpy as np

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.geometry import in_base_frame, polar_cells
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.frames import RadarFrame, RadarScan
from mpnp_ros.modalities.radar.returns import usable_returns

GRID_VERSION = 1  # goes up whenever `polar_grid` gives other values for the same scans
FEATURES = 6
FULL_COUNT = 10.0
FAINTEST, BRIGHTEST = -20.0, 30.0  # dBsm that the cross sections span
FASTEST = 20.0  # metres/second
MOVING = (0, 2, 6)  # codes of dyn_prop: moving, oncoming, crossing


def polar_grid(frame: RadarFrame, config: RadarConfig, azimuths: int, ranges: int) -> np.ndarray:
    """Return what lies in each cell of the base frame, float32 [FEATURES, azimuths, ranges], 0 where empty.

    Log of the number of returns; highest and mean cross section; greatest speed over ground towards the radar
    and away from it; share of returns that are called moving; about 0..1.  Cells as of
    :func:`~mpnp_ros.modalities.geometry.polar_cells`.  Radars that see nothing give zeros.
    Raises PointCloudError where there is no radar, or its arrays do not fit together.
    """
    if not frame.scans:
        raise PointCloudError('the frame has no scan of any radar')
    scans = [usable_returns(scan, config.min_range) for scan in frame.scans]
    cell = np.concatenate([polar_cells(in_base_frame(scan, scan.points), azimuths, ranges) for scan in scans])
    section, speed, moving = (np.concatenate(values) for values in zip(*map(_measured, scans), strict=True))
    kept = cell >= 0
    fields = _statistics(cell[kept], section[kept], speed[kept], moving[kept], azimuths * ranges)
    return fields.reshape(-1, azimuths, ranges)


def radial_speed(points: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Return how fast each point [N, 3] goes away from the radar, metres/second [N]; velocity: [N, 2]."""
    across = points[:, :2] / np.hypot(points[:, 0], points[:, 1]).clip(1e-6)[:, None]
    return np.einsum('nk,nk->n', across, velocity)


def _measured(scan: RadarScan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cross section 0..1, speed -1..1 and 1 where it moves, of each return."""
    section = (scan.rcs - FAINTEST) / (BRIGHTEST - FAINTEST)
    speed = radial_speed(scan.points, scan.compensated) / FASTEST
    return section.clip(0, 1), speed.clip(-1, 1), np.isin(scan.dyn_prop, MOVING).astype(np.float64)


def _statistics(cell: np.ndarray, section: np.ndarray, speed: np.ndarray, moving: np.ndarray,
                cells: int) -> np.ndarray:
    """Fields [FEATURES, cells] of returns that lie in ``cell`` [N]."""
    fields = np.zeros((FEATURES, cells), np.float32)
    count = np.bincount(cell, minlength=cells)
    fields[0] = np.log1p(count) / np.log1p(FULL_COUNT)
    np.maximum.at(fields[1], cell, section)
    fields[2] = np.bincount(cell, section, cells) / count.clip(1)
    np.maximum.at(fields[3], cell, -speed)
    np.maximum.at(fields[4], cell, speed)
    fields[5] = np.bincount(cell, moving, cells) / count.clip(1)
    return fields
