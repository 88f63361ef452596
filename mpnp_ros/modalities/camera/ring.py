"""Inputs of a camera head: patch features of every view with the directions of its columns and rows."""
from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.calibration import column_edges, ray_slopes
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.frames import CameraFrame
from mpnp_ros.modalities.camera.preprocess import load_view
from mpnp_ros.modalities.vision_weights import Backbone

RING_VERSION = 1  # goes up whenever `camera_ring` gives other values for the same images


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
