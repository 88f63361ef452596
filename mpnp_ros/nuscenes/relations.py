"""The six directions of NuScenes-QA, from a signed angle (arXiv:2305.14836).

The released labels appear to have lost the sign, so left and right are mixed up. Here the angle is from
atan2.
"""
from __future__ import annotations

import math

RELATIONS = ('front', 'front left', 'front right', 'back left', 'back right', 'back')
SIDES = {'left': ('front left', 'back left'), 'right': ('front right', 'back right')}
"""Left and right as unions of relations."""


def relation(x: float, y: float) -> str:
    """Direction of a vector in the ego frame (x ahead, y left), one of :data:`RELATIONS`.

    front (-30, 30], front left (30, 90], front right (-90, -30], back left (90, 150],
    back right (-150, -90] degrees, back otherwise.
    """
    angle = math.degrees(math.atan2(y, x))
    if -30 < angle <= 30:
        return 'front'
    if 30 < angle <= 150:
        return 'front left' if angle <= 90 else 'back left'
    if -150 < angle <= -30:
        return 'front right' if angle > -90 else 'back right'
    return 'back'


def lies(direction: str, x: float, y: float) -> bool:
    """Whether a vector points in a direction, one of :data:`RELATIONS` or :data:`SIDES`."""
    return relation(x, y) in SIDES.get(direction, (direction,))
