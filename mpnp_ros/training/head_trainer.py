"""Training of heads on the objects of key frames: a few minutes on one core.

The counts in sectors are Poisson distributed.  Presence is also trained in windows of many widths, like those
of questions.  A step depends only on the seed and its number, so a resumed run equals an uninterrupted one.
"""
from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpnp_ros.modalities.head_training import PretrainingConfig
from mpnp_ros.modalities.heads import Head
from mpnp_ros.training.head_data import HEADINGS, SectorDataset
from mpnp_ros.training.head_run import HeadRun, PretrainingReport, PretrainingStep
from mpnp_ros.training.head_scores import SectorScores, score_sectors

WINDOWS = (1, 3, 6, 12, 36, 72)
"""Widths of the windows for presence, in sectors."""
CALIBRATED_ON = 256
"""Frames by which counts are calibrated before each evaluation."""
PRIOR = 5.0
"""Objects added to both totals of a category, so that rare ones are scaled less."""


def pretrain(head: Head, train: SectorDataset, validation: SectorDataset, config: PretrainingConfig,
             progress: Callable[[PretrainingStep], None] | None = None,
             cancelled: Callable[[], bool] | None = None,
             checkpoint: str | Path | None = None) -> PretrainingReport:
    """Train the network of a head; it ends in its state at the best validation.

    progress: called after every step.  cancelled: called before every step.  checkpoint: folder that is
    written after every epoch and at the end, and from which a stopped run resumes.  Raises TrainingError if
    the loss is not finite.
    """
    run = _SectorRun(head, train, validation, config, Path(checkpoint) if checkpoint else None)
    stopped = run.work(progress or (lambda step: None), cancelled or (lambda: False))
    state, scores = run.state, evaluate_head(head, validation, config.batch)
    learned = np.max([(targets.weights > 0.5).any(0) for targets in train.targets], axis=0)
    known = tuple(channel for channel, occurs in zip(head.manifest.channels, learned, strict=True)
                  if occurs and scores.channels[channel].known)
    return PretrainingReport(stopped, state.step, tuple(state.losses), tuple(state.accuracies), scores,
                             state.seconds, known)


class _SectorRun(HeadRun):
    """One call of :func:`pretrain`."""

    def __init__(self, head: Head, train: SectorDataset, validation: SectorDataset,
                 config: PretrainingConfig, folder: Path | None) -> None:
        self.train, self.validation, self.network = train, validation, head.network
        places = random.Random(f'{config.seed}/sample').sample(range(len(train)), len(train))
        self.sample = train.part(places[:CALIBRATED_ON])
        # start with the mean numbers of the training set, and standardise by its features
        counts = torch.stack([torch.from_numpy(targets.counts()) for targets in train.targets])
        self.network.rates.start_at(counts.mean((0, 1)))
        features = train.inputs['features' if 'features' in train.inputs else 'grid']
        self.network.standardise(features[::max(1, len(train) // 64)])
        objects = [[targets.azimuth.tolist(), targets.weights.tolist()] for targets in train.targets]
        super().__init__(head, len(train), [train.scenes, validation.scenes, objects], config, folder)

    def loss(self, places: Sequence[int], rng: random.Random) -> Tensor:
        """See HeadRun: frames are turned at random, and some views of some frames are left out, never all."""
        views = self.train.inputs['edges'].shape[1] if 'edges' in self.train.inputs else 0
        hidden: list[list[int]] = []
        for _ in places:
            hide = rng.random() < self.config.hide_views and views > 1
            hidden.append(rng.sample(range(views), rng.randrange(1, views)) if hide else [])
        inputs, counts = self.train.batch(places, [rng.randrange(HEADINGS) for _ in places],
                                          rng.random() < 0.5, hidden if views else ())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.randrange(2 ** 31))
            log_rates = self.network(**inputs)
        return sector_loss(log_rates, counts, rng.choice(WINDOWS), self.config.presence,
                           self.network.rates.member)

    def value(self) -> float:
        """See HeadRun: the deviance that is explained once counts are calibrated."""
        calibrate_counts(self.head, self.sample, self.config.batch)
        return evaluate_head(self.head, self.validation, self.config.batch).explained


def sector_loss(log_rates: Tensor, counts: Tensor, window: int, presence: float, member: Tensor) -> Tensor:
    """Return the negative log-likelihood of the counts, and of presence in all windows of some width.

    log_rates, counts: [B, SECTORS, C].  presence: weight of the latter.  member: [C, G], channels to
    categories, whose presence counts too.
    """
    rates = log_rates.exp()
    likelihood = (rates - counts * log_rates).sum(-1).mean()
    expected, there = (window_sums(torch.cat([values, values @ member], -1), window)
                       for values in (rates, counts))
    absent = expected.clamp(min=1e-6)
    surprise = torch.where(there > 0.5, -torch.log(-torch.expm1(-absent)), absent)
    return likelihood + presence * surprise.sum(-1).mean() / math.sqrt(window)


def window_sums(values: Tensor, window: int) -> Tensor:
    """Return sums over each window of neighbouring sectors around the circle, [B, SECTORS, C] as given."""
    around = torch.cat([values, values[:, :window - 1]], 1)
    return around.unfold(1, window, 1).sum(-1)


@torch.inference_mode()
def expected_counts(head: Head, dataset: SectorDataset, batch: int = 32) -> tuple[Tensor, Tensor]:
    """Return the expected and the true numbers of a data set, both [N, SECTORS, C]."""
    head.network.eval()
    pairs = []
    for start in range(0, len(dataset), batch):
        inputs, counts = dataset.batch(range(start, min(start + batch, len(dataset))))
        pairs.append((head.network(**inputs).exp(), counts))
    rates, counts = zip(*pairs, strict=True)
    return torch.cat(rates), torch.cat(counts)


@torch.no_grad()
def calibrate_counts(head: Head, dataset: SectorDataset, batch: int = 32) -> None:
    """Scale the expected numbers of each category to the true total.

    Dropout makes the log rates noisy in training; the mean of their exponential exceeds the exponential of
    their mean, so without dropout the network would count too few.
    """
    rates = head.network.rates
    expected, true = (values.sum((0, 1)) @ rates.member for values in expected_counts(head, dataset, batch))
    rates.category.bias += ((true + PRIOR) / (expected + PRIOR)).log()


def evaluate_head(head: Head, dataset: SectorDataset, batch: int = 32) -> SectorScores:
    """Return the scores of a head on unchanged frames."""
    expected, true = expected_counts(head, dataset, batch)
    return score_sectors(expected, true, head.manifest.channels)
