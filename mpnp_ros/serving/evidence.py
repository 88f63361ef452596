"""Counts behind an answer, in words, and when they make the answer unknown."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpnp_ros.methods.questions import Counted
from mpnp_ros.serving.coverage import DIRECTIONS, ranges, share
from mpnp_ros.tokens import SECTOR

CAN_ANSWER = 0.5
"""Probability below which counts cannot answer a question."""
TOLD = 0.02
"""Share of the asked region and channels that must be seen and known."""


def direction_of(sectors: np.ndarray) -> str:
    """Return the region of a count: a direction, ranges, or empty for all around."""
    if sectors.all():
        return ''
    named = (name for name in DIRECTIONS if share(sectors, name) == 1 and sectors.sum() == _width(name))
    return next(named, ranges(sectors))


def not_known(counted: Sequence[Counted], answerable: float) -> str:
    """Return why an answer is unknown, empty if it is not.

    counted: by all sensors together first.  answerable: probability that counts can answer the question.
    """
    if answerable < CAN_ANSWER:
        return ('unknown: the sensors in use count road users by direction and status, which does not answer '
                'this; ask what is where, how many there are, or what they do')
    if counted and not counted[0].covered > TOLD:
        return f'unknown: no sensor in use can tell a {counted[0].sort} there; add one that does'
    return ''


def _width(direction: str) -> int:
    first, last = DIRECTIONS[direction]
    return (last - first) // SECTOR
