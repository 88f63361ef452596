"""Scores of detectors as probabilities that the object is there."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpnp_ros.errors import ConfigurationError


class ScoreCalibration:
    """Maps scores to probabilities, both 0..1, never falling.

    Nothing given: as they are.  One number: the temperature T, p = sigmoid(logit(score) / T); above 1 for a
    detector that is too sure.  Pairs of a score and a probability, both rising: straight lines between them,
    and beyond them the first and the last probability.
    """

    def __init__(self, given: Sequence[float] = ()) -> None:
        """Raises ConfigurationError for anything else."""
        if problem := calibration_problem(given):
            raise ConfigurationError(problem)
        self._temperature = given[0] if len(given) == 1 else 1.
        self._table = np.asarray(given, np.float64).reshape(-1, 2) if len(given) > 1 else None

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return the probabilities [n] of scores [n]."""
        if self._table is not None:
            return np.interp(scores, *self._table.T)
        if self._temperature == 1:
            return scores
        with np.errstate(divide='ignore', over='ignore'):
            odds = (np.log(scores) - np.log1p(-scores)) / self._temperature
            return 1 / (1 + np.exp(-odds))


def calibration_problem(given: Sequence[float]) -> str:
    """Return why these numbers are no calibration; empty where they are one."""
    if len(given) == 1:
        return '' if given[0] > 0 else f'the temperature of a calibration is {given[0]:g}; it must be above 0'
    if len(given) % 2:
        return f'a calibration has {len(given)} numbers; give one temperature, or pairs of score, probability'
    scores, chances = list(given[::2]), list(given[1::2])
    if any(not 0 <= value <= 1 for value in given):
        return 'scores and probabilities of a calibration must lie in 0..1'
    if any(after <= before for before, after in zip(scores, scores[1:], strict=False)):
        return f'the scores of a calibration must rise; they are {scores}'
    if any(after < before for before, after in zip(chances, chances[1:], strict=False)):
        return f'the probabilities of a calibration must not fall; they are {chances}'
    return ''
