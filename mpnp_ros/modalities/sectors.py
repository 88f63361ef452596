"""Azimuth sectors of the base frame: counter-clockwise, the first one begins straight behind."""
from __future__ import annotations

import numpy as np

from mpnp_ros.modalities.directions import wrap_azimuth
from mpnp_ros.tokens import SECTORS


def sector_azimuths(sectors: int = SECTORS) -> np.ndarray:
    """Return the azimuth of each sector's centre, float32 [sectors] radians, rising."""
    return wrap_azimuth((np.arange(sectors) + 0.5) * 2 * np.pi / sectors - np.pi)


def sector_of(azimuth: np.ndarray, sectors: int = SECTORS) -> np.ndarray:
    """Return the sector that each azimuth (radians, any turn) lies in, int64."""
    turns = np.asarray(azimuth, np.float64) / (2 * np.pi) + 0.5
    return np.floor((turns - np.floor(turns)) * sectors).astype(np.int64).clip(0, sectors - 1)
