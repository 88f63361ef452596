"""Frames of radars, from points with the fields of nuScenes, of a file or a message."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mpnp_ros.errors import PointCloudError

FIELDS = ('x', 'y', 'z', 'dyn_prop', 'rcs', 'vx', 'vy', 'vx_comp', 'vy_comp')
"""Required fields of a radar."""
SOUND = {'invalid_state': 0, 'ambig_state': 3}
"""Optional fields of a radar, and the value of a valid point."""


@dataclass(frozen=True, eq=False)
class RadarScan:
    """What one radar measured at one moment; N may be 0.

    points: [N, 3] x y z metres, sensor frame.
    velocity, compensated: [N, 2] metres/second along x and y of the sensor, relative to the radar, and over
        ground, that is without the radar's own motion; only the part along the line of sight is measured.
    rcs: [N] radar cross section, dBsm.
    dyn_prop: [N] how the radar calls the motion: codes of nuScenes, 0 moving .. 7 stopped.
    rotation, translation: [3, 3] and [3] metres, sensor to base frame; None means that they coincide.
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
    for field in SOUND.keys() & set(records.dtype.names):
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


def _columns(records: np.ndarray, *names: str) -> np.ndarray:
    """Fields as float32 [N, len(names)]; a number beyond float32 becomes infinite."""
    with np.errstate(over='ignore', invalid='ignore'):
        return np.stack([records[name].astype(np.float32) for name in names], axis=1)
