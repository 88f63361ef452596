"""What the counts of one sensor are worth, and how those of several sensors become one.

One reader counts for all sensors.  What differs between them is small: what a sensor misses, imagines and
takes for something else, by how much it is turned, and how far its word is trusted beside the others'.  That
is what is learned first when a sensor is plugged in.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import nn

from mpnp_ros.methods.mpnp.counting import Counts, sector_centres
from mpnp_ros.tokens import SECTORS


class Worth(nn.Module):
    """Counts of a sensor -> expected numbers of what is there.

    confusion: [C, C], how much of what is seen as one sort (column) is which sort (row), what is missed of it
    and imagined included; it begins as the identity.  missed: [C], the number of each sort to expect in a
    sector that is looked at, whatever is seen; begins as 0.  trust, presence: [C], the logarithm of the
    weight of a sensor's word beside others', and what is added to it where the sensor says that something is
    there.  turn: radians to the left by which what is seen is to be turned; it is learned from answers only
    while one sensor counts, as several are fused by sector.

    Answers say little about a single entry.  So those of one category taken for one other change together
    whatever the status, those of one status taken for one other whatever the category, and no others; see
    :func:`confusion_groups`.
    """

    def __init__(self, channels: Sequence[str]) -> None:
        """channels: "category: status" or "category" each."""
        super().__init__()
        self.channels, width = tuple(channels), len(channels)
        self.confusion = nn.Parameter(torch.eye(width))
        self.missed = nn.Parameter(torch.zeros(width))
        self.trust, self.presence = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.turn = nn.Parameter(torch.zeros(()))

    def forward(self, counts: Counts) -> Counts:
        """Correct counts; what is missed is one more token for each sector."""
        confusion, missed = self.confusion, self.missed
        if torch.is_grad_enabled():
            groups = confusion_groups(self.channels)
            confusion = with_shared_gradient(confusion, groups)
            missed = with_shared_gradient(missed, groups.diagonal())
        numbers = counts.numbers @ confusion.clamp(0).T
        nowhere, distance, frames = counts.azimuth.isnan(), counts.distance, len(numbers)
        azimuth = torch.where(nowhere, counts.azimuth, counts.azimuth + self.turn)
        numbers = torch.cat([numbers, missed.clamp(0) * counts.covered], 1)
        azimuth = torch.cat([azimuth, sector_centres(azimuth.device).expand(frames, -1)], 1)
        distance = torch.cat([distance, distance.new_full((frames, SECTORS), math.nan)], 1)
        covered = counts.covered if not bool(self.turn) else torch.roll(
            counts.covered, round(self.turn.item() / math.tau * SECTORS), 1)
        return Counts(numbers, azimuth, distance, covered)


@cache
def confusion_groups(names: tuple[str, ...]) -> np.ndarray:
    """Int64 [C, C]: entries of a confusion that change together have the same number; -1: no change.

    One group is all statuses of one category taken for another (or for itself), or all categories of one
    status taken for another.  A category without statuses is taken for all statuses alike.
    """
    parts = [name.partition(': ')[::2] for name in names]
    numbers: dict[tuple[str, str, str], int] = {}

    def group(true: tuple[str, str], seen: tuple[str, str]) -> int:
        if true[1] == seen[1] or not (true[1] and seen[1]):
            return numbers.setdefault(('category', true[0], seen[0]), len(numbers))
        if true[0] == seen[0]:
            return numbers.setdefault(('status', true[1], seen[1]), len(numbers))
        return -1

    return np.array([[group(true, seen) for seen in parts] for true in parts])


def with_shared_gradient(parameter: torch.Tensor, groups: np.ndarray) -> torch.Tensor:
    """The same values, with the mean gradient of its group for every entry; none in group -1."""
    group = torch.tensor(groups.flatten() + 1, device=parameter.device)
    sums = parameter.new_zeros(int(group.max()) + 1).index_add(0, group, parameter.flatten())
    mean = sums / group.bincount(minlength=len(sums)).clamp(min=1) * (torch.arange(len(sums)).to(group) > 0)
    shared = mean[group].view_as(parameter)
    return parameter.detach() + (shared - shared.detach())


def fuse(parts: Sequence[tuple[Counts, Worth, torch.Tensor]]) -> Counts:
    """The counts [B, ...] of several sensors as one: in each sector and of each sort their weighted mean.

    parts: of each sensor its counts, their worth and how open its link is, a scalar in 0..1, by which its
    weight fades.  A sensor that does not look into a sector, or cannot tell a sort, has no say there.
    """
    if len(parts) == 1:
        return parts[0][0]
    numbers, distances, weights = [], [], []
    for counts, worth, openness in parts:
        sums, distance = in_sectors(counts)
        numbers.append(sums)
        distances.append(distance)
        trust = torch.exp(worth.trust + worth.presence * sums.clamp(max=1.))
        weights.append(counts.covered * openness * trust)
    number, weight = torch.stack(numbers), torch.stack(weights)
    mean = (number * weight).sum(0) / weight.sum(0).clamp(min=1e-9)
    covered = torch.stack([counts.covered for counts, _, _ in parts]).amax(0)
    azimuth = sector_centres(mean.device).expand(len(mean), -1)
    return Counts(mean, azimuth, torch.stack(distances).nanmean(0), covered)


def in_sectors(counts: Counts) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers [B, SECTORS, C] added up by sector, and the mean distance of what is there, [B, SECTORS].

    Tokens without a direction are spread over all sectors.  The distance is NaN where it is not known of most
    of what is there.
    """
    batch, _, channels = counts.numbers.shape
    nowhere = counts.azimuth.isnan()
    turns = counts.azimuth.nan_to_num() / math.tau + 0.5
    sector = ((turns - turns.floor()) * SECTORS).long().clamp(0, SECTORS - 1)
    placed = counts.numbers.masked_fill(nowhere[..., None], 0.)
    sums = counts.numbers.new_zeros(batch, SECTORS, channels)
    sums = sums.scatter_add(1, sector[..., None].expand(-1, -1, channels), placed)
    sums = sums + (counts.numbers - placed).sum(1, keepdim=True) / SECTORS
    each = placed.detach().sum(-1)
    total = each.new_zeros(batch, SECTORS).scatter_add(1, sector, each)
    known = each.masked_fill(counts.distance.isnan(), 0.)
    measured = each.new_zeros(batch, SECTORS).scatter_add(1, sector, known)
    far = each.new_zeros(batch, SECTORS).scatter_add(1, sector, known * counts.distance.nan_to_num())
    return sums, torch.where(measured > total / 2, far / measured, torch.nan)
