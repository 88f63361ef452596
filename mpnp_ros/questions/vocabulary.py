"""Categories, statuses, directions and answers of NuScenes-QA (arXiv:2305.14836).

The six directions follow from a signed angle. The released labels appear to have lost the sign, so left and
right are mixed up. Here the angle is from atan2.
"""
from __future__ import annotations

import math

CATEGORY_OF_NUSCENES = {
    'movable_object.barrier': 'barrier',
    'vehicle.bicycle': 'bicycle',
    'vehicle.bus.bendy': 'bus',
    'vehicle.bus.rigid': 'bus',
    'vehicle.car': 'car',
    'vehicle.construction': 'construction vehicle',
    'vehicle.motorcycle': 'motorcycle',
    'human.pedestrian.adult': 'pedestrian',
    'human.pedestrian.child': 'pedestrian',
    'human.pedestrian.construction_worker': 'pedestrian',
    'human.pedestrian.police_officer': 'pedestrian',
    'movable_object.trafficcone': 'traffic cone',
    'vehicle.trailer': 'trailer',
    'vehicle.truck': 'truck',
}
"""nuScenes category -> one of the ten detection classes; questions ignore other categories."""

ATTRIBUTE_OF_NUSCENES = {
    'vehicle.moving': 'moving',
    'vehicle.stopped': 'stopped',
    'vehicle.parked': 'parked',
    'cycle.with_rider': 'with rider',
    'cycle.without_rider': 'without rider',
    'pedestrian.standing': 'standing',
    'pedestrian.moving': 'moving',
    'pedestrian.sitting_lying_down': 'not standing',
}

CATEGORIES = ('barrier', 'bicycle', 'bus', 'car', 'construction vehicle', 'motorcycle', 'pedestrian',
              'traffic cone', 'trailer', 'truck')

STATUSES = ('moving', 'parked', 'stopped', 'standing', 'not standing', 'with rider', 'without rider')

MAX_COUNT = 10

ANSWERS = (*(str(n) for n in range(MAX_COUNT + 1)), 'yes', 'no', *CATEGORIES, *STATUSES)
"""The 30 answers of NuScenes-QA."""

_VEHICLE = ('moving', 'parked', 'stopped')
_CYCLE = ('with rider', 'without rider')
STATUSES_OF_CATEGORY: dict[str, tuple[str, ...]] = {
    'barrier': (), 'traffic cone': (),
    'bicycle': _CYCLE, 'motorcycle': _CYCLE,
    'bus': _VEHICLE, 'car': _VEHICLE, 'construction vehicle': _VEHICLE,
    'trailer': _VEHICLE, 'truck': _VEHICLE,
    'pedestrian': ('moving', 'standing', 'not standing'),
}
"""Possible statuses by category; questions never use other pairs."""

Channel = tuple[str, str | None]
"""A category with one of its statuses, or with None if it has none."""

CHANNELS: tuple[Channel, ...] = tuple(
    (category, status) for category in CATEGORIES for status in STATUSES_OF_CATEGORY[category] or (None,))
"""Channels of tokens that count objects: (category, status); status None for categories without status."""
CATEGORY_OF_CHANNEL = tuple(CATEGORIES.index(category) for category, _ in CHANNELS)
"""Index of the category of each channel."""

THING = 'thing'
"""Stands for any category in a question."""

RELATIONS = ('front', 'front left', 'front right', 'back left', 'back right', 'back')
SIDES = {'left': ('front left', 'back left'), 'right': ('front right', 'back right')}
"""Left and right as unions of relations."""


def relation(x: float, y: float) -> str:
    """Return the direction of a vector in the ego frame (x ahead, y left), one of :data:`RELATIONS`.

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
    """Return whether a vector points in a direction, one of :data:`RELATIONS` or :data:`SIDES`."""
    return relation(x, y) in SIDES.get(direction, (direction,))
