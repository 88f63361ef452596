"""The run of a head's training: steps, rate, checkpoint and the best state, whatever the head finds.

A step depends only on the seed and its number, so a resumed run equals an uninterrupted one.
"""
from __future__ import annotations

import hashlib
import json
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mpnp_ros.errors import ConfigurationError, TrainingError
from mpnp_ros.modalities.camera.ground_network import GroundNetwork
from mpnp_ros.modalities.detection_network import DetectionNetwork
from mpnp_ros.modalities.head_training import HeadInput, PretrainingConfig
from mpnp_ros.modalities.heads import Head, HeadManifest, load_head
from mpnp_ros.questions.vocabulary import CHANNELS, Channel
from mpnp_ros.training.checkpoint import (
    TrainingState,
    link_tensors,
    load_checkpoint,
    restore_links,
    save_checkpoint,
)
from mpnp_ros.training.head_data import recipe_of
from mpnp_ros.training.head_scores import SectorScores

RARE = 0.0015
"""Probability of an object in a cell that an untrained head gives."""


@dataclass(frozen=True)
class PretrainingStep:
    """Progress after one step.

    step: its number from 1.  steps: their number.  loss: of the step.  validation: newest value on the
    validation set, the larger the better; None before the first.
    """

    step: int
    steps: int
    loss: float
    validation: float | None


@dataclass(frozen=True)
class PretrainingReport:
    """Result of a run.

    stopped: reason of its end: epochs, patience or cancelled.  history: (step, value) on the validation set
    after each epoch: deviance explained for counts by direction, minus the loss for detections.  scores: of
    the network at the end.  known: channels that occur in training and that the head can tell, see
    ChannelScore.known.  calibration: of detections, as in HeadManifest.
    """

    stopped: str
    steps: int
    losses: tuple[float, ...]
    history: tuple[tuple[int, float], ...]
    scores: SectorScores
    seconds: float
    known: tuple[Channel, ...]
    calibration: tuple[float, ...] = ()


def new_head(source: HeadInput, config: PretrainingConfig, form: str = 'sectors',
             start: str | Path | None = None) -> Head:
    """Return a head to train for some inputs.

    form: as in HeadManifest.  start: name or folder of a head that finds objects, whose weights it begins
    with; None: it is untrained.  Raises ConfigurationError where that head is of another form or shape.
    """
    names = ('hidden', 'ring', 'depth', 'dropout') if form == 'sectors' else ('hidden',)
    shape = {**source.shape, **{name: getattr(config, name) for name in names}}
    manifest = HeadManifest(source.kind, CHANNELS, config.max_distance, config.min_points, source.backbone,
                            dict(source.options), shape, provenance=f'inputs {recipe_of(source)[:12]}',
                            form=form)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        head = Head(manifest, manifest.build())
        if isinstance(head.network, DetectionNetwork | GroundNetwork):
            head.network.start_at(RARE)
    if start is None:
        return head
    if form != 'detections':
        raise ConfigurationError(f'heads of the form {form} start anew; leave out head {start}, or choose '
                                 'the form detections')
    first = load_head(start, source.kind, source.backbone)
    for name in ('form', 'shape', 'input'):
        has, needed = getattr(first.manifest, name), getattr(manifest, name)
        if has != needed:
            raise ConfigurationError(f'training cannot start with head {start}: its {name} is {has}; that of '
                                     f'the head to train is {needed}')
    head.network.load_state_dict(first.network.state_dict())
    return replace(head, manifest=replace(manifest, provenance=f'{manifest.provenance}, after '
                                                               f'{first.manifest.sha256[:12]}'))


class HeadRun(ABC):
    """One training of a head; a subclass gives the loss of a step and the value of the network.

    network: of the head, initialised.  frames: number of training frames.  data: what the frames are, for the
    identity of the run.  folder: of the checkpoint; None: there is none.
    """

    def __init__(self, head: Head, frames: int, data: object, config: PretrainingConfig,
                 folder: Path | None) -> None:
        self.head, self.config, self.frames, self.folder = head, config, frames, folder
        self.epoch_steps = max(1, frames // config.batch)
        self.steps = config.epochs * self.epoch_steps
        manifest = head.manifest
        text = json.dumps([asdict(config), manifest.kind, manifest.shape, manifest.provenance, data],
                          sort_keys=True)
        self.identity = hashlib.sha256(text.encode()).hexdigest()
        # no weight decay on vectors such as biases
        parameters = [parameter for parameter in head.network.parameters() if parameter.requires_grad]
        groups = [{'params': [parameter for parameter in parameters if (parameter.ndim > 1) == matrix],
                   'weight_decay': config.weight_decay if matrix else 0.0} for matrix in (True, False)]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.state = TrainingState()
        if folder is not None:
            self.state = load_checkpoint(folder, self.identity, self.links, self.optimiser)

    @abstractmethod
    def loss(self, places: Sequence[int], rng: random.Random) -> Tensor:
        """Return the loss on some training frames, changed at random."""

    @abstractmethod
    def value(self) -> float:
        """Return how good the network is on the validation set; it may calibrate the network for that."""

    @property
    def links(self) -> dict[str, nn.Module]:
        """Return the network as checkpoints name it."""
        return {'head': self.head.network}

    def work(self, progress: Callable[[PretrainingStep], None], cancelled: Callable[[], bool]) -> str:
        """Run from the first step, or from the checkpoint, to the last; return why it ended.

        The network ends in its state at the best validation.
        """
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
            restore_links(self.links, self.state.best)
        return stopped

    def _step(self) -> float:
        """Train on the frames of one step; return the loss.  Every epoch has its own order."""
        started, state, config = time.perf_counter(), self.state, self.config
        for group in self.optimiser.param_groups:
            group['lr'] = config.learning_rate * config.rate(state.step, self.steps)
        epoch, step = divmod(state.step, self.epoch_steps)
        order = list(range(self.frames))
        random.Random(f'{config.seed}/epoch {epoch}').shuffle(order)
        places = order[step * config.batch:(step + 1) * config.batch]
        self.head.network.train()
        loss = self.loss(places, random.Random(f'{config.seed}/{state.step}'))
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.head.network.parameters(), config.clip)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise TrainingError(f'the loss is {value} at step {state.step + 1}; try a lower learning rate')
        self.optimiser.step()
        state.step += 1
        state.losses.append(value)
        state.seconds += time.perf_counter() - started
        return value

    def _evaluate(self) -> None:
        """Measure the network, and keep it if it is the best."""
        before = link_tensors(self.links)
        value = self.value()
        if value > max((value for _, value in self.state.accuracies), default=-math.inf):
            self.state.best = link_tensors(self.links)
        restore_links(self.links, before)
        self.state.accuracies.append((self.state.step, value))
        self._save()

    def _finished(self) -> str | None:
        """Return why training ends, None if it does not."""
        if self.state.step >= self.steps:
            return 'epochs'
        return 'patience' if 0 < self.config.patience <= self.state.evaluations_since_best else None

    def _save(self) -> None:
        if self.folder is not None:
            save_checkpoint(self.folder, self.identity, self.state, self.links, self.optimiser)
