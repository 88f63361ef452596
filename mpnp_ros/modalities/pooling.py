"""Pooling of patches to tokens with direction: each token summarises one vertical band of the image."""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def merge_taps(states: Tensor) -> Tensor:
    """Return the mean over taps of the states' own normalisation: [T, ..., width] -> float32 [..., width].

    No trained scale: that of the final norm fits the last block only, and on inner blocks of the
    default backbone it leaves a tenth of the channels with nearly all of the variance.
    """
    return functional.layer_norm(states.float(), states.shape[-1:]).mean(0)


def pool_columns(patches: Tensor, columns: int) -> Tensor:
    """Return mean and maximum of ``columns`` vertical bands, left to right.

    patches: float32 [B, rows, patch columns, width] -> [B, columns, 2 * width].  The mean says what
    the band is made of; the maximum keeps an object that fills a single patch.
    """
    planes = patches.permute(0, 3, 1, 2)
    mean = functional.adaptive_avg_pool2d(planes, (1, columns))
    highest = functional.adaptive_max_pool2d(planes, (1, columns))
    return torch.cat([mean, highest], dim=1).squeeze(2).transpose(1, 2)
