"""Small networks from sensor features to expected object counts by direction.

Each is trained on boxes (:mod:`mpnp_ros.adaptation.pretraining`) and frozen.  They are equivariant: turning
the input by whole sectors turns the output.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpnp_ros.modalities.geometry import SECTORS

Channel = tuple[str, str | None]
"""A category with one of its statuses, or with None if it has none."""

FINE = 2  # bins a sector that a camera's columns are spread over
HIGHEST_LOG_RATE = 3.0  # twenty objects of one kind in a sector
LARGEST_SCORE = 15.0
WIDTH_SCALE = 10.0  # brings the widths of columns, radians, to about 0.5


class SectorRates(nn.Module):
    """States [B, width, S] to the log of the expected number of objects, [B, S, C].

    The number of a category and the shares of its statuses are told apart, as the first is seen well and
    the second badly.
    """

    def __init__(self, width: int, channels: Sequence[Channel]) -> None:
        super().__init__()
        names = list(dict.fromkeys(category for category, _ in channels))
        place = torch.tensor([names.index(category) for category, _ in channels])
        self.category = nn.Linear(width, len(names))
        self.status = nn.Linear(width, len(channels))
        self.register_buffer('place', place, persistent=False)
        self.register_buffer('member', functional.one_hot(place).float(), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """[B, width, S] -> log rates [B, S, C]."""
        states = states.transpose(1, 2)
        scores = self.status(states).clamp(-LARGEST_SCORE, LARGEST_SCORE)
        shares = scores - (scores.exp() @ self.member).log()[..., self.place]
        return (self.category(states)[..., self.place] + shares).clamp(max=HIGHEST_LOG_RATE)

    @torch.no_grad()
    def start_at(self, rates: Tensor) -> None:
        """Initialise with these mean numbers a sector [C], independent of the input."""
        rates = rates.clamp(min=1e-5)
        for layer, bias in ((self.category, (rates @ self.member).log()), (self.status, rates.log())):
            layer.weight.mul_(0.1)
            layer.bias.copy_(bias)


class Ring(nn.Module):
    """Residual circular convolutions around the vehicle, [B, width, S] to the same."""

    def __init__(self, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(
            nn.GroupNorm(1, width),
            nn.Conv1d(width, width, 3, padding=2 ** place, dilation=2 ** place, padding_mode='circular'),
            nn.GELU(), nn.Dropout(dropout), nn.Conv1d(width, width, 1)) for place in range(depth))

    def forward(self, states: Tensor) -> Tensor:
        """[B, width, S] -> [B, width, S]."""
        for block in self.blocks:
            states = states + block(states)
        return states


class CameraSectorHead(nn.Module):
    """Patch features of any number of calibrated views to log rates.

    features: width of one patch's features; rows: of patches a view.  hidden, ring, depth: sizes.
    """

    def __init__(self, channels: Sequence[Channel], features: int = 768, rows: int = 4, columns: int = 28,
                 hidden: int = 64, ring: int = 128, depth: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.register_buffer('mean', torch.zeros(features))
        self.register_buffer('deviation', torch.ones(features))
        self.patch = nn.Linear(features, hidden)
        self.drop = nn.Dropout(dropout)
        self.column = nn.Linear(rows * (hidden + 1) + 1, ring)
        self.unseen = nn.Parameter(torch.zeros(ring))
        self.narrow = nn.Conv1d(ring, ring, FINE + 2, stride=FINE, padding=1, padding_mode='circular')
        self.ring = Ring(ring, depth, dropout)
        self.rates = SectorRates(ring, channels)

    def forward(self, features: Tensor, slopes: Tensor, edges: Tensor) -> Tensor:
        """Return log rates [B, S, C].

        features: [B, V, rows, columns, features]; slopes: [B, V, rows, columns], rise of the line of sight a
        metre ahead; edges: [B, V, columns + 1], azimuths between columns, NaN for a view that is not there.
        """
        columns = self._columns(features, slopes, edges)
        shares = ring_shares(edges, FINE * SECTORS)
        cover = shares.sum((1, 2))
        states = torch.einsum('bvcr,bvcw->bwr', shares, columns) / cover.clamp(min=1)[:, None]
        states = states + (1 - cover.clamp(max=1))[:, None] * self.unseen[:, None]
        return self.rates(self.ring(self.narrow(states)))

    def _columns(self, features: Tensor, slopes: Tensor, edges: Tensor) -> Tensor:
        """States of the columns of each view, [B, V, columns, ring]."""
        weight = self.patch.weight / self.deviation  # standardises on the way, without a copy of the features
        patches = functional.linear(features.float(), weight, self.patch.bias - weight @ self.mean)
        bands = self.drop(functional.gelu(patches)).transpose(2, 3).flatten(3)
        widths = wrapped(edges.diff()).abs().unsqueeze(-1)
        return self.column(torch.cat([bands, slopes.transpose(2, 3), WIDTH_SCALE * widths.nan_to_num()], -1))

    @torch.no_grad()
    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation from features [..., features]."""
        rows = features.flatten(0, -2).float()
        self.mean.copy_(rows.mean(0))
        self.deviation.copy_(rows.std(0).clamp(min=1e-3))


