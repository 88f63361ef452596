"""The LiDAR encoders: a range view through a vision transformer, and a polar grid through a head.

The range view passes in four pictures through a transformer trained on photographs, as no pre-trained LiDAR
encoder was available.  Its features serve range views too: scans agree with each other at .89 to .97,
shuffled ones at .09 to .23.  The head reads a polar bird's-eye grid around the vehicle and gives expected
object counts by direction.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.geometry import in_base_frame, wrap_azimuth
from mpnp_ros.modalities.heads import Head, load_head
from mpnp_ros.modalities.lidar.config import PICTURES, LidarConfig
from mpnp_ros.modalities.lidar.sweep import (
    GRID_VERSION,
    LidarFrame,
    polar_grid,
    range_view,
    sensor_heading,
    view_azimuths,
)
from mpnp_ros.modalities.vision import merge_taps, pool_columns
from mpnp_ros.modalities.vision_weights import Backbone, load_backbone
from mpnp_ros.tokens import NO_SOURCE, SECTORS, ModalityTokens, sector_azimuths, sector_of

VERSION = 1  # goes up whenever `LidarEncoder` gives other tokens for the same sweep
BLIND = 6  # adjacent sectors of 5 degrees without a single point that count as not looked at


class LidarEncoder:
    """Encode a :class:`LidarFrame`; see :class:`mpnp_ros.modalities.registry.Encoder`.

    One token per sector, clockwise from the sensor's back.  Turning the sensor about the vertical changes the
    azimuths only; the sweep of a leaning sensor is encoded as a level one would see it.
    """

    modality = 'lidar'

    def __init__(self, config: LidarConfig, backbone: Backbone | None = None) -> None:
        self.config = config
        self.backbone = backbone or load_backbone(config.backbone, config.device, config.dtype)
        network = self.backbone.network
        network.check(config.height, config.width, config.blocks)
        patches = PICTURES * (config.width // network.shape.patch[1])
        if config.sectors > patches:
            raise ConfigurationError(f'sectors is {config.sectors}, but {PICTURES} pictures {config.width} '
                                     f'pixels wide have {patches} columns of patches; use fewer')
        self.token_width = 2 * network.shape.width
        self.fingerprint = config.fingerprint(self.modality, self.backbone.sha256, VERSION)

    def encode(self, frame: LidarFrame) -> ModalityTokens:
        """Return one token per sector; raises PointCloudError where no point can be used."""
        values = self._values(torch.from_numpy(range_view(frame, self.config)))
        azimuth = wrap_azimuth(view_azimuths(self.config.sectors) + sensor_heading(frame))
        return sector_tokens(frame, self.fingerprint, values, azimuth)

    @torch.inference_mode()
    def _values(self, view: Tensor) -> np.ndarray:
        """view: float32 [3, rows, columns] -> float32 [sectors, token_width]."""
        pictures = torch.stack(view.chunk(PICTURES, dim=2))
        pictures = functional.interpolate(pictures, size=(self.config.height, self.config.width))
        features = self.backbone.network(self.backbone.scaled(pictures), self.config.blocks)
        tokens = pool_columns(merge_taps(features.patches), self.config.sectors // PICTURES)
        return tokens.flatten(0, 1).cpu().numpy()


def sector_tokens(frame: LidarFrame, fingerprint: str, values: np.ndarray,
                  azimuth: np.ndarray, **limits: Any) -> ModalityTokens:
    """Return tokens ``values`` [sectors, D] of one sweep with their directions [sectors].

    Their source index is NO_SOURCE where the sensor does not look: in wide gaps of the sweep.  limits: of a
    head, see Head.limits.
    """
    looked = sectors_looked_at(frame)
    return ModalityTokens(
        modality='lidar', encoder=fingerprint, values=values, azimuth=azimuth, sources=(frame.name,),
        source_index=np.where(looked[sector_of(azimuth)], 0, NO_SOURCE).astype(np.uint16),
        source_stamps_ns=(frame.stamp_ns,), stamp_ns=frame.stamp_ns, frame_id=frame.frame_id,
        **limits)


def sectors_looked_at(frame: LidarFrame) -> np.ndarray:
    """Return in which sectors of the base frame the sensor looks: not in wide gaps of the sweep.

    The result is bool [SECTORS].
    """
    points = np.asarray(frame.points)[:, :3]
    x, y, _ = in_base_frame(frame, points[np.isfinite(points).all(1)]).T
    empty = np.bincount(sector_of(np.arctan2(y, x)), minlength=SECTORS) == 0
    gap = np.logical_and.reduce([np.roll(empty, -step) for step in range(BLIND)])
    return ~np.logical_or.reduce([np.roll(gap, step) for step in range(BLIND)])


class PolarEncoder:
    """Encode a :class:`LidarFrame`; see :class:`mpnp_ros.modalities.registry.Encoder`.

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
