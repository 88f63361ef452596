"""Probabilities of existence and of categories from the classes and scores of a detector."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_ros.detection.classes import CATEGORY_COUNT
from mpnp_ros.errors import ConfigurationError, DetectionsError

Hypotheses = Sequence[tuple[str, float]]
"""Classes that one object may be, each with its score."""
KNOWN_FROM = 0.5
"""A category is known where some class of the detector means it with at least this probability."""


class ScoreCalibration:
    """Maps scores to the probabilities that the objects exist; both lie in 0..1.

    Without numbers, scores are probabilities.  One number is the temperature T of
    p = sigmoid(logit(score) / T); it is above 1 for a detector that is too sure.  More numbers are pairs of a
    score and a probability, both rising: between the pairs the map is linear, and beyond them it stays at the
    first or last probability.
    """

    def __init__(self, given: Sequence[float] = ()) -> None:
        """Raise ConfigurationError for numbers that are no calibration."""
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


@dataclass(frozen=True, eq=False)
class NamedObjects:
    """Probabilities of n objects.

    existence: [n].  categories: [n, 10].  unknown: the classes that are in no class map, sorted.
    """

    existence: np.ndarray
    categories: np.ndarray
    unknown: tuple[str, ...] = ()


class ClassReader:
    """Reads the classes of detections by a class map.

    A class is found by its name, also where only capitals, blanks, _ and - differ.  A number is the place of
    the name in ``names``, from 0.
    """

    def __init__(self, class_map: Mapping[str, np.ndarray], names: Sequence[str] = (),
                 calibration: ScoreCalibration | None = None) -> None:
        self._rows = {_plain(name): row for name, row in class_map.items()}
        self._names, self._calibration = tuple(names), calibration or ScoreCalibration()
        self.known = np.max([*class_map.values()], axis=0) >= KNOWN_FROM
        """Which categories the detector can recognise, bool [10]."""

    def row(self, name: str) -> np.ndarray | None:
        """Return the probability of each category of a class, [10]; None: it is in no class map."""
        if name.isdigit() and int(name) < len(self._names):
            name = self._names[int(name)]
        return self._rows.get(_plain(name))

    def read(self, objects: Sequence[Hypotheses]) -> NamedObjects:
        """Return existence and categories of objects; the part that can be no category does not exist.

        Scores of one object that add up to at most 1 are one distribution; of others the largest counts.
        Raises DetectionsError for a score that is no number in 0..1.
        """
        total, mass, unknown = np.zeros(len(objects)), np.zeros((len(objects), CATEGORY_COUNT)), set()
        for place, hypotheses in enumerate(objects):
            scores = np.array([score for _, score in hypotheses], np.float64)
            if not ((scores >= 0) & (scores <= 1)).all():
                odd = scores[~((scores >= 0) & (scores <= 1))][0]
                raise DetectionsError(f'a detection has the score {odd:g}; scores must lie in 0..1')
            summed = scores.sum()
            shares = scores / summed if summed > 0 else np.full(len(scores), 1 / max(1, len(scores)))
            for (name, _), portion in zip(hypotheses, shares, strict=True):
                row = self.row(name)
                if row is None:
                    unknown.add(name)
                else:
                    mass[place] += portion * row
            total[place] = summed if summed <= 1 + 1e-6 else scores.max()
        share = mass.sum(1)
        existence = self._calibration(total.clip(0, 1)) * share
        categories = np.where(share[:, None] > 1e-9, mass / share[:, None].clip(1e-9), 1 / CATEGORY_COUNT)
        return NamedObjects(existence.clip(0, 1), categories, tuple(sorted(unknown)))


def _plain(name: str) -> str:
    return name.strip().lower().replace('_', ' ').replace('-', ' ')
