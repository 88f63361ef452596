"""The network that finds objects around the robot in calibrated images, now and half a second before.

A convolutional network sees each image.  Each cell of the polar grid on the ground takes the features of the
pixels in which its place appears, at several heights, and those of the earlier images, in which the same
place appears elsewhere because the robot has moved: what stands looks the same in both.  A
:class:`~mpnp_ros.modalities.detection_network.DetectionNetwork` finds objects in that grid.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mpnp_ros.detection.lift import Camera
from mpnp_ros.modalities.detection_network import AZIMUTHS, LENGTH, RANGES, DetectionNetwork

STRIDE = 4
"""Pixels of an image from one feature to the next."""
HEIGHTS = (0.0, 0.9, 2.2)
"""Metres above the ground at which the cells look into the present images."""
EARLIER_HEIGHTS = HEIGHTS[:2]
"""The same of the earlier images."""
FARTHEST_PART = 1.5
"""Rows of features that a place may lie beyond the border of an image and still be told."""
NEAREST = 0.3
"""Metres ahead of a camera from which on it sees a place."""


class Places(NamedTuple):
    """Where the cells of a grid appear in the features of V views, height by height.

    rows: int64 [heights * cells], index of the feature among those of all views, view by view and row by
    row; their number where no view looks.  parts: float32 [heights * cells], how far below the middle of that
    feature, in rows of features.
    """

    rows: Tensor
    parts: Tensor


def places_in(cameras: Sequence[Camera | None], shape: tuple[int, int], band: tuple[float, float],
              heights: Sequence[float], azimuths: int = AZIMUTHS, ranges: int = RANGES) -> Places:
    """Return where the cells of the grid appear; of several views, that farthest from its border counts.

    cameras: of the views; None: there is no such view.  shape: rows and columns of the features of a view.
    band: shares of the height of the images between which they lie, as top and bottom of CameraConfig.
    """
    rows, columns = shape
    points = cell_points(heights, azimuths, ranges)
    best = np.full(len(points), -1.)
    index = np.full(len(points), len(cameras) * rows * columns, np.int64)
    parts = np.zeros(len(points), np.float32)
    for place, camera in enumerate(cameras):
        if camera is None:
            continue
        pixels, ahead = camera.project(points)
        across, down = pixels[:, 0] / camera.size[0], pixels[:, 1] / camera.size[1]
        margin = np.where(ahead > NEAREST, 0.5 - np.abs(across - 0.5), -1.)
        better = (margin >= 0) & (margin > best)
        row = (down[better] - band[0]) / (band[1] - band[0]) * rows
        nearest = np.floor(row).clip(0, rows - 1)
        column = (across[better] * columns).astype(np.int64).clip(0, columns - 1)
        index[better] = (place * rows + nearest.astype(np.int64)) * columns + column
        parts[better] = (row - nearest - 0.5).clip(-FARTHEST_PART, FARTHEST_PART)
        best[better] = margin[better]
    return Places(torch.from_numpy(index), torch.from_numpy(parts))


def cell_points(heights: Sequence[float], azimuths: int = AZIMUTHS, ranges: int = RANGES) -> np.ndarray:
    """Return the middles of the cells at each height, [heights * azimuths * ranges, 3] metres."""
    azimuth = (np.arange(azimuths) + 0.5) / azimuths * 2 * np.pi - np.pi
    far = (np.arange(ranges) + 0.5) * LENGTH
    flat = np.stack([np.cos(azimuth)[:, None] * far, np.sin(azimuth)[:, None] * far], -1).reshape(-1, 2)
    return np.concatenate([np.column_stack([flat, np.full(len(flat), height)]) for height in heights])


class ImageNetwork(nn.Module):
    """Images [N, 3, H, W] to features [N, width, H / STRIDE, W / STRIDE]: four levels, the coarse ones added.

    Values of pixels are 0..1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = 32, 64, 96, 128
        self.fine = nn.Sequential(
            nn.Conv2d(3, widths[0], 2 * STRIDE, STRIDE, STRIDE // 2, bias=False),
            nn.BatchNorm2d(widths[0], momentum=0.05), nn.ReLU(inplace=True),
            _convolution(widths[0], widths[0]))
        self.down = nn.ModuleList(nn.Sequential(_convolution(before, after, 2), _convolution(after, after))
                                  for before, after in zip(widths, widths[1:], strict=False))
        self.narrow = nn.ModuleList(nn.Conv2d(widths[level + 1], widths[level], 1) for level in (2, 1, 0))
        self.up = nn.ModuleList(_convolution(widths[level], widths[level] if level else width)
                                for level in (2, 1, 0))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        cells = self.fine(images)
        levels = [cells]
        for level in self.down:
            cells = level(cells)
            levels.append(cells)
        cells = levels.pop()
        for narrow, level in zip(self.narrow, self.up, strict=True):
            finer = levels.pop()
            cells = level(finer + functional.interpolate(narrow(cells), size=finer.shape[2:]))
        return cells


class GroundNetwork(nn.Module):
    """Images of calibrated views, now and before, to maps of objects as of DetectionNetwork.

    height, width: of the images, pixels.  features: width of the features of a pixel.  azimuths, ranges,
    hidden: as of DetectionNetwork.
    """

    def __init__(self, height: int = 216, width: int = 640, features: int = 32, azimuths: int = AZIMUTHS,
                 ranges: int = RANGES, hidden: int = 24, merged: int = 64) -> None:
        super().__init__()
        if height % STRIDE or width % STRIDE:
            raise ValueError(f'images of {width} x {height} pixels; expected multiples of {STRIDE}')
        self.shape, self.cells, self.width = (height // STRIDE, width // STRIDE), azimuths * ranges, features
        self.azimuths, self.ranges = azimuths, ranges
        self.image = ImageNetwork(features)
        self.unseen = nn.Parameter(torch.zeros(1, features))
        sampled = (len(HEIGHTS) + len(EARLIER_HEIGHTS)) * (features + 1) + 2
        self.merge = nn.Linear(sampled, merged, bias=False)
        self.norm = nn.BatchNorm2d(merged, momentum=0.05)
        self.objects = DetectionNetwork(merged, azimuths, ranges, hidden)

    def forward(self, images: Tensor, rows: Tensor, parts: Tensor, earlier_rows: Tensor,
                earlier_parts: Tensor, known: Tensor) -> Tensor:
        """Return the maps of B frames, float32 [B, OFFSETS.stop, A, R].

        images: [B, 2, V, 3, height, width], 0..1, now and before.  rows, parts: [B, heights * cells] of
        :class:`Places` now, and before.  known: [B] 1 where there are earlier images, else 0.
        """
        seen = self.features(images.flatten(0, 2)).reshape(len(images), 2, -1, self.width)
        return self.maps(seen[:, 0], Places(rows, parts), seen[:, 1], Places(earlier_rows, earlier_parts),
                         known)

    def features(self, images: Tensor) -> Tensor:
        """Return the features of images [N, 3, height, width] pixel by pixel, [N, rows * columns, width]."""
        seen: Tensor = self.image(images)
        return seen.permute(0, 2, 3, 1).flatten(1, 2)

    def maps(self, now: Tensor, places: Places, before: Tensor, earlier: Places, known: Tensor) -> Tensor:
        """Return the maps as :meth:`forward` does; now, before: features [B, V * rows * columns, width]."""
        told = known.to(now.dtype)[:, None, None].expand(-1, self.cells, 1)
        looked = (places.rows[:, :self.cells] < now.shape[1]).to(now.dtype)[..., None]
        cells = torch.cat([self._sampled(now, places), self._sampled(before, earlier) * told, told, looked],
                          -1)
        grid = self.merge(cells).reshape(len(now), self.azimuths, self.ranges, -1).permute(0, 3, 1, 2)
        maps: Tensor = self.objects(functional.relu(self.norm(grid)))
        return maps

    def _sampled(self, features: Tensor, places: Places) -> Tensor:
        """Return what the cells see, [B, cells, heights * (width + 1)]."""
        count, seen = features.shape[:2]
        with_none = torch.cat([features, self.unseen.to(features.dtype).expand(count, 1, -1)], 1)
        first = torch.arange(count, device=features.device)[:, None] * (seen + 1)
        found = functional.embedding(places.rows + first, with_none.flatten(0, 1))
        found = torch.cat([found, places.parts.to(found.dtype)[..., None]], -1)
        heights = places.rows.shape[1] // self.cells
        return found.reshape(count, heights, self.cells, -1).transpose(1, 2).flatten(2)

    @torch.no_grad()
    def start_at(self, share: float) -> None:
        """See DetectionNetwork."""
        self.objects.start_at(share)


def _convolution(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False),
                         nn.BatchNorm2d(out, momentum=0.05), nn.ReLU(inplace=True))
