"""Kinds of error, and how each is repaired by truth.

Every repair changes one thing and leaves all others as the encoder says them.  Together they make the true
objects.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from bench.error_budget.parts import CATEGORY_OF, LEAST, Part, SeenFrame, azimuth_of
from mpnp_ros.detection.classes import status_shares
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS, STATUSES_OF_CATEGORY, relation

FEW = 0.1
"""How much the usual statuses weigh beside those that are said of a part of an object."""
STATUS_OF = np.array([status or '' for _, status in CHANNELS])


def channels_of(category: str) -> np.ndarray:
    """Return the places of the channels of a category."""
    return np.flatnonzero(CATEGORIES.index(category) == CATEGORY_OF)


@cache
def usual(category: str) -> np.ndarray:
    """Return an object of a category with statuses as they usually are, [24]."""
    channels, shares = status_shares(np.full(1, math.nan), np.full(1, math.nan))[CATEGORIES.index(category)]
    counts = np.zeros(len(CHANNELS))
    counts[channels] = shares[0]
    return counts


def of_objects(change: Callable[[Part, AnnotatedObject, Scope], Part]) -> Callable[[SeenFrame], SeenFrame]:
    """Return the repair that changes each part that belongs to an object."""
    def repair(seen: SeenFrame) -> SeenFrame:
        return replace(seen, parts=tuple(part if part.item is None else change(part, part.item, seen.scope)
                                         for part in seen.parts))
    return repair


def with_category(part: Part, item: AnnotatedObject, scope: Scope) -> Part:
    """The object has its true category; statuses keep their names where that has them, else are usual."""
    shares = LEAST * usual(item.category)
    for place in channels_of(item.category):
        shares[place] += part.counts[STATUS_OF[place] == STATUS_OF].sum()
    return replace(part, counts=part.counts.sum() * shares / shares.sum())


def with_status(part: Part, item: AnnotatedObject, scope: Scope) -> Part:
    """The object has its true status in every category it may be that has it.

    An annotated object without a status counts as an equal part of all of its category, as in true objects.
    """
    counts = part.counts.copy()
    for category, statuses in STATUSES_OF_CATEGORY.items():
        places = channels_of(category)
        if item.attribute in statuses:
            counts[places] = counts[places].sum() * (STATUS_OF[places] == item.attribute)
        elif category == item.category:
            counts[places] = counts[places].mean()
    return replace(part, counts=counts)


def with_motion(part: Part, item: AnnotatedObject, scope: Scope) -> Part:
    """Whether the object moves is true; which way it stands still is as said."""
    if item.attribute is None or item.attribute.endswith('rider'):
        return part
    counts = part.counts.copy()
    for category, statuses in STATUSES_OF_CATEGORY.items():
        if 'moving' in statuses:
            places = channels_of(category)
            shares = counts[places] + LEAST * usual(category)[places]
            shares = shares * ((STATUS_OF[places] == 'moving') == (item.attribute == 'moving'))
            counts[places] = counts[places].sum() * shares / shares.sum()
    return replace(part, counts=counts)


def with_direction(part: Part, item: AnnotatedObject, scope: Scope) -> Part:
    """The object lies in its true direction."""
    return replace(part, azimuth=azimuth_of(item))


def with_nearness(part: Part, item: AnnotatedObject, scope: Scope) -> Part:
    """The object counts if its true distance is in the scope of questions."""
    return replace(part, near=float(item.distance <= scope.max_distance))


def with_density(part: Part, item: AnnotatedObject, scope: Scope) -> Part:
    """The object counts if it truly has enough points."""
    return replace(part, dense=float(is_dense(item, scope)))


def is_dense(item: AnnotatedObject, scope: Scope) -> bool:
    """Return whether an annotated object has enough points for questions."""
    return item.num_lidar_pts + item.num_radar_pts >= scope.min_points


def with_missed(seen: SeenFrame) -> SeenFrame:
    """What an object of questions lacks of 1 is put in, with its category and direction.

    Its statuses are those said of the rest of it, and usual ones where nothing is said.
    """
    added = []
    for item in seen.asked_about():
        own = [part.counts for part in seen.parts if part.item is item]
        lack = 1 - sum(counts.sum() for counts in own)
        if lack > LEAST:
            shares = sum(own, FEW * usual(item.category)) * (usual(item.category) > 0)
            added.append(Part(lack * shares / shares.sum(), azimuth_of(item), item.distance, item))
    return replace(seen, parts=(*seen.parts, *added))


def without_false(seen: SeenFrame) -> SeenFrame:
    """What belongs to no object is taken out."""
    return replace(seen, parts=tuple(part for part in seen.parts if part.item is not None))


@dataclass(frozen=True)
class Repair:
    """A repair, and what it does in words, for the page."""

    apply: Callable[[SeenFrame], SeenFrame]
    means: str


REPAIRS: dict[str, Repair] = {
    'category': Repair(
        of_objects(with_category),
        'what belongs to an object gets its category; statuses keep their names, or are usual ones'),
    'missed': Repair(
        with_missed,
        'what an object lacks of a count of 1 is put in, in its category and direction; its statuses are '
        'those said of the rest of it, or usual ones. An object said with 0.7 lacks 0.3.'),
    'false': Repair(
        without_false, 'what belongs to no object is taken out, second ones of an object too'),
    'status': Repair(
        of_objects(with_status),
        'what belongs to an object gets its status, in each category that it may be'),
    'moving or not': Repair(
        of_objects(with_motion),
        'a part of status: whether an object moves is true; parked or stopped, standing or sitting, and '
        'riders are as said'),
    'direction': Repair(of_objects(with_direction), 'what belongs to an object moves to its direction'),
    '30 m border': Repair(of_objects(with_nearness), 'an object counts if its true distance is up to 30 m'),
    '5-point border': Repair(
        of_objects(with_density),
        'an object counts if it truly has 5 points; with LiDAR in boxes, objects come back that had too few '
        'points in the box'),
}
"""Every repair, in the order in which they are applied."""
KINDS = ('missed', 'false', 'category', 'status', 'direction', '30 m border', '5-point border')
"""The kinds of error; together they are all."""
PART_OF_STATUS = 'moving or not'


def repaired(seen: SeenFrame, kinds: Iterable[str]) -> SeenFrame:
    """Return a key frame with some kinds of error repaired."""
    chosen = set(kinds)
    for name, repair in REPAIRS.items():
        if name in chosen:
            seen = repair.apply(seen)
    return seen


def errors(seen: SeenFrame) -> dict[str, dict[str, float]]:
    """Return how much expected number is in error: kind -> category -> number.

    The category is that of the object, for 'false' what is said.  'true': objects of questions.  'doubt': the
    part of 'missed' that is lacking of objects of which more than half is found.
    """
    made: dict[str, dict[str, float]] = {
        kind: dict.fromkeys(CATEGORIES, 0.) for kind in ('true', 'doubt', *KINDS)}
    found = {item.instance: 0. for item in seen.asked_about()}
    for part in seen.parts:
        total, item = float(part.counts.sum()), part.item
        if item is None:
            for category, number in zip(CATEGORIES, np.bincount(CATEGORY_OF, part.counts), strict=True):
                made['false'][category] += float(number) * part.weight
            continue
        near, dense = with_nearness(part, item, seen.scope).near, with_density(part, item, seen.scope).dense
        made['30 m border'][item.category] += total * abs(part.near - near) * dense
        made['5-point border'][item.category] += total * abs(part.dense - dense) * near
        if item.instance not in found:
            continue
        found[item.instance] += total
        own = channels_of(item.category)
        right = own if item.attribute is None else own[STATUS_OF[own] == item.attribute]
        made['category'][item.category] += total - float(part.counts[own].sum())
        made['status'][item.category] += float(part.counts[own].sum() - part.counts[right].sum())
        said = relation(math.cos(part.azimuth), math.sin(part.azimuth))
        made['direction'][item.category] += total * (said != relation(*item.centre[:2]))
    for item in seen.asked_about():
        lack = 1 - min(1., found[item.instance])
        made['true'][item.category] += 1
        made['missed'][item.category] += lack
        made['doubt'][item.category] += lack * (lack < .5)
    return made
