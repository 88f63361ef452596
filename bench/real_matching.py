"""Which detected object is which annotated one, in real key frames."""
from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mpnp_ros.detection.boxes import area, intersections
from mpnp_ros.detection.classes import MOVING
from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.lift import Camera
from mpnp_ros.poses import wrap_angle
from mpnp_ros.questions.generator import Scope, askable
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_ros.questions.vocabulary import CATEGORIES

OVERLAP, NEAR = 0.3, 2.0
"""Least overlap of boxes in an image, and most metres between places, of the same object."""
LEAST_INSIDE = 0.25
"""Share of an annotated box that must lie in an image for a camera to have it."""
RANGES = ((0, 15), (15, 30), (30, 50))
STATUSES = ('moving', 'parked', 'stopped', 'standing')
"""Statuses that say whether an object moves."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections paired with annotated objects.

    object_of: the annotated object of each detection, or None.  seen: instances in the image of
    some camera.
    """

    detections: Detections
    object_of: Sequence[AnnotatedObject | None]
    objects: Sequence[AnnotatedObject]
    seen: frozenset[str]


def match(detections: Detections, objects: Sequence[AnnotatedObject], cameras: Sequence[Camera]) -> Matches:
    """Pair detections with annotated objects, the best pair first.

    First by the overlap of boxes in the image and by distance; what is left on both sides by place.
    """
    boxes = [[visible(item, camera) for item in objects] for camera in cameras]
    seen = frozenset(item.instance for row in boxes for item, box in zip(objects, row, strict=True)
                     if box is not None)
    pairs: list[tuple[int, float, int, int]] = []
    for row in range(len(detections)):
        place, distance = detections.position[row], max(1., detections.distance[row])
        for column, item in enumerate(objects):
            box = boxes[detections.source_index[row]][column]
            if box is not None and (overlap := iou(detections.boxes[row], box)) > OVERLAP:
                far = abs(math.log(distance / max(1., item.distance)))
                pairs.append((0, -overlap - .5 * math.exp(-3 * far), row, column))
            if (apart := float(np.hypot(*(place - item.centre[:2])))) < NEAR:
                pairs.append((1, apart, row, column))
    of: dict[int, int] = {}
    for _, _, row, column in sorted(pairs):
        if row not in of and column not in of.values():
            of[row] = column
    return Matches(detections, [objects[of[row]] if row in of else None for row in range(len(detections))],
                   objects, seen)


def visible(item: AnnotatedObject, camera: Camera) -> np.ndarray | None:
    """Return the box [4] of an annotated object in an image, hidden or not; None where it is not in it."""
    length, width, height = item.size
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * [
        length / 2, width / 2, height / 2]
    cos, sin = math.cos(item.yaw), math.sin(item.yaw)
    turned = corners @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + item.centre
    pixels, ahead = camera.project(turned)
    if (ahead < .3).any():
        return None
    whole = np.concatenate([pixels.min(0), pixels.max(0)])
    box = whole.clip(0, np.tile(camera.size, 2))
    return box if area(box) > LEAST_INSIDE * area(whole) else None


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Return the overlap of two boxes [4]."""
    common = float(intersections(first, second[None])[0])
    return common / float(area(first) + area(second) - common)


@dataclass
class MatchCounts:
    """What is found of annotated objects, by category.

    total, found, right: (category, range) -> objects in an image, those detected, those of them with the
    right category.  said, true: category -> detections near enough, those that are annotated objects.
    distances, turns: logarithms of ratios, and radians, of what is found within the second range.
    """

    total: Counter[tuple[str, tuple[float, float]]] = field(default_factory=Counter)
    found: Counter[tuple[str, tuple[float, float]]] = field(default_factory=Counter)
    right: Counter[tuple[str, tuple[float, float]]] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    true: Counter[str] = field(default_factory=Counter)
    expected: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    distances: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)

    def add(self, matches: Matches, scope: Scope) -> None:
        """Count one key frame; annotated objects with the points of a scope count."""
        detections = matches.detections
        of = {item.instance: row for row, item in enumerate(matches.object_of) if item is not None}
        category = [CATEGORIES[place] for place in detections.categories.argmax(1)] if len(detections) else []
        for item in askable(matches.objects, Scope(RANGES[-1][1], scope.min_points)):
            span = next((span for span in RANGES if span[0] <= item.distance < span[1]), None)
            if item.instance not in matches.seen or span is None:
                continue
            self.total[item.category, span] += 1
            row = of.get(item.instance)
            if row is None:
                continue
            self.found[item.category, span] += 1
            self.right[item.category, span] += category[row] == item.category
            if item.distance < scope.max_distance:
                self.distances.append(math.log(max(.1, detections.distance[row]) / item.distance))
                turn = detections.azimuth[row] - math.atan2(item.centre[1], item.centre[0])
                self.turns.append(abs(wrap_angle(turn)))
        for row, annotated in enumerate(matches.object_of):
            if detections.distance[row] < scope.max_distance:
                self.said[category[row]] += 1
                self.true[category[row]] += annotated is not None
                self.expected[category[row]] += float(detections.existence[row])

    def rows(self) -> list[dict[str, str]]:
        """Return a row of each category, and of all together."""
        names = sorted({name for name, _ in self.total} | set(self.said))
        made = []
        for name in [*names, 'all']:
            row = {'category': name}
            for span in RANGES:
                total, found, right = (sum(counter[each, span] for each in names if name in ('all', each))
                                       for counter in (self.total, self.found, self.right))
                row[f'{span[0]}-{span[1]} m'] = f'{found}/{total} ({right})' if total else '-'
            true, said, expected = (sum(counter[each] for each in names if name in ('all', each))
                                    for counter in (self.true, self.said, self.expected))
            row['true of said'] = f'{true}/{said} ({expected:.0f})'
            made.append(row)
        return made

    def errors(self) -> dict[str, float]:
        """Return how far distances and directions are off."""
        if not self.distances:
            return {}
        away, turns = np.array(self.distances), np.degrees(self.turns)
        return {'distance_median': float(np.median(abs(away))),
                'distance_90': float(np.quantile(abs(away), .9)),
                'distance_bias': float(np.median(away)), 'direction_median': float(np.median(turns)),
                'direction_90': float(np.quantile(turns, .9)), 'objects': len(away)}


@dataclass
class MotionCounts:
    """Whether objects move, as it is and as it is said.

    rows: of each object whether it moves, the probability that is said, and how often such objects move.
    """

    rows: list[tuple[bool, float, float]] = field(default_factory=list)

    def add(self, matches: Matches, within: float) -> None:
        """Count the objects of one key frame; within: metres."""
        for said, item in zip(matches.detections.moving, matches.object_of, strict=True):
            if item is not None and item.distance < within and item.attribute in STATUSES:
                prior = MOVING['pedestrian' if item.category == 'pedestrian' else 'vehicle']
                chance = prior if math.isnan(said) else float(said)
                self.rows.append((item.attribute == 'moving', chance, prior))

    def figures(self) -> dict[str, float]:
        """Return percent right and Brier scores, of what is said and of the prior."""
        moves, said, prior = np.array(self.rows, np.float64).T
        return {'objects': len(moves), 'right': 100 * float(((said > .5) == moves).mean()),
                'prior': 100 * float(((prior > .5) == moves).mean()),
                'brier': float(((said - moves) ** 2).mean()),
                'prior_brier': float(((prior - moves) ** 2).mean())}
