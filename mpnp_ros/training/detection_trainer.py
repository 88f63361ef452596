"""Training of heads that find objects in a polar grid.

The cell in which the middle of an object lies is trained to say so, and what the object is and where in the
cell.  Objects with fewer points than count are not there.
"""
from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor
from torch.nn import functional

from mpnp_ros.modalities.camera.ground_network import STRIDE, GroundNetwork
from mpnp_ros.modalities.detection_network import CENTRE, KINDS, OFFSETS, STATES, DetectionNetwork
from mpnp_ros.modalities.grid_objects import GridObjects, find
from mpnp_ros.modalities.head_training import Inputs, PretrainingConfig
from mpnp_ros.modalities.heads import Head
from mpnp_ros.modalities.lidar.detection_grid import BEFORE
from mpnp_ros.questions.vocabulary import CATEGORY_OF_CHANNEL, CHANNELS
from mpnp_ros.tokens import SECTORS, sector_of
from mpnp_ros.training.detection_data import UNKNOWN, Cells, DetectionDataset
from mpnp_ros.training.head_data import HEADINGS
from mpnp_ros.training.head_run import HeadRun, PretrainingReport, PretrainingStep
from mpnp_ros.training.head_scores import score_sectors

BRIGHTER, LIGHTER = 0.15, 0.03
"""Deviations of the factor of brightness, as a logarithm, and of what is added, where white is 1."""
STATUS_WEIGHT, OFFSET_WEIGHT = 0.7, 0.5
"""Weights of these parts of the loss; existence and category have 1."""
SHORT = 0.2
"""Metres of an offset from which on its loss is linear."""
NEAR = 2.0
"""Metres within which a found object is the true one, as of nuScenes."""
KNOTS = 12
"""Pairs of a calibration, at most."""


def pretrain_detections(head: Head, train: DetectionDataset, validation: DetectionDataset,
                        config: PretrainingConfig,
                        progress: Callable[[PretrainingStep], None] | None = None,
                        cancelled: Callable[[], bool] | None = None,
                        checkpoint: str | Path | None = None) -> PretrainingReport:
    """Train the network of a head that finds objects; arguments as of head_trainer.pretrain."""
    run = _DetectionRun(head, train, validation, config, Path(checkpoint) if checkpoint else None)
    stopped = run.work(progress or (lambda step: None), cancelled or (lambda: False))
    found = run.found()
    counts = torch.stack([torch.from_numpy(targets.counted.counts()) for targets in validation.targets])
    calibration = fitted_calibration(found, validation)
    rates = torch.stack([torch.from_numpy(sector_counts(each, calibration, config.max_distance))
                         for each in found])
    scores, state = score_sectors(rates, counts, CHANNELS), run.state
    learned = set(np.concatenate([targets.channel for targets in train.targets]).tolist())
    known = tuple(channel for place, channel in enumerate(CHANNELS)
                  if place in learned and scores.channels[channel].known)
    return PretrainingReport(stopped, state.step, tuple(state.losses), tuple(state.accuracies), scores,
                             state.seconds, known, calibration)


class _DetectionRun(HeadRun):
    """One call of :func:`pretrain_detections`."""

    def __init__(self, head: Head, train: DetectionDataset, validation: DetectionDataset,
                 config: PretrainingConfig, folder: Path | None) -> None:
        self.train, self.validation = train, validation
        self.network = cast('DetectionNetwork | GroundNetwork', head.network)
        objects = [[targets.position.tolist(), targets.channel.tolist()] for targets in train.targets]
        super().__init__(head, len(train), [train.scenes, validation.scenes, objects], config, folder)

    def loss(self, places: Sequence[int], rng: random.Random) -> Tensor:
        """See HeadRun: frames are turned at random, what some cameras or the past show is left out."""
        headings = [rng.randrange(HEADINGS) for _ in places]
        inputs, cells = self.train.batch(places, headings, rng.random() < 0.5)
        for row in range(len(places)):
            if rng.random() < self.config.hide_earlier:
                hide_earlier(inputs, row)
            if 'images' in inputs:
                vary_images(inputs, row, rng, self.config.hide_views)
        return detection_loss(self._maps(inputs), cells)

    def value(self) -> float:
        """See HeadRun: minus the loss on unchanged frames."""
        self.network.eval()
        total = weight = 0.
        with torch.inference_mode():
            for places in self._batches():
                inputs, cells = self.validation.batch(places)
                count = max(1, len(cells.frame))
                total += detection_loss(self._maps(inputs), cells).item() * count
                weight += count
        return -total / max(1., weight)

    def found(self) -> list[GridObjects]:
        """Return what the network finds in each frame of the validation set."""
        self.network.eval()
        with torch.inference_mode():
            return [find(maps) for places in self._batches()
                    for maps in self.network(**self.validation.batch(places)[0])]

    def _maps(self, inputs: Inputs) -> Tensor:
        with torch.autocast('cpu', torch.bfloat16, enabled=self.config.dtype == 'bfloat16'):
            maps: Tensor = self.network(**inputs)
        return maps

    def _batches(self) -> list[range]:
        count, batch = len(self.validation), self.config.batch
        return [range(start, min(start + batch, count)) for start in range(0, count, batch)]


