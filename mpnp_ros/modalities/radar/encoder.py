"""The radar encoder: expected object counts by direction from a polar bird's-eye grid around the vehicle."""
from __future__ import annotations

import numpy as np
import torch

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.geometry import (
    heading_of,
    in_base_frame,
    polar_cells,
    sector_azimuths,
    sensor_rotation,
    wrap_azimuth,
)
from mpnp_ros.modalities.heads import Head, load_head
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.frames import RadarFrame, RadarScan, usable_returns
from mpnp_ros.tokens import NO_SOURCE, ModalityTokens

WIDEST = np.radians(75.0)
"""Maximum angle to the side of its heading at which a radar measures."""

GRID_VERSION = 1  # goes up whenever `polar_grid` gives other values for the same scans
FEATURES = 6
FULL_COUNT = 10.0
FAINTEST, BRIGHTEST = -20.0, 30.0  # dBsm that the cross sections span
FASTEST = 20.0  # metres/second
MOVING = (0, 2, 6)  # codes of dyn_prop: moving, oncoming, crossing


class RadarEncoder:
    """Encode a :class:`RadarFrame`; see :class:`mpnp_ros.modalities.registry.Encoder`.

    One token a sector of the base frame: the expected number of objects of each of :attr:`channels`.
    """

    modality = 'radar'

    def __init__(self, config: RadarConfig, head: Head | None = None) -> None:
        self.head = head or load_head(config.head, self.modality)
        self.config = self.head.configure(config)
        self.channels, self.limits = self.head.manifest.channels, self.head.limits
        self.token_width = len(self.channels)
        self.fingerprint = self.config.fingerprint(self.modality, self.head.manifest.sha256, GRID_VERSION)

    def encode(self, frame: RadarFrame) -> ModalityTokens:
        """Return one token a sector, also if nothing is seen; raises as polar_grid."""
        network = self.head.network
        grid = polar_grid(frame, self.config, network.azimuths, network.ranges)
        stamps = tuple(scan.stamp_ns for scan in frame.scans)
        return ModalityTokens(
            modality=self.modality, encoder=self.fingerprint, values=self._values(torch.from_numpy(grid)),
            azimuth=sector_azimuths(), sources=tuple(scan.name for scan in frame.scans),
            source_index=principal_radars(frame), source_stamps_ns=stamps, stamp_ns=min(stamps),
            frame_id=frame.frame_id, **self.limits)

    @torch.inference_mode()
    def _values(self, grid: torch.Tensor) -> np.ndarray:
        """grid: [features, azimuths, ranges] -> float32 [SECTORS, token_width]."""
        return self.head.network(grid[None])[0].exp().numpy()


def principal_radars(frame: RadarFrame) -> np.ndarray:
    """Return the radar that looks most nearly in the direction of each sector, uint16 [SECTORS].

    NO_SOURCE where none looks there.
    """
    headings = np.array([heading_of(sensor_rotation(scan)) for scan in frame.scans])
    apart = sector_azimuths()[:, None] - headings
    apart = np.abs(wrap_azimuth(apart.ravel()).reshape(apart.shape))
    return np.where(apart.min(1) < WIDEST, apart.argmin(1), NO_SOURCE).astype(np.uint16)


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
