"""Training of heads on the objects of key frames: a few minutes on one core.

The counts in sectors are Poisson distributed.  Presence is also trained in windows of many widths, like those
of questions.  A step depends only on the seed and its number, so a resumed run equals an uninterrupted one.
"""
from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mpnp_ros.errors import TrainingError
from mpnp_ros.modalities.head_training import HeadInput, PretrainingConfig
from mpnp_ros.modalities.heads import Head, HeadManifest
from mpnp_ros.questions.vocabulary import CHANNELS, Channel
from mpnp_ros.training.checkpoint import (
    TrainingState,
    link_tensors,
    load_checkpoint,
    restore_links,
    save_checkpoint,
)
from mpnp_ros.training.head_data import HEADINGS, SectorDataset, recipe_of
from mpnp_ros.training.head_scores import SectorScores, score_sectors

WINDOWS = (1, 3, 6, 12, 36, 72)
"""Widths of the windows for presence, in sectors."""
CALIBRATED_ON = 256
"""Frames by which counts are calibrated before each evaluation."""
PRIOR = 5.0
"""Objects added to both totals of a category, so that rare ones are scaled less."""


@dataclass(frozen=True)
class PretrainingStep:
    """Progress after one step: its number from 1, number of steps, loss, newest explained deviance."""

    step: int
    steps: int
    loss: float
    explained: float | None


@dataclass(frozen=True)
class PretrainingReport:
    """Result of a run.

    stopped: reason of its end: epochs, patience or cancelled.  history: (step, deviance explained) on the
    validation set after each epoch.  scores: of the network at the end.  known: channels that occur in
    training and that the head can tell, see ChannelScore.known.
    """

    stopped: str
    steps: int
    losses: tuple[float, ...]
    history: tuple[tuple[int, float], ...]
    scores: SectorScores
    seconds: float
    known: tuple[Channel, ...]


def new_head(source: HeadInput, config: PretrainingConfig) -> Head:
    """Return an untrained head for some inputs."""
    shape = dict(source.shape)
    shape |= {name: getattr(config, name) for name in ('hidden', 'ring', 'depth', 'dropout')}
    manifest = HeadManifest(source.kind, CHANNELS, config.max_distance, config.min_points, source.backbone,
                            dict(source.options), shape, provenance=f'inputs {recipe_of(source)[:12]}')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Head(manifest, manifest.build())


def pretrain(head: Head, train: SectorDataset, validation: SectorDataset, config: PretrainingConfig,
             progress: Callable[[PretrainingStep], None] | None = None,
             cancelled: Callable[[], bool] | None = None,
             checkpoint: str | Path | None = None) -> PretrainingReport:
    """Train the network of a head; it ends in its state at the best validation.

    progress: called after every step.  cancelled: called before every step.  checkpoint: folder that is
    written after every epoch and at the end, and from which a stopped run resumes.  Raises TrainingError if
    the loss is not finite.
    """
    run = _Run(head, train, validation, config, Path(checkpoint) if checkpoint else None)
    return run.work(progress or (lambda step: None), cancelled or (lambda: False))


