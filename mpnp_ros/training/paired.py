"""Whether one of two methods answers the same questions better, or whether that cannot be told."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

LEVEL = .05
"""Probability below which a difference does not count as chance."""
EXACT, DRAWS = 12, 20_000
"""Number of moments up to which all exchanges are looked at; otherwise, how many random ones."""
RESAMPLED = 4000
BETTER, WORSE, ALIKE = 'better', 'worse', 'not distinguishable'


@dataclass(frozen=True)
class PairedDifference:
    """Difference of the shares of right answers of two methods to the same questions.

    value: share of the first minus that of the second.  interval: 95 %, by resampling moments.  chance:
    probability of such a difference where both are equally good: that of exchanging their answers to all
    questions of a moment at once (permutation test; Good, Permutation Tests, 2000).  n: questions.
    """

    value: float
    interval: tuple[float, float]
    chance: float
    n: int
    moments: int

    @property
    def verdict(self) -> str:
        """Return BETTER, WORSE or ALIKE, of the first method."""
        if self.chance >= LEVEL:
            return ALIKE
        return BETTER if self.value > 0 else WORSE

    @property
    def can_tell(self) -> bool:
        """Return whether so few moments could show any difference at all: it takes six."""
        return 2 * .5 ** self.moments < LEVEL

    @classmethod
    def of(cls, first: Sequence[bool], second: Sequence[bool], moments: Sequence[str]) -> PairedDifference:
        """Compare; for each question whether either answer is right, and its moment.

        Questions about one moment are not independent of each other.  Raises ValueError without questions.
        """
        names = sorted(set(moments))
        place = {name: number for number, name in enumerate(names)}
        gains, sizes = np.zeros(len(names)), np.zeros(len(names))
        for right, other, moment in zip(first, second, moments, strict=True):
            gains[place[moment]] += right - other
            sizes[place[moment]] += 1
        if not names:
            raise ValueError('no questions to compare')
        rng = np.random.default_rng(0)
        drawn = rng.integers(0, len(names), (RESAMPLED, len(names)))
        low, high = np.quantile(gains[drawn].sum(1) / sizes[drawn].sum(1), (.025, .975))
        signs = np.array(list(product((1, -1), repeat=len(names)))) if len(names) <= EXACT else \
            np.vstack([np.ones(len(names)), rng.choice((1, -1), (DRAWS, len(names)))])
        chance = float(np.mean(np.abs(signs @ gains) >= abs(gains.sum()) - 1e-9))
        return cls(float(gains.sum() / sizes.sum()), (float(low), float(high)), chance, len(first),
                   len(names))
