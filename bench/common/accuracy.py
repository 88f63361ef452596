"""Right answers, and percentages with intervals over seeds and scenes."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_ros.training.dataset import Example

DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """Percent right: mean over seeds, 95 % interval, number of questions of each seed."""

    mean: float
    ci95: tuple[float, float]
    n: int

    def __str__(self) -> str:
        return f'{self.mean:.1f} [{self.ci95[0]:.1f}, {self.ci95[1]:.1f}]'


def right_answers(examples: Sequence[Example], answers: Sequence[str | None]) -> list[int]:
    """1 for each question with a right answer, 0 for the others, in order."""
    return [int(answer == example.answer) for example, answer in zip(examples, answers, strict=True)]


def percent(right: Sequence[int]) -> float:
    """The share of right answers in percent."""
    return 100 * float(np.mean(right))


def estimate(right: np.ndarray, scenes: np.ndarray) -> Estimate:
    """Mean and 95 % interval by the bootstrap over seeds and scenes.

    right: [seeds, questions] 0 or 1.  scenes: [questions].  Questions of one scene are correlated, so scenes
    are resampled, not questions; seeds are resampled too.
    """
    names, place = np.unique(scenes, return_inverse=True)
    hits = np.stack([np.bincount(place, answers, len(names)) for answers in right])
    sizes = np.bincount(place, minlength=len(names))
    rng = np.random.default_rng(0)
    seeds = rng.integers(len(right), size=(DRAWS, len(right)))
    chosen = rng.integers(len(names), size=(DRAWS, len(names)))
    drawn = np.array([hits[some][:, parts].sum() / (len(some) * sizes[parts].sum())
                      for some, parts in zip(seeds, chosen, strict=True)])
    low, high = np.percentile(100 * drawn, [2.5, 97.5])
    return Estimate(100 * float(right.mean()), (float(low), float(high)), right.shape[1])
