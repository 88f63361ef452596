"""What a detector says of an object, classes with scores, as probabilities of existence and of categories."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_ros.detection.calibration import ScoreCalibration
from mpnp_ros.detection.classes import CATEGORY_COUNT
from mpnp_ros.errors import DetectionsError

Hypotheses = Sequence[tuple[str, float]]
"""Classes that one object may be, each with its score."""
TOLD = 0.5
"""A category can be told where some class of the detector means it with at least this probability."""


@dataclass(frozen=True, eq=False)
class NamedObjects:
    """existence [n] and categories [n, 10] of objects; unknown: classes that are in no class map, sorted."""

    existence: np.ndarray
    categories: np.ndarray
    unknown: tuple[str, ...] = ()


class ClassReader:
    """Reads classes by a class map.

    A class is found by its name, also where only capitals, blanks, _ and - differ.  A number is the place of
    the name in ``names``, from 0.
    """

    def __init__(self, class_map: Mapping[str, np.ndarray], names: Sequence[str] = (),
                 calibration: ScoreCalibration | None = None) -> None:
        self._rows = {_plain(name): row for name, row in class_map.items()}
        self._names, self._calibration = tuple(names), calibration or ScoreCalibration()
        self.known = np.max([*class_map.values()], axis=0) >= TOLD
        """Which categories the detector can tell, bool [10]."""

    def row(self, name: str) -> np.ndarray | None:
        """Return the probability of each category of a class, [10]; None: it is in no class map."""
        if name.isdigit() and int(name) < len(self._names):
            name = self._names[int(name)]
        return self._rows.get(_plain(name))

    def read(self, objects: Sequence[Hypotheses]) -> NamedObjects:
        """Return existence and categories of objects; what cannot be any category does not exist.

        Scores that add up to at most 1 are those of one distribution; of others the largest counts.  Raises
        DetectionsError for a score that is no number in 0..1.
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
