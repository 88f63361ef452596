"""Frames of radars, from points with the fields of nuScenes, and the polar grid that the encoder reads."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.geometry import in_base_frame, polar_cells
from mpnp_ros.modalities.radar.config import RadarConfig

FIELDS = ('x', 'y', 'z', 'dyn_prop', 'rcs', 'vx', 'vy', 'vx_comp', 'vy_comp')
"""Required fields of a radar."""
SOUND = {'invalid_state': 0, 'ambig_state': 3}
"""Optional fields of a radar, and the value of a valid point."""

GRID_VERSION = 1  # goes up whenever `polar_grid` gives other values for the same scans
FEATURES = 6
FULL_COUNT = 10.0
FAINTEST, BRIGHTEST = -20.0, 30.0  # dBsm that the cross sections span
FASTEST = 20.0  # metres/second
MOVING = (0, 2, 6)  # codes of dyn_prop: moving, oncoming, crossing


@dataclass(frozen=True, eq=False)
class RadarScan:
    """What one radar measured at one moment; N may be 0.

    points: [N, 3] x y z metres, sensor frame.
    velocity: [N, 2] metres/second along x and y of the sensor, relative to the radar.
    compensated: [N, 2] the same over ground, without the radar's own motion; only the part along the line of
        sight is measured.
    rcs: [N] radar cross section, dBsm.
    dyn_prop: [N] state of motion according to the radar: codes of nuScenes, 0 moving .. 7 stopped.
    rotation, translation: [3, 3] and [3] metres, sensor to base frame; None means that they coincide, and
        that the height of the radar is not known.
    name: of the sensor; stamp_ns: sensor time.
    """

    points: np.ndarray
    velocity: np.ndarray
    compensated: np.ndarray
    rcs: np.ndarray
    dyn_prop: np.ndarray
    rotation: np.ndarray | None = None
    translation: np.ndarray | None = None
    stamp_ns: int = 0
    name: str = 'radar'


@dataclass(frozen=True, eq=False)
class RadarFrame:
    """Scans that belong together, of any number of radars; ``frame_id`` names their base frame."""

    scans: tuple[RadarScan, ...]
    frame_id: str = 'base_link'


def radar_scan(records: np.ndarray, name: str, stamp_ns: int = 0, rotation: np.ndarray | None = None,
               translation: np.ndarray | None = None) -> RadarScan:
    """Return the points that the radar reports as valid.

    records: structured [N] with :data:`FIELDS` and optionally those of :data:`SOUND`; the rest as in
    RadarScan.
    """
    for field in SOUND.keys() & set(records.dtype.names or ()):
        records = records[records[field] == SOUND[field]]
    return RadarScan(_columns(records, 'x', 'y', 'z'), _columns(records, 'vx', 'vy'),
                     _columns(records, 'vx_comp', 'vy_comp'), _columns(records, 'rcs')[:, 0],
                     _columns(records, 'dyn_prop')[:, 0], rotation, translation, stamp_ns, name)


def usable_returns(scan: RadarScan, min_range: float) -> RadarScan:
    """Drop returns that are not finite or nearer than ``min_range`` metres; none may be left.

    Raises PointCloudError where the arrays do not fit together.
    """
    count = len(scan.points)
    shapes = {'points': (count, 3), 'velocity': (count, 2), 'compensated': (count, 2), 'rcs': (count,),
              'dyn_prop': (count,)}
    for field, shape in shapes.items():
        if getattr(scan, field).shape != shape:
            raise PointCloudError(f'{scan.name}: {field} has shape {list(getattr(scan, field).shape)}; '
                                  f'expected {list(shape)}')
    distance = np.linalg.norm(scan.points, axis=1)
    numbers = np.column_stack([distance, scan.velocity, scan.compensated, scan.rcs])
    kept = np.isfinite(numbers).all(1) & (distance >= max(min_range, np.finfo(np.float32).tiny))
    return replace(scan, **{field: getattr(scan, field)[kept] for field in shapes})


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
    section = np.concatenate([(scan.rcs - FAINTEST) / (BRIGHTEST - FAINTEST) for scan in scans]).clip(0, 1)
    speed = np.concatenate([radial_speed(scan.points, scan.compensated) / FASTEST for scan in scans])
    moving = np.concatenate([np.isin(scan.dyn_prop, MOVING).astype(np.float64) for scan in scans])
    kept, cells = cell >= 0, azimuths * ranges
    cell, section, speed, moving = cell[kept], section[kept], speed[kept].clip(-1, 1), moving[kept]
    fields = np.zeros((FEATURES, cells), np.float32)
    count = np.bincount(cell, minlength=cells)
    fields[0] = np.log1p(count) / np.log1p(FULL_COUNT)
    np.maximum.at(fields[1], cell, section)
    fields[2] = np.bincount(cell, section, cells) / count.clip(1)
    np.maximum.at(fields[3], cell, -speed)
    np.maximum.at(fields[4], cell, speed)
    fields[5] = np.bincount(cell, moving, cells) / count.clip(1)
    return fields.reshape(-1, azimuths, ranges)


def radial_speed(points: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Return how fast each point [N, 3] goes away from the radar, metres/second [N]; velocity: [N, 2]."""
    across = points[:, :2] / np.hypot(points[:, 0], points[:, 1]).clip(1e-6)[:, None]
    return np.einsum('nk,nk->n', across, velocity)


def _columns(records: np.ndarray, *names: str) -> np.ndarray:
    """Return fields as float32 [N, len(names)]; a number beyond float32 becomes infinite."""
    with np.errstate(over='ignore', invalid='ignore'):
        return np.stack([records[name].astype(np.float32) for name in names], axis=1)
