"""The network that finds objects in a polar grid, and the objects that its output means.

Each cell of the grid gets a logit that the middle of an object lies in it, and what that object is: logits of
categories and statuses, and where in the cell its middle is.  Turning the grid by :data:`TURN` cells turns
the output.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mpnp_ros.detection.classes import CATEGORY_COUNT, CHANNEL_COUNT
from mpnp_ros.modalities.lidar.detection_grid import LENGTH, PLANES
from mpnp_ros.questions.vocabulary import CATEGORIES, CATEGORY_OF_CHANNEL, CHANNELS

CENTRE = 0
"""Planes of the output: the middle of an object, categories, statuses, offsets from the middle of the cell.

Offsets are metres outwards and to the left, seen from the robot.
"""
KINDS = slice(1, 1 + CATEGORY_COUNT)
STATES = slice(KINDS.stop, KINDS.stop + CHANNEL_COUNT)
OFFSETS = slice(STATES.stop, STATES.stop + 2)
TURN = 8
"""Azimuths and ranges are multiples of it: the grid is halved three times."""
LEAST = 0.01
"""Probability of a cell from which on it belongs to an object."""
MOST = 3000
"""Cells that are looked at, the surest ones; a street has a few hundred."""
RADIUS = np.array([{'pedestrian': 0.75, 'traffic cone': 0.75, 'barrier': 1.05, 'bicycle': 1.2,
                    'motorcycle': 1.2}.get(category, 2.1) for category in CATEGORIES])
"""Metres around a middle within which no second object of the category lies."""


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

    def __init__(self, features: int = PLANES, azimuths: int = 288, ranges: int = 72,
                 hidden: int = 24) -> None:
        super().__init__()
        if azimuths % TURN or ranges % TURN or features != PLANES:
            raise ValueError(f'{azimuths} azimuths and {ranges} ranges of {features} planes; expected '
                             f'multiples of {TURN}, and {PLANES} planes')
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


class GridObjects(NamedTuple):
    """n objects in a grid, the surest first.

    position: [n, 2] metres in the base frame.  mass: [n] sum of the probabilities of its cells, 1 and more
    for a sure object.  categories: [n, 10] and statuses: [n, 24] as of
    :class:`~mpnp_ros.detection.detections.Detections`.
    """

    position: np.ndarray
    mass: np.ndarray
    categories: np.ndarray
    statuses: np.ndarray


def find(maps: Tensor) -> GridObjects:
    """Return the objects in the output of the network for one grid, [OFFSETS.stop, A, R].

    Cells that point to places within :data:`RADIUS` of that of a surer cell are of the same object; its
    place, categories and statuses are their means, weighted by their probabilities.
    """
    chance = torch.sigmoid(maps[CENTRE])
    azimuth, ring = torch.nonzero(chance > LEAST, as_tuple=True)
    surest = chance[azimuth, ring].sort(descending=True, stable=True).indices[:MOST]
    azimuth, ring = azimuth[surest], ring[surest]
    cells = maps[:, azimuth, ring].T
    weight = chance[azimuth, ring].double().numpy()
    place = positions(azimuth.numpy(), ring.numpy(), cells[:, OFFSETS].double().numpy(), maps.shape[1])
    kinds = torch.softmax(cells[:, KINDS].double(), 1).numpy()
    states = shared_statuses(cells[:, STATES].double()).numpy()
    left, parts = np.ones(len(weight), bool), []
    for seed in range(len(weight)):
        if not left[seed]:
            continue
        apart = np.hypot(*(place - place[seed]).T)
        own = left & (apart < RADIUS[kinds[seed].argmax()])
        left &= ~own
        shares = weight[own] / weight[own].sum()
        parts.append((shares @ place[own], weight[own].sum(), shares @ kinds[own], shares @ states[own]))
    if not parts:
        return GridObjects(np.zeros((0, 2)), np.zeros(0), np.zeros((0, CATEGORY_COUNT)),
                           np.zeros((0, CHANNEL_COUNT)))
    return GridObjects(*(np.array(values) for values in zip(*parts, strict=True)))


def positions(azimuth: np.ndarray, ring: np.ndarray, offsets: np.ndarray, azimuths: int) -> np.ndarray:
    """Return the places that cells point to, [n, 2] metres; azimuth, ring: [n], offsets: [n, 2] of each."""
    middle = (ring + 0.5) * LENGTH
    far = middle + offsets[:, 0]
    angle = (azimuth + 0.5) / azimuths * 2 * np.pi - np.pi + offsets[:, 1] / middle.clip(1)
    return np.stack([far * np.cos(angle), far * np.sin(angle)], 1)


def shared_statuses(logits: Tensor) -> Tensor:
    """Return the probabilities of the statuses of each category, [n, 24] from logits [n, 24]."""
    place = torch.tensor(CATEGORY_OF_CHANNEL)
    member = functional.one_hot(place, CATEGORY_COUNT).to(logits.dtype)
    powers = (logits - logits.amax(1, keepdim=True)).exp().clamp(min=1e-30)
    return (powers / (powers @ member)[:, place]).clamp(max=1)


def detection_network(channels: Sequence[tuple[str, str | None]], **shape: int) -> DetectionNetwork:
    """Return an untrained network; raises ValueError for other channels than those of questions."""
    if tuple(channels) != CHANNELS:
        raise ValueError(f'{len(channels)} channels; expected the {len(CHANNELS)} of questions')
    return DetectionNetwork(**shape)
