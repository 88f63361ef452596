"""A vision transformer in plain torch, and the pooling of its patches to tokens with a direction.

One network for DINOv2, HF ViT and RangeViT weights: Dosovitskiy et al. 2021, with the layer scale of DINOv2
(Oquab et al. 2024) where the weights have it.  Parameter names are those of timm.  It takes images of any
size that is a multiple of the patch and returns the states of inner blocks, as the last blocks of a
fine-tuned network serve its old task.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpnp_ros.errors import ConfigurationError


@dataclass(frozen=True)
class VitShape:
    """Dimensions of a vision transformer; the defaults are those of DINOv2 ViT-S/14.

    grid: rows and columns of patches its position embedding was trained on.
    interpolation: how that embedding is resized to other grids, ``bicubic`` or ``bilinear``.
    """

    width: int = 384
    depth: int = 12
    heads: int = 6
    hidden: int = 1536
    patch: tuple[int, int] = (14, 14)
    grid: tuple[int, int] = (37, 37)
    channels: int = 3
    epsilon: float = 1e-6
    layer_scale: bool = True
    interpolation: str = 'bicubic'


class Features(NamedTuple):
    """States after T tapped blocks of B images, before the final norm.

    cls: [T, B, width]; patches: [T, B, rows, columns, width].
    """

    cls: Tensor
    patches: Tensor


class PatchEmbedding(nn.Module):
    """Cut images [B, channels, H, W] into patches and project them to [B, width, rows, columns]."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(shape.channels, shape.width, shape.patch, shape.patch)

    def forward(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, width, rows, columns]."""
        return self.proj(images)


class Attention(nn.Module):
    """Multi-head self-attention over [B, N, width]."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, states: Tensor) -> Tensor:
        """[B, N, width] -> [B, N, width]."""
        batch, count, width = states.shape
        query, key, value = (self.qkv(states).view(batch, count, 3, self.heads, width // self.heads)
                             .permute(2, 0, 3, 1, 4))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.width, shape.hidden)
        self.fc2 = nn.Linear(shape.hidden, shape.width)

    def forward(self, states: Tensor) -> Tensor:
        """[B, N, width] -> [B, N, width]."""
        return self.fc2(functional.gelu(self.fc1(states)))


class LayerScale(nn.Module):
    """A trained factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, states: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return states * self.gamma


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.attn = Attention(shape)
        self.ls1 = LayerScale(shape.width) if shape.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.mlp = FeedForward(shape)
        self.ls2 = LayerScale(shape.width) if shape.layer_scale else nn.Identity()

    def forward(self, states: Tensor) -> Tensor:
        """[B, N, width] -> [B, N, width]."""
        states = states + self.ls1(self.attn(self.norm1(states)))
        return states + self.ls2(self.mlp(self.norm2(states)))


class VisionTransformer(nn.Module):
    """Patches and a CLS token through ``shape.depth`` blocks.

    ``stem`` replaces the patch embedding: any module from [B, channels, H, W] to
    [B, width, rows, columns] with one row and column per patch.
    """

    def __init__(self, shape: VitShape, stem: nn.Module | None = None) -> None:
        super().__init__()
        rows, columns = shape.grid
        self.shape = shape
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + rows * columns, shape.width))
        self.patch_embed = stem or PatchEmbedding(shape)
        self.blocks = nn.ModuleList(TransformerBlock(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self._resized: dict[tuple[int, int], Tensor] = {}

    def forward(self, images: Tensor, taps: Sequence[int]) -> Features:
        """Return the states after the blocks in ``taps`` (counted from 1), in that order.

        images: [B, channels, H, W], H and W multiples of the patch; blocks above the highest tap do not run.
        """
        patches = self.patch_embed(images)
        batch, _, rows, columns = patches.shape
        states = torch.cat([self.cls_token.expand(batch, -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        states = states + self.positions(rows, columns)
        after = {}
        for number, block in enumerate(self.blocks[:max(taps)], start=1):
            states = block(states)
            after[number] = states
        tapped = torch.stack([after[number] for number in taps])
        return Features(tapped[:, :, 0], tapped[:, :, 1:].unflatten(2, (rows, columns)))

    def positions(self, rows: int, columns: int) -> Tensor:
        """Return the position embedding for a grid, [1, 1 + rows * columns, width], resized once per grid."""
        if (rows, columns) == self.shape.grid:
            return self.pos_embed
        if (rows, columns) not in self._resized:
            grid = self.pos_embed[:, 1:].float().unflatten(1, self.shape.grid).permute(0, 3, 1, 2)
            grid = functional.interpolate(grid, size=(rows, columns), mode=self.shape.interpolation)
            grid = grid.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)
            self._resized[rows, columns] = torch.cat([self.pos_embed[:, :1], grid], dim=1)
        return self._resized[rows, columns]

    def check(self, height: int, width: int, taps: Sequence[int]) -> None:
        """Raise ConfigurationError unless images of this size and these taps fit the network."""
        for name, size, patch in zip(('height', 'width'), (height, width), self.shape.patch, strict=True):
            if size < patch or size % patch:
                raise ConfigurationError(f'{name} is {size}; this backbone needs a multiple of {patch}')
        if not taps or not all(1 <= tap <= self.shape.depth for tap in taps):
            raise ConfigurationError(f'blocks is {list(taps)}; it must name blocks 1 to {self.shape.depth}')

def merge_taps(states: Tensor) -> Tensor:
    """Return the mean over taps of the states' own normalisation: [T, ..., width] -> float32 [..., width].

    It has no trained scale: the scale of the final norm fits the last block only.  On inner blocks of the
    default backbone it leaves a tenth of the channels with nearly all of the variance.
    """
    return functional.layer_norm(states.float(), states.shape[-1:]).mean(0)


def pool_columns(patches: Tensor, columns: int) -> Tensor:
    """Return mean and maximum of ``columns`` vertical bands, left to right.

    patches: float32 [B, rows, patch columns, width] -> [B, columns, 2 * width].  The mean describes
    the band as a whole; the maximum keeps an object that fills a single patch.
    """
    planes = patches.permute(0, 3, 1, 2)
    mean = functional.adaptive_avg_pool2d(planes, (1, columns))
    highest = functional.adaptive_max_pool2d(planes, (1, columns))
    return torch.cat([mean, highest], dim=1).squeeze(2).transpose(1, 2)
