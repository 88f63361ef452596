"""Frames of radars."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
