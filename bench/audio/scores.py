"""Scores of probabilities against truths: average precision, calibration error, Brier score, intervals."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

BINS, DRAWS = 10, 1000


def average_precision(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the mean over the true ones of the precision down to each; equal scores count as mixed."""
    if not truth.any():
        return float('nan')
    order = np.argsort(-score, kind='stable')
    truth, score = truth[order].astype(np.float64), score[order]
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # of each group of equal scores
    hits, seen = np.cumsum(truth)[last], last + 1.0
    return float((np.diff(hits, prepend=0.0) * hits / seen).sum() / truth.sum())


def calibration_error(truth: np.ndarray, probability: np.ndarray) -> float:
    """Return the mean difference of probability and frequency over BINS equal intervals, 0 to 1."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    return float(sum(abs(probability[mine].mean() - truth[mine].mean()) * mine.mean()
                     for mine in (place == each for each in np.unique(place))))


def interval(groups: Sequence[str], measure: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """Return the 95 % interval of a measure of row numbers, over draws of whole groups."""
    rng = np.random.default_rng(0)
    names, place = np.unique(np.array(groups), return_inverse=True)
    rows = [np.flatnonzero(place == each) for each in range(len(names))]
    values = [measure(np.concatenate([rows[each] for each in rng.integers(0, len(rows), len(rows))]))
              for _ in range(DRAWS)]
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
