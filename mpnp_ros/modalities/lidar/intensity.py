"""Scale of LiDAR intensities, which differs between drivers.

nuScenes, Velodyne, Hesai, Livox and the reflectivity of Ouster use 0 to 255; KITTI, Gazebo and CARLA 0 to 1;
signal strengths are unlimited photon counts.
"""
from __future__ import annotations

import numpy as np

ENOUGH = 100
"""Minimum number of points for a decision."""
MOST = 0.99
"""Share of the points that must fit a scale; retroreflectors exceed it."""
FAINT = 0.02
"""Share of the full scale that some return of a sweep exceeds."""


def are_shares(values: np.ndarray) -> bool:
    """Whether intensities [N], all finite and of :data:`ENOUGH` points, are shares of the full scale, 0 to 1.

    Integers are not taken for shares: a weak sensor on a scale of 255 gives 0 and 1 too.
    """
    lit = values[values > 0]
    fractions = np.mean((lit < 1) & (lit % 1 != 0)) if len(lit) else 0.
    return bool(fractions > 0.5 and values.min() >= 0 and np.mean(values <= 1) >= MOST)


class IntensityScale:
    """Brings the sweeps of one sensor to the full scale that its encoder reads.

    full: what a perfect reflector has at the encoder.  given: what it has in the sweeps; 0: it is found, 1 of
    shares and ``full`` of anything else, and sweeps too small to tell have that of the one before.
    """

    def __init__(self, full: float, given: float = 0.) -> None:
        self.full, self.given = full, given
        self._shares = False

    def fit(self, intensity: np.ndarray | None) -> tuple[np.ndarray | None, str]:
        """Return intensities [N] on the encoder's scale, and what does not fit it in words, or ''."""
        if intensity is None:
            return None, ''
        known = intensity[np.isfinite(intensity)]
        enough = len(known) >= ENOUGH
        if enough:
            self._shares = are_shares(known)
        scale = self.given or (1. if self._shares else self.full)
        scaled = intensity if scale == self.full else intensity * np.float32(self.full / scale)
        return scaled, _misfit(known, scale) if enough else ''


def _misfit(known: np.ndarray, scale: float) -> str:
    above, highest = np.mean(known > scale), float(known.max())
    remedy = ('set full_intensity to what a perfect reflector gives, or let the driver publish a calibrated '
              'field, reflectivity')
    if above > 1 - MOST:
        return f'{above:.0%} of the intensities are above {scale:g}, up to {highest:g}; {remedy}'
    if 0 < highest < FAINT * scale:
        return f'intensities reach {highest:g} of {scale:g} only; {remedy}'
    return ''
