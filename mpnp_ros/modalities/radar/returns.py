"""Radar points with the fields of nuScenes, from a file or a message, as a scan."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.radar.frames import RadarScan

FIELDS = ('x', 'y', 'z', 'dyn_prop', 'rcs', 'vx', 'vy', 'vx_comp', 'vy_comp')
"""Required fields of a radar."""
SOUND = {'invalid_state': 0, 'ambig_state': 3}
"""Optional fields of a radar, and the value of a valid point."""


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
