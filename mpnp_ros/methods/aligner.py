"""From tokens of a modality to keys or values of the language model."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import gelu, linear

HARMONICS = 4


class Aligner(nn.Module):
    """Key or Value Aligner: GELU(x W1 + b1) W2 + b2 (arXiv:2312.07886), W2 as wide as H_kv d_h.

    outputs: number of output projections over the one hidden layer: 1, shared by all linked blocks as
        in the paper, or one for each of them.
    """

    def __init__(self, width: int, hidden: int, outputs: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.outputs, self.kv_heads, self.head_dim = outputs, kv_heads, head_dim
        self.hidden = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden, outputs * kv_heads * head_dim)

    def forward(self, tokens: torch.Tensor, keep: Sequence[int] | None = None) -> torch.Tensor:
        """[B, P, D] -> [n, B, H_kv, P, d_h]; n: outputs, or those in `keep` (None: all)."""
        weight, bias = self.output.weight, self.output.bias
        if keep is not None and len(keep) < self.outputs:
            weight = weight.unflatten(0, (self.outputs, -1))[list(keep)].flatten(0, 1)
            bias = bias.unflatten(0, (self.outputs, -1))[list(keep)].flatten()
        aligned = linear(gelu(self.hidden(tokens)), weight, bias)
        return aligned.unflatten(-1, (-1, self.kv_heads, self.head_dim)).permute(2, 0, 3, 1, 4)


class Direction(nn.Module):
    """Adds to a token where it comes from: sin and cos of 1..4 times its azimuth, or 'no direction'.

    Any number of views in any mounting reads the same, and a turned rig is a change of azimuths only.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fourier = nn.Linear(2 * HARMONICS, width, bias=False)
        self.none = nn.Parameter(torch.randn(width) * 0.4)

    def forward(self, tokens: torch.Tensor, azimuth: torch.Tensor) -> torch.Tensor:
        """tokens: [B, P, D].  azimuth: [B, P] radians, NaN where there is no direction."""
        unknown = azimuth.isnan()[..., None]
        return tokens + torch.where(unknown, self.none, self.fourier(fourier(azimuth)))


def fourier(azimuth: torch.Tensor, harmonics: int = HARMONICS) -> torch.Tensor:
    """[..., P] radians -> [..., P, 2 harmonics]: sin and cos of 1..harmonics times each; zeros for NaN."""
    angles = azimuth.nan_to_num()[..., None] * torch.arange(1, harmonics + 1, device=azimuth.device)
    return torch.cat([angles.sin(), angles.cos()], -1) * ~azimuth.isnan()[..., None]
