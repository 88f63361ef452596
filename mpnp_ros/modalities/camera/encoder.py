"""The camera encoder: all views of a frame through one frozen vision transformer at once."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mpnp_ros.errors import ConfigurationError, ImageError
from mpnp_ros.modalities.camera.calibration import axis_azimuth, column_azimuths
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.frames import CameraFrame, CameraView
from mpnp_ros.modalities.camera.preprocess import load_view
from mpnp_ros.modalities.vision import Features, merge_taps, pool_columns
from mpnp_ros.modalities.vision_weights import Backbone, load_backbone
from mpnp_ros.tokens import ModalityTokens

VERSION = 1  # goes up whenever `CameraEncoder` gives other tokens for the same image


class CameraEncoder:
    """Encode a :class:`CameraFrame`; see :class:`mpnp_ros.modalities.base.Encoder`.

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
        return self._tokens(self.backbone.network(scaled, self.config.blocks)).cpu().numpy()

    def _tokens(self, features: Features) -> Tensor:
        if self.config.tokens == 'cls':
            return features.cls.transpose(0, 1).float()
        patches = merge_taps(features.patches)
        tokens = pool_columns(patches, self.config.columns)
        if self.config.tokens == 'columns':
            return tokens
        whole = torch.cat([merge_taps(features.cls), patches.mean((1, 2))], dim=1)
        return torch.cat([tokens, whole[:, None]], dim=1)

    def _azimuths(self, view: CameraView, size: tuple[int, int]) -> np.ndarray:
        config = self.config
        if config.tokens == 'cls':
            return axis_azimuth(view, size, config).repeat(len(config.blocks))
        azimuth = column_azimuths(view, size, config.columns, config)
        return azimuth if config.tokens == 'columns' else np.append(azimuth, axis_azimuth(view, size, config))
