"""The camera encoders: all views of a frame through one frozen vision transformer at once.

Without a head the tokens are columns of images, with one they are expected object counts by direction.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpnp_ros.errors import ConfigurationError, ImageError
from mpnp_ros.modalities.camera.calibration import axis_azimuth, column_azimuths, column_edges, ray_slopes
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView, load_view
from mpnp_ros.modalities.heads import Head, load_head, ring_shares
from mpnp_ros.modalities.vision import Features, merge_taps, pool_columns
from mpnp_ros.modalities.vision_weights import Backbone, load_backbone
from mpnp_ros.tokens import NO_SOURCE, SECTORS, ModalityTokens, sector_azimuths

VERSION = 1  # goes up whenever `CameraEncoder` gives other tokens for the same image
RING_VERSION = 1  # goes up whenever `camera_ring` gives other values for the same images


class CameraEncoder:
    """Encode a :class:`CameraFrame`; see :class:`mpnp_ros.modalities.registry.Encoder`.

    The tokens of a view follow each other: its columns from left to right, then its CLS token where
    there is one; or its CLS tokens in the order of ``config.blocks``.
    """

    modality = 'camera'

    def __init__(self, config: CameraConfig, backbone: Backbone | None = None) -> None:
        self.config = config
        self.backbone = backbone or load_backbone(config.backbone, config.device, config.dtype)
        network = self.backbone.network
        network.check(config.height, config.width, config.blocks)
        patches = config.width // network.shape.patch[1]
        if config.columns > patches:
            raise ConfigurationError(f'columns is {config.columns}, but an image {config.width} pixels wide '
                                     f'has {patches} columns of patches; use fewer')
        self.token_width = network.shape.width * (1 if config.tokens == 'cls' else 2)
        self.fingerprint = config.fingerprint(self.modality, self.backbone.sha256, VERSION)

    def encode(self, frame: CameraFrame) -> ModalityTokens:
        """Return the tokens of all views, view by view; raises ImageError naming the view at fault."""
        if not frame.views:
            raise ImageError('the camera frame has no views; a set must hold at least one image')
        images, sizes = zip(*(load_view(view, self.config) for view in frame.views), strict=True)
        azimuth = np.stack([self._azimuths(*pair) for pair in zip(frame.views, sizes, strict=True)])
        values = self._values(torch.from_numpy(np.stack(images)))
        stamps = tuple(view.stamp_ns for view in frame.views)
        return ModalityTokens(
            modality=self.modality, encoder=self.fingerprint, values=values.reshape(-1, self.token_width),
            azimuth=azimuth.reshape(-1), sources=tuple(view.name for view in frame.views),
            source_index=np.repeat(np.arange(len(stamps), dtype=np.uint16), azimuth.shape[1]),
            source_stamps_ns=stamps, stamp_ns=min(stamps), frame_id=frame.frame_id)

    @torch.inference_mode()
    def _values(self, images: Tensor) -> np.ndarray:
        """images: uint8 [V, height, width, 3] -> float32 [V, tokens, token_width]."""
        scaled = self.backbone.scaled(images.permute(0, 3, 1, 2) / 255)
        features: Features = self.backbone.network(scaled, self.config.blocks)
        if self.config.tokens == 'cls':
            return features.cls.transpose(0, 1).float().cpu().numpy()
        patches = merge_taps(features.patches)
        tokens = pool_columns(patches, self.config.columns)
        if self.config.tokens == 'columns+cls':
            whole = torch.cat([merge_taps(features.cls), patches.mean((1, 2))], dim=1)
            tokens = torch.cat([tokens, whole[:, None]], dim=1)
        return tokens.cpu().numpy()

    def _azimuths(self, view: CameraView, size: tuple[int, int]) -> np.ndarray:
        config = self.config
        if config.tokens == 'cls':
            return axis_azimuth(view, size, config).repeat(len(config.blocks))
        azimuth = column_azimuths(view, size, config.columns, config)
        return azimuth if config.tokens == 'columns' else np.append(azimuth, axis_azimuth(view, size, config))


class CameraRing(NamedTuple):
    """The views of a frame.

    features: float32 [V, rows, columns, taps * width]; slopes: float32 [V, rows, columns], see
    :func:`ray_slopes`; edges: float32 [V, columns + 1], see :func:`column_edges`.
    """

    features: Tensor
    slopes: Tensor
    edges: Tensor


@torch.inference_mode()
def camera_ring(frame: CameraFrame, config: CameraConfig, backbone: Backbone, rows: int,
                columns: int) -> CameraRing:
    """Run all views through the backbone; raises ImageError naming the view at fault."""
    if not frame.views:
        raise ImageError('the camera frame has no views; a set must hold at least one image')
    images, sizes = zip(*(load_view(view, config) for view in frame.views), strict=True)
    views = list(zip(frame.views, sizes, strict=True))
    scaled = backbone.scaled(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255)
    return CameraRing(
        band_features(backbone.network(scaled, config.blocks).patches, rows, columns).cpu(),
        _stacked(ray_slopes(*view, rows, columns, config) for view in views),
        _stacked(column_edges(*view, columns, config) for view in views))


def band_features(patches: Tensor, rows: int, columns: int) -> Tensor:
    """Return taps side by side, each normalised, in fewer rows and columns.

    patches: [T, V, patch rows, patch columns, width] -> float32 [V, rows, columns, T * width].
    """
    states = functional.layer_norm(patches.float(), patches.shape[-1:])
    planes = states.permute(1, 0, 4, 2, 3).flatten(1, 2)
    return functional.adaptive_avg_pool2d(planes, (rows, columns)).permute(0, 2, 3, 1)


def _stacked(arrays: Iterable[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(list(arrays)))


class CameraObjectEncoder:
    """Encode a :class:`CameraFrame`; see :class:`mpnp_ros.modalities.registry.Encoder`.

    One token a sector of the base frame: the expected number of objects of each of :attr:`channels`, about 0
    where no camera looks.
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