def hide_earlier(inputs: Inputs, row: int) -> None:
    """Take the earlier reading out of a frame of a batch, in place."""
    if 'grid' in inputs:
        inputs['grid'][row, BEFORE:] = 0
    else:
        inputs['known'][row] = 0


def vary_images(inputs: Inputs, row: int, rng: random.Random, share: float) -> None:
    """Make the images of a frame of a batch brighter or darker, and hide a view of some, in place.

    share: of the frames of which a view is hidden.
    """
    inputs['images'][row] = inputs['images'][row] * math.exp(rng.gauss(0, BRIGHTER)) + rng.gauss(0, LIGHTER)
    if rng.random() < share:
        views, height, width = (inputs['images'].shape[place] for place in (2, 4, 5))
        seen = height // STRIDE * (width // STRIDE)
        hidden = rng.randrange(views)
        for name in ('rows', 'earlier_rows'):
            rows = inputs[name][row]
            rows[rows // seen == hidden] = views * seen


def detection_loss(maps: Tensor, cells: Cells) -> Tensor:
    """Return the loss of an object, of the output of a network [B, OFFSETS.stop, A, R]."""
    there = torch.zeros_like(maps[:, CENTRE])
    there[cells.frame, cells.azimuth, cells.ring] = 1
    count = max(1, len(cells.frame))
    existence = functional.binary_cross_entropy_with_logits(maps[:, CENTRE], there, reduction='sum')
    own = maps[cells.frame, :, cells.azimuth, cells.ring]
    category = functional.cross_entropy(own[:, KINDS], cells.category, reduction='sum')
    told = cells.channel != UNKNOWN
    others = torch.tensor(CATEGORY_OF_CHANNEL) != cells.category[told, None]
    status = functional.cross_entropy(own[told, STATES].masked_fill(others, -30.), cells.channel[told],
                                      reduction='sum')
    offset = functional.smooth_l1_loss(own[:, OFFSETS], cells.offsets, beta=SHORT, reduction='sum') / 2
    return (existence + category + STATUS_WEIGHT * status + OFFSET_WEIGHT * offset) / count


def sector_counts(found: GridObjects, calibration: Sequence[float], max_distance: float) -> np.ndarray:
    """Return the expected number of objects by sector up to a distance, float32 [SECTORS, 24]."""
    near = np.hypot(*found.position.T) <= max_distance
    chance = np.interp(found.mass, *np.array(calibration).reshape(-1, 2).T)
    values = chance[:, None] * found.categories[:, CATEGORY_OF_CHANNEL] * found.statuses
    counts = np.zeros((SECTORS, len(CHANNELS)), np.float32)
    np.add.at(counts, sector_of(np.arctan2(*found.position.T[::-1]))[near], values[near])
    return counts


def fitted_calibration(found: Sequence[GridObjects], dataset: DetectionDataset) -> tuple[float, ...]:
    """Return the pairs of mass and probability, see HeadManifest, of what was found in the frames."""
    mass = np.concatenate([each.mass for each in found])
    right = np.concatenate([are_true(each, targets.position)
                            for each, targets in zip(found, dataset.targets, strict=True)])
    if not len(mass):
        return 0., 0., 1., 1.
    order = np.argsort(mass, kind='stable')
    groups = np.array_split(order, min(KNOTS, len(order)))
    chance = isotonic_regression([right[group].mean() for group in groups],
                                 weights=[len(group) for group in groups]).x
    pairs = [(0., 0.), *zip((mass[group].mean() for group in groups), chance, strict=True)]
    return tuple(round(float(number), 4) for pair in pairs for number in pair)


def are_true(found: GridObjects, position: np.ndarray) -> np.ndarray:
    """Return which found objects, the surest first, are true ones at ``position`` [N, 2], each once."""
    right = np.zeros(len(found.mass), bool)
    free = np.ones(len(position), bool)
    for row, place in enumerate(found.position):
        apart = np.where(free, np.hypot(*(position - place).T), np.inf)
        if len(apart) and apart.min() < NEAR:
            right[row], free[apart.argmin()] = True, False
    return right
