"""Budget of an adaptation, and its costs so far."""
from __future__ import annotations

import math
from dataclasses import dataclass, fields

from mpnp_ros.errors import ConfigurationError

_UNITS = {'seconds': (1, 's'), 'macs': (1e9, 'GMACs'), 'bytes': (1e6, 'MB of memory')}


@dataclass(frozen=True)
class Spent:
    """Costs of a training, measured or expected.

    seconds: of wall time from the decision on.  macs: multiply-accumulates of reading questions, training and
    evaluating.  bytes: peak memory of the training process.
    """

    seconds: float = 0.
    macs: float = 0.
    bytes: float = 0.


@dataclass(frozen=True)
class Budget:
    """Limits of an adaptation; 0 is no limit.  Raises ConfigurationError for values out of range.

    seconds, macs, bytes: as in :class:`Spent`.  accuracy: in [0, 1], training stops when it is reached.
    """

    seconds: float = 0.
    macs: float = 0.
    bytes: float = 0.
    accuracy: float = 0.

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not 0 <= value < math.inf:
                raise ConfigurationError(f'the budget of {entry.name} is {value}; it must be 0 (no limit) or '
                                         'positive and finite')
        if self.accuracy > 1:
            raise ConfigurationError(f'the accuracy to reach is {self.accuracy}; it must be at most 1')

    def or_else(self, default: Budget) -> Budget:
        """Return it with missing limits taken from another budget."""
        return Budget(*(getattr(self, entry.name) or getattr(default, entry.name) for entry in fields(self)))

    def too_small_for(self, cost: Spent) -> tuple[str, ...]:
        """Return the limits that a cost exceeds: seconds, macs, bytes."""
        return tuple(name for name in _UNITS if 0 < getattr(self, name) < getattr(cost, name))

    def exhausted(self, spent: Spent) -> str:
        """Return the reached limits, in words; empty if there are none."""
        used = [said(name, getattr(self, name)) for name in _UNITS
                if 0 < getattr(self, name) <= getattr(spent, name)]
        return f'{" and ".join(used)} are used up' if used else ''

    def reached(self, accuracy: float) -> bool:
        """Return whether an accuracy reaches the target; False without a target."""
        return 0 < self.accuracy <= accuracy

    def seconds_left(self, spent: Spent) -> float:
        """Return the seconds left, at least 0; inf without a limit."""
        return max(0., self.seconds - spent.seconds) if self.seconds else math.inf


def said(name: str, value: float) -> str:
    """Return seconds, macs or bytes in words, rounded up to a tenth."""
    size, unit = _UNITS[name]
    return f'{math.ceil(10 * value / size) / 10:.1f} {unit}'
