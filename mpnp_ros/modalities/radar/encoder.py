"""The radar encoder: expected object counts by direction from a polar bird's-eye grid around the vehicle."""
from __future__ import annotations

import numpy as np
import torch

from mpnp_ros.modalities.geometry import heading_of, sensor_rotation, wrap_azimuth
from mpnp_ros.modalities.heads import Head, load_head
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.frames import GRID_VERSION, RadarFrame, polar_grid
from mpnp_ros.tokens import NO_SOURCE, ModalityTokens, sector_azimuths

WIDEST = np.radians(75.0)
"""Maximum angle to the side of its heading at which a radar measures."""


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
        shaping = RadarConfig(min_range=self.config.min_range)  # what is only of moving shapes no counts
        self.fingerprint = shaping.fingerprint(self.modality, self.head.manifest.sha256, GRID_VERSION)

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