class PolarConvolution(nn.Sequential):
    """A convolution over [B, channels, azimuth, range], circular in azimuth, with norm and ReLU.

    No batch norm: its running statistics made the trained network another one than that in training.
    """

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__(
            nn.CircularPad2d((0, 0, 1, 1)),
            nn.Conv2d(channels, out, (3 if stride == 1 else 4, 3), stride, (0, 1), bias=False),
            nn.GroupNorm(1, out), nn.ReLU())


class PolarSectorHead(nn.Module):
    """A polar bird's-eye grid to log rates.

    features: of a cell; azimuths, ranges: cells; azimuths are 4 a sector, ranges a multiple of 4.
    """

    def __init__(self, channels: Sequence[Channel], features: int = 6, azimuths: int = 288, ranges: int = 40,
                 hidden: int = 16, ring: int = 128, depth: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.azimuths, self.ranges = azimuths, ranges
        self.register_buffer('mean', torch.zeros(features, 1, 1))
        self.register_buffer('deviation', torch.ones(features, 1, 1))
        self.first = PolarConvolution(features, hidden)
        self.distance = nn.Parameter(torch.zeros(hidden, 1, ranges))
        self.rest = nn.Sequential(
            PolarConvolution(hidden, 2 * hidden, 2), PolarConvolution(2 * hidden, 2 * hidden),
            PolarConvolution(2 * hidden, 4 * hidden, 2), PolarConvolution(4 * hidden, 4 * hidden))
        self.sector = nn.Sequential(nn.Dropout(dropout), nn.Conv1d(4 * hidden * (ranges // 4), ring, 1))
        self.ring = Ring(ring, depth, dropout)
        self.rates = SectorRates(ring, channels)

    def forward(self, grid: Tensor) -> Tensor:
        """grid: [B, features, azimuths, ranges] -> log rates [B, S, C]."""
        cells = self.rest(self.first((grid.float() - self.mean) / self.deviation) + self.distance)
        columns = cells.transpose(1, 2).flatten(2).transpose(1, 2)
        return self.rates(self.ring(self.sector(columns)))

    @torch.no_grad()
    def standardise(self, grid: Tensor) -> None:
        """Take mean and deviation from grids [B, features, azimuths, ranges]."""
        self.mean.copy_(grid.float().mean((0, 2, 3))[:, None, None])
        self.deviation.copy_(grid.float().std((0, 2, 3)).clamp(min=1e-2)[:, None, None])


def ring_shares(edges: Tensor, bins: int) -> Tensor:
    """Return which share of each of ``bins`` equal parts of the circle each column covers.

    edges: [B, V, columns + 1] radians -> [B, V, columns, bins], 0 for a view whose edges are NaN.
    """
    half = math.pi / bins
    spans = wrapped(edges.diff())
    middles = edges[..., :-1] + spans / 2
    centres = torch.arange(bins, device=edges.device) * 2 * half + half - math.pi
    apart, reach = wrapped(middles[..., None] - centres), spans.abs()[..., None] / 2
    shared = (apart + reach).clamp(max=half) - (apart - reach).clamp(min=-half)
    return (shared.clamp(min=0) / (2 * half)).nan_to_num()


def covered(edges: Tensor) -> Tensor:
    """Return whether some view sees most of each sector: edges as above -> bool [B, S]."""
    return ring_shares(edges, SECTORS).sum((1, 2)) > 0.5


def wrapped(angles: Tensor) -> Tensor:
    """Return angles in [-pi, pi)."""
    return (angles + math.pi).remainder(2 * math.pi) - math.pi
