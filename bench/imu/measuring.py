"""Accuracy, calibration and confusion of own motion on a drive."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.imu.drives import UNTOLD, ImuDrive, classes
from bench.imu.windows import LONGEST, Window, plain_window
from mpnp_ros.modalities.imu.channels import PACES, SPEEDS, TURNS
from mpnp_ros.modalities.imu.encoder import SURE_ENOUGH
from mpnp_ros.modalities.imu.network import MotionNetwork, inputs_of

NAMES: Mapping[str, Sequence[str]] = {'speed': SPEEDS, 'turn': TURNS, 'pace': PACES}
ECE_BINS = 10
BATCH = 64


@dataclass(frozen=True, eq=False)
class GroupResult:
    """Predictions of a group: probability [N, C] and class [N] of seconds whose class is known."""

    probability: np.ndarray
    right: np.ndarray

    @property
    def accuracy(self) -> float:
        """Return the percentage of seconds whose most probable class is right."""
        return 100 * float((self.probability.argmax(1) == self.right).mean())

    @property
    def majority(self) -> float:
        """Return the percentage of the most frequent class."""
        return 100 * float(np.bincount(self.right).max()) / len(self.right)

    @property
    def balanced(self) -> float:
        """Return the mean percentage right by class, of the classes that occur."""
        hit = self.probability.argmax(1) == self.right
        return 100 * float(np.mean([hit[self.right == each].mean() for each in np.unique(self.right)]))

    @property
    def calibration_error(self) -> float:
        """Return the expected calibration error, points, of the most probable class in ten bins."""
        sure = self.probability.max(1)
        hit = self.probability.argmax(1) == self.right
        place = (sure * ECE_BINS).astype(int).clip(max=ECE_BINS - 1)
        parts = [(place == each) for each in np.unique(place)]
        return 100 * float(sum(abs(sure[part].mean() - hit[part].mean()) * part.mean() for part in parts))

    @property
    def confusion(self) -> np.ndarray:
        """Return how often each class [C, C] was taken for each; rows: the true ones."""
        count = self.probability.shape[1]
        table = np.zeros((count, count), int)
        np.add.at(table, (self.right, self.probability.argmax(1)), 1)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers."""
        return {'seconds': len(self.right), 'accuracy': self.accuracy, 'majority': self.majority,
                'balanced': self.balanced, 'calibration_error': self.calibration_error,
                'confusion': self.confusion.tolist()}


def live_windows(drive: ImuDrive, parts: Sequence[tuple[float, float]], every: float = 2.0,
                 mounted: bool = False) -> Iterator[Window]:
    """Yield the windows that a node would see: every so many seconds, all readings of the last LONGEST
    seconds.

    Only their last second is to be judged.  A part begins without memory.
    """
    for start, end in parts:
        for now in np.arange(start + 5, end, every):
            window = plain_window(drive, max(start, now - LONGEST), now, mounted)
            if len(window.truth):
                yield window


def measured(network: MotionNetwork, windows: Sequence[Window]) -> dict[str, GroupResult]:
    """Return the results of each group in the last seconds of windows; of the pace only where it is known."""
    network.eval()
    found: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    for start in range(0, len(windows), BATCH):
        with torch.inference_mode():
            scores = network(inputs_of([window.features for window in windows[start:start + BATCH]]))
        for name, probabilities in found.items():
            probabilities.append(getattr(scores, name)[:, -1].exp().double().numpy())
    truth = np.concatenate([classes(window.truth[-1:]) for window in windows])
    told = truth != UNTOLD
    told[:, 2] &= np.array([window.features.certainty for window in windows]) > SURE_ENOUGH
    return {name: GroupResult(np.concatenate(found[name])[told[:, place]], truth[told[:, place], place])
            for place, name in enumerate(NAMES) if told[:, place].any()}


def bump_precision(network: MotionNetwork, windows: Sequence[Window]) -> tuple[float, float]:
    """Return the average precision of bumps in the last seconds of windows, and their share, percent."""
    network.eval()
    scores, truth = [], []
    for start in range(0, len(windows), BATCH):
        part = windows[start:start + BATCH]
        with torch.inference_mode():
            scores.append(network(inputs_of([window.features for window in part])).bump[:, -1].numpy())
        truth.append(classes(np.concatenate([window.truth[-1:] for window in part]))[:, 3])
    score, right = np.concatenate(scores), np.concatenate(truth)
    score, right = score[right != UNTOLD], right[right != UNTOLD]
    order = np.argsort(-score, kind='stable')
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(right) + 1)
    return 100 * float((precision * right[order]).sum() / max(1, right.sum())), 100 * float(right.mean())
