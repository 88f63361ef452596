"""Traffic lights: two phases, one for the main street and one for the street across."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

YELLOW = 3.0
ALL_RED = 1.5
"""Duration of red for all, seconds."""


@dataclass(frozen=True)
class SignalCycle:
    """The cycle of one junction.  greens: seconds for the main street, for the cross street;
    offset: seconds into the cycle at time 0.
    """

    greens: tuple[float, float]
    offset: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> SignalCycle:
        """A random cycle with a random offset."""
        greens = float(rng.uniform(10, 20)), float(rng.uniform(8, 14))
        return cls(greens, float(rng.uniform(0, sum(greens) + 2 * (YELLOW + ALL_RED))))

    @property
    def period(self) -> float:
        """Seconds."""
        return sum(self.greens) + 2 * (YELLOW + ALL_RED)

    def colour(self, along_x: bool, time: float) -> str:
        """The colour for the main street (along_x) or for the cross street."""
        since = self._since_green(along_x, time)
        green = self.greens[0 if along_x else 1]
        if since < green:
            return 'green'
        return 'yellow' if since < green + YELLOW else 'red'

    def next_green(self, along_x: bool, time: float) -> float:
        """The first time at or after `time` at which the light of that street turns green."""
        since = self._since_green(along_x, time)
        return time if since == 0 else time + self.period - since

    def _since_green(self, along_x: bool, time: float) -> float:
        start = 0.0 if along_x else self.greens[0] + YELLOW + ALL_RED
        return (time + self.offset - start) % self.period
