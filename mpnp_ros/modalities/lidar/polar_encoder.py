"""The LiDAR encoder with a head: expected object counts by direction."""
from __future__ import annotations

import numpy as np
import torch

from mpnp_ros.modalities.geometry import sector_azimuths
from mpnp_ros.modalities.heads import Head, load_head
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.encoder import sector_tokens
from mpnp_ros.modalities.lidar.frames import LidarFrame
from mpnp_ros.modalities.lidar.polar import GRID_VERSION, polar_grid
from mpnp_ros.tokens import ModalityTokens


class PolarEncoder:
    """Encode a :class:`LidarFrame`; see :class:`mpnp_ros.modalities.base.Encoder`.

    One token a sector of the base frame: the expected number of objects of each of :attr:`channels`.
    """

    modality = 'lidar'

    def __init__(self, config: LidarConfig, head: Head | None = None) -> None:
        self.head = head or load_head(config.head, self.modality)
        self.config = self.head.configure(config)
        self.channels, self.limits = self.head.manifest.channels, self.head.limits
        self.token_width = len(self.channels)
        self.fingerprint = self.config.fingerprint(self.modality, self.head.manifest.sha256, GRID_VERSION)

    def encode(self, frame: LidarFrame) -> ModalityTokens:
        """Return one token a sector; raises PointCloudError where no point can be used."""
        network = self.head.network
        grid = polar_grid(frame, self.config, network.azimuths, network.ranges)
        return sector_tokens(frame, self.fingerprint, self._values(torch.from_numpy(grid)), sector_azimuths(),
                             **self.limits)

    @torch.inference_mode()
    def _values(self, grid: torch.Tensor) -> np.ndarray:
        """grid: [features, azimuths, ranges] -> float32 [SECTORS, token_width]."""
        return self.head.network(grid[None])[0].exp().numpy()
