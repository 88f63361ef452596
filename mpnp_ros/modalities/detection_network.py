"""The polar grid of cells around the robot, and the network that finds objects in it.

Each cell gets a logit that the middle of an object lies in it, and what that object is: logits of categories
and statuses, and where in the cell its middle is.  Turning the grid by :data:`TURN` cells turns the output.
:mod:`mpnp_ros.modalities.grid_objects` reads the output.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mpnp_ros.detection.classes import CATEGORY_COUNT, CHANNEL_COUNT

AZIMUTHS, RANGES, LENGTH = 288, 72, 0.5
"""Cells all around and outwards, and the length of a cell in metres."""
CENTRE = 0
"""Planes of the output: the middle of an object, categories, statuses, offsets from the middle of the cell.

Offsets are metres outwards and to the left, seen from the robot.
"""
KINDS = slice(1, 1 + CATEGORY_COUNT)
STATES = slice(KINDS.stop, KINDS.stop + CHANNEL_COUNT)
OFFSETS = slice(STATES.stop, STATES.stop + 2)
TURN = 8
"""Azimuths and ranges are multiples of it: the grid is halved three times."""


class Convolution(nn.Module):
    """A 3 x 3 convolution over [B, channels, azimuth, range], circular in azimuth, with norm and ReLU."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, stride, (0, 1), bias=False)
        self.norm = nn.BatchNorm2d(out, momentum=0.05)

    def forward(self, cells: Tensor) -> Tensor:
        """[B, channels, A, R] -> [B, out, A / stride, R / stride]."""
        around = torch.cat([cells[:, :, -1:], cells, cells[:, :, :1]], 2)
        return functional.relu(self.norm(self.conv(around)))


class DetectionNetwork(nn.Module):
    """A polar grid to maps of objects: a U-Net of four levels.

    features: planes of the grid.  azimuths, ranges: its cells, multiples of :data:`TURN`.  hidden: width of
    the first level.
    """

    def __init__(self, features: int, azimuths: int = AZIMUTHS, ranges: int = RANGES,
                 hidden: int = 24) -> None:
        super().__init__()
        if azimuths % TURN or ranges % TURN:
            raise ValueError(f'{azimuths} azimuths and {ranges} ranges; expected multiples of {TURN}')
        self.azimuths, self.ranges = azimuths, ranges
        widths = hidden, 2 * hidden, 4 * hidden, 5 * hidden
        self.first = Convolution(features, hidden)
        self.distance = nn.Parameter(torch.zeros(hidden, 1, ranges))
        self.down = nn.ModuleList([Convolution(hidden, hidden)])
        for place, width in enumerate(widths[1:], 1):
            depth = 1 if place == 1 else 2
            self.down.append(nn.Sequential(Convolution(widths[place - 1], width, 2),
                                           *(Convolution(width, width) for _ in range(depth))))
        self.narrow = nn.ModuleList(nn.Conv2d(widths[place + 1], widths[place], 1) for place in (2, 1, 0))
        self.up = nn.ModuleList(Convolution(widths[place], max(widths[place], 2 * hidden))
                                for place in (2, 1, 0))
        self.out = nn.Conv2d(2 * hidden, OFFSETS.stop, 1)

    def forward(self, grid: Tensor) -> Tensor:
        """grid: [B, features, A, R] -> float32 [B, OFFSETS.stop, A, R], see :data:`CENTRE`."""
        cells, levels = self.first(grid) + self.distance, []
        for level in self.down:
            cells = level(cells)
            levels.append(cells)
        cells = levels.pop()
        for narrow, level in zip(self.narrow, self.up, strict=True):
            wide = functional.interpolate(narrow(cells), scale_factor=2., mode='nearest')
            cells = level(levels.pop() + wide)
        return self.out(cells).float()

    @torch.no_grad()
    def start_at(self, share: float) -> None:
        """Initialise the output with this probability of an object in a cell, independent of the input."""
        nn.init.normal_(self.out.weight, std=0.01)
        self.out.bias.zero_()
        self.out.bias[CENTRE] = float(np.log(share / (1 - share)))
