"""Scores of a head: detection, counting and status, in sixths of the circle."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mpnp_ros.questions.vocabulary import Channel
from mpnp_ros.tokens import SECTORS

DIRECTIONS = 6
ENOUGH = 10
"""Number of sixths that contain a channel, from which on the head may know it."""
BETTER = 0.1
"""Minimum gain of the average precision of a known channel over chance, as a share of the possible gain."""


@dataclass(frozen=True)
class ChannelScore:
    """Score of one channel.

    precision: average precision of its presence in sixths of the circle.  prevalence: share of sixths that
    contain it, the precision of chance.  present: their number.
    """

    precision: float
    prevalence: float
    present: int

    @property
    def known(self) -> bool:
        """Return whether the head knows the channel, see ENOUGH and BETTER.

        A status guessed from the category counts if it is right often enough; the expected numbers contain
        its uncertainty.
        """
        return (self.present >= ENOUGH
                and self.precision - self.prevalence >= BETTER * (1 - self.prevalence))

    def __str__(self) -> str:
        return f'AP {self.precision:.2f} in {self.present} sixths, chance {self.prevalence:.2f}'


@dataclass(frozen=True)
class SectorScores:
    """Scores on some frames.

    precision: average precision of presence by category.  prevalence: precision of chance by category.
    count_error: mean absolute error of the number of a category in a direction; constant_count_error: that of
    the mean number.  status: share of right statuses where a direction holds one object of a category;
    common_status: that of the most common status.  explained: share of the deviance of the counts by sector
    that the head explains; below 0 it is worse than the mean.  channels: scores of each channel.
    """

    precision: Mapping[str, float]
    prevalence: Mapping[str, float]
    count_error: float
    constant_count_error: float
    status: float
    common_status: float
    explained: float
    channels: Mapping[Channel, ChannelScore]

    @property
    def mean_precision(self) -> float:
        """Return the mean over the categories that occur, 0 without any."""
        return sum(self.precision.values()) / max(1, len(self.precision))

    def table(self) -> str:
        """Return the scores as lines of text."""
        rows = [f'  {name:21} {value:.3f}  {self.prevalence[name]:.3f}'
                for name, value in self.precision.items()]
        return '\n'.join([
            'in sixths of the circle  AP  occurs', *rows, f'  {"mean":21} {self.mean_precision:.3f}',
            f'count error {self.count_error:.3f} (always the mean: {self.constant_count_error:.3f}), '
            f'status {self.status:.3f} (always the most common: {self.common_status:.3f}), '
            f'deviance explained {self.explained:.3f}'])

    def to_dict(self) -> dict[str, float]:
        """Return the scores as a flat dictionary for a manifest."""
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, float)}
        numbers |= {'mean_precision': self.mean_precision}
        numbers |= {f'precision of {name}': value for name, value in self.precision.items()}
        return {name: round(value, 4) for name, value in numbers.items()}


def score_sectors(rates: Tensor, counts: Tensor, channels: Sequence[Channel]) -> SectorScores:
    """Return the scores of expected numbers against true ones, both [N, SECTORS, C]."""
    names = list(dict.fromkeys(category for category, _ in channels))
    groups = [[place for place, (category, _) in enumerate(channels) if category == name] for name in names]
    expected, true = by_direction(rates), by_direction(counts)
    found = torch.stack([expected[..., group].sum(-1) for group in groups], -1).flatten(0, 1)
    there = torch.stack([true[..., group].sum(-1) for group in groups], -1).flatten(0, 1)
    present = there > 0.5
    occurring = [place for place in range(len(names)) if present[:, place].any()]
    right = common = total = 0  # statuses: those of the likeliest one, and of the most common one
    for group in (group for group in groups if len(group) > 1):
        single = (true[..., group].sum(-1) == 1) & (true[..., group].amax(-1) == 1)
        answers = true[..., group][single].argmax(-1)
        right += (expected[..., group][single].argmax(-1) == answers).sum().item()
        common += answers.bincount().max().item() if len(answers) else 0
        total += len(answers)
    by_channel = {
        channel: ChannelScore(average_precision(scores, holds), holds.float().mean().item(), int(holds.sum()))
        for channel, scores, holds in zip(channels, expected.flatten(0, 1).T, true.flatten(0, 1).T > 0.5,
                                          strict=True)}
    return SectorScores(
        {names[place]: average_precision(found[:, place], present[:, place]) for place in occurring},
        {names[place]: present[:, place].float().mean().item() for place in occurring},
        (found - there).abs().mean().item(), (there.mean(0) - there).abs().mean().item(),
        right / max(1, total), common / max(1, total), explained_deviance(rates, counts), by_channel)


def by_direction(values: Tensor) -> Tensor:
    """Return sums over the six directions of NuScenes-QA: [N, SECTORS, C] -> [N, 6, C].

    They run counter-clockwise from back right.
    """
    width = SECTORS // DIRECTIONS
    return values.roll(-width // 2, 1).unflatten(1, (DIRECTIONS, width)).sum(2)


def average_precision(scores: Tensor, truth: Tensor) -> float:
    """Return the area under precision over recall of scores [N] for truth [N]; 0 if nothing is true."""
    hits = truth[scores.argsort(descending=True, stable=True)].float()
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return ((precision * hits).sum() / hits.sum().clamp(min=1)).item()


def explained_deviance(rates: Tensor, counts: Tensor) -> float:
    """Return 1 - the Poisson deviance of rates over that of the mean of each channel; 0 if that has none."""
    def deviance(rates: Tensor) -> float:
        return 2 * (torch.xlogy(counts, counts) - torch.xlogy(counts, rates.clamp(min=1e-9))
                    - counts + rates).sum().item()

    reference = deviance(counts.mean((0, 1)).expand_as(counts))
    return 1 - deviance(rates) / reference if reference > 0 else 0.0
