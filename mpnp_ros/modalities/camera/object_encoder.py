"""The camera encoder with a head: expected object counts by direction."""
from __future__ import annotations

import numpy as np
import torch

from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.frames import CameraFrame
from mpnp_ros.modalities.camera.ring import RING_VERSION, CameraRing, camera_ring
from mpnp_ros.modalities.geometry import SECTORS, sector_azimuths
from mpnp_ros.modalities.heads import Head, load_head, ring_shares
from mpnp_ros.modalities.vision_weights import Backbone, load_backbone
from mpnp_ros.tokens import NO_SOURCE, ModalityTokens


class CameraObjectEncoder:
    """Encode a :class:`CameraFrame`; see :class:`mpnp_ros.modalities.base.Encoder`.

    One token a sector of the base frame: the expected number of objects of each of :attr:`channels`;
    about none where no camera looks.
    """

    modality = 'camera'

    def __init__(self, config: CameraConfig, backbone: Backbone | None = None,
                 head: Head | None = None) -> None:
        self.backbone = backbone or load_backbone(config.backbone, config.device, config.dtype)
        self.head = head or load_head(config.head, self.modality, self.backbone.sha256)
        self.config = self.head.configure(config)
        self.backbone.network.check(self.config.height, self.config.width, self.config.blocks)
        self.channels, self.limits = self.head.manifest.channels, self.head.limits
        self.token_width = len(self.channels)
        weights = f'{self.backbone.sha256} {self.head.manifest.sha256}'
        self.fingerprint = self.config.fingerprint(self.modality, weights, RING_VERSION)

    def encode(self, frame: CameraFrame) -> ModalityTokens:
        """Return one token a sector; raises ImageError naming the view at fault."""
        network = self.head.network
        ring = camera_ring(frame, self.config, self.backbone, network.rows, network.columns)
        stamps = tuple(view.stamp_ns for view in frame.views)
        return ModalityTokens(
            modality=self.modality, encoder=self.fingerprint, values=self._values(ring),
            azimuth=sector_azimuths(), sources=tuple(view.name for view in frame.views),
            source_index=principal_views(ring), source_stamps_ns=stamps, stamp_ns=min(stamps),
            frame_id=frame.frame_id, **self.limits)

    @torch.inference_mode()
    def _values(self, ring: CameraRing) -> np.ndarray:
        """float32 [SECTORS, token_width]."""
        return self.head.network(*(part[None] for part in ring))[0].exp().numpy()


def principal_views(ring: CameraRing) -> np.ndarray:
    """Return the view that sees most of each sector, uint16 [SECTORS]; NO_SOURCE where none sees it."""
    most, view = ring_shares(ring.edges, SECTORS).sum(1).max(0)
    return torch.where(most > 0, view, NO_SOURCE).numpy().astype(np.uint16)