class _Run:
    """One call of :func:`pretrain`."""

    def __init__(self, head: Head, train: SectorDataset, validation: SectorDataset,
                 config: PretrainingConfig, folder: Path | None) -> None:
        self.head, self.train, self.validation, self.config = head, train, validation, config
        self.network, self.folder = head.network, folder
        self.epoch_steps = max(1, len(train) // config.batch)
        self.steps = config.epochs * self.epoch_steps
        places = random.Random(f'{config.seed}/sample').sample(range(len(train)), len(train))
        self.sample = train.part(places[:CALIBRATED_ON])
        # start with the mean numbers of the training set, and standardise by its features
        counts = torch.stack([torch.from_numpy(targets.counts()) for targets in train.targets])
        self.network.rates.start_at(counts.mean((0, 1)))
        features = train.inputs['features' if 'features' in train.inputs else 'grid']
        self.network.standardise(features[::max(1, len(train) // 64)])
        # no weight decay on vectors such as biases
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        groups = [{'params': [parameter for parameter in parameters if (parameter.ndim > 1) == matrix],
                   'weight_decay': config.weight_decay if matrix else 0.0} for matrix in (True, False)]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.state = TrainingState()
        if folder is not None:
            self.state = load_checkpoint(folder, self._identity(), {'head': self.network}, self.optimiser)

    def work(self, progress: Callable[[PretrainingStep], None],
             cancelled: Callable[[], bool]) -> PretrainingReport:
        """Run from the first step, or from the checkpoint, to the last."""
        stopped = self._finished()
        while stopped is None:
            if cancelled():
                stopped = 'cancelled'
                break
            loss, state = self._step(), self.state
            if state.step % self.epoch_steps == 0:
                self._evaluate()
            newest = state.accuracies[-1][1] if state.accuracies else None
            progress(PretrainingStep(state.step, self.steps, loss, newest))
            stopped = self._finished()
        self._save()
        if self.state.best is not None:
            restore_links({'head': self.network}, self.state.best)
        state, scores = self.state, evaluate_head(self.head, self.validation, self.config.batch)
        learned = np.max([(targets.weights > 0.5).any(0) for targets in self.train.targets], axis=0)
        known = tuple(channel for channel, occurs in zip(self.head.manifest.channels, learned, strict=True)
                      if occurs and scores.channels[channel].known)
        return PretrainingReport(stopped, state.step, tuple(state.losses), tuple(state.accuracies), scores,
                                 state.seconds, known)

    def _step(self) -> float:
        """Train on the frames of one step; return the loss."""
        started, state, config = time.perf_counter(), self.state, self.config
        for group in self.optimiser.param_groups:
            group['lr'] = config.learning_rate * config.rate(state.step, self.steps)
        loss = self._loss(random.Random(f'{config.seed}/{state.step}'))
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise TrainingError(f'the loss is {value} at step {state.step + 1}; try a lower learning rate')
        self.optimiser.step()
        state.step += 1
        state.losses.append(value)
        state.seconds += time.perf_counter() - started
        return value

    def _loss(self, rng: random.Random) -> Tensor:
        """Return the loss on the frames of this step, turned at random; every epoch has its own order."""
        epoch, step = divmod(self.state.step, self.epoch_steps)
        order = list(range(len(self.train)))
        random.Random(f'{self.config.seed}/epoch {epoch}').shuffle(order)
        places = order[step * self.config.batch:(step + 1) * self.config.batch]
        views = self.train.inputs['edges'].shape[1] if 'edges' in self.train.inputs else 0
        hidden: list[list[int]] = []  # some of the views of a frame, never all
        for _ in places:
            hide = rng.random() < self.config.hide_views and views > 1
            hidden.append(rng.sample(range(views), rng.randrange(1, views)) if hide else [])
        inputs, counts = self.train.batch(places, [rng.randrange(HEADINGS) for _ in places],
                                          rng.random() < 0.5, hidden if views else ())
        self.network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.randrange(2 ** 31))
            log_rates = self.network(**inputs)
        return sector_loss(log_rates, counts, rng.choice(WINDOWS), self.config.presence,
                           self.network.rates.member)

    def _evaluate(self) -> None:
        """Calibrate and measure the network, and keep it if it is the best."""
        links = {'head': self.network}
        before = link_tensors(links)
        calibrate_counts(self.head, self.sample, self.config.batch)
        explained = evaluate_head(self.head, self.validation, self.config.batch).explained
        if explained > max((value for _, value in self.state.accuracies), default=-math.inf):
            self.state.best = link_tensors(links)
        restore_links(links, before)
        self.state.accuracies.append((self.state.step, explained))
        self._save()

    def _finished(self) -> str | None:
        """Return why training ends, None if it does not."""
        if self.state.step >= self.steps:
            return 'epochs'
        return 'patience' if 0 < self.config.patience <= self.state.evaluations_since_best else None

    def _save(self) -> None:
        if self.folder is not None:
            save_checkpoint(self.folder, self._identity(), self.state, {'head': self.network},
                            self.optimiser)

    def _identity(self) -> str:
        """Return a sha256 of everything that must be equal to resume a run."""
        manifest = self.head.manifest
        objects = [[targets.azimuth.tolist(), targets.weights.tolist()] for targets in self.train.targets]
        text = json.dumps([asdict(self.config), manifest.kind, manifest.shape, manifest.provenance,
                           self.train.scenes, self.validation.scenes, objects], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


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
