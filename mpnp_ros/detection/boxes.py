"""Objects from the boxes of a detector: probabilities from scores, categories from classes, no duplicates."""
from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_ros.detection.classes import CATEGORY_COUNT
from mpnp_ros.detection.detectors.base import Boxes
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.questions.vocabulary import CATEGORIES

CALIBRATION = (0., .08, .2, .45, .65, .8, .88, .93, .96, .98, .99)
"""Probability that a box of score 0, 0.1, ... 1 shows such an object, where nothing better is given.

Small detectors with focal losses say too little of what is there; this table was set by hand from that.
"""
KNOWN_FROM = 0.1
"""A category is known where some class of the detector means it with at least this probability."""
RUNNER_UP = 0.25
"""A class counts beside the best one of a box if its probability is at least this share of the best one's."""
KINDS = ({'car', 'truck', 'bus', 'trailer', 'construction vehicle'}, {'bicycle', 'motorcycle'},
         {'pedestrian'}, {'traffic cone'}, {'barrier'})
"""Categories that a detector may confuse; two boxes of the same kind may be one object."""
KIND = np.array([next(place for place, names in enumerate(KINDS) if name in names) for name in CATEGORIES])

SAME, INSIDE = 0.55, 0.85
"""Two boxes are one object from this overlap on, or if this share of one lies in the other and both stand on
the same place."""
FOOT = 0.15
"""Lower edges, as a share of the height of the larger box, within which two boxes stand on the same place."""


@dataclass(frozen=True, eq=False)
class CategoryBoxes:
    """Objects in one image; n of them.

    boxes: [n, 4] pixels, left, top, right, bottom.  existence: [n] probability that there is one.
    categories: [n, 10] probabilities of CATEGORIES; rows sum to 1.
    """

    boxes: np.ndarray
    existence: np.ndarray
    categories: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, keep: np.ndarray) -> CategoryBoxes:
        """Return the objects that a mask [n] or indices select."""
        return CategoryBoxes(self.boxes[keep], self.existence[keep], self.categories[keep])

    @property
    def kind(self) -> np.ndarray:
        """Return for each object the index in KINDS of its likeliest category, [n]."""
        return KIND[self.categories.argmax(1)] if len(self) else np.zeros(0, int)


class BoxReader:
    """Reads the boxes of one detector.

    classes: of the detector.  class_map: class -> probability of each category, see load_class_map.
    min_score: boxes whose best score is below are left out.  calibration: probabilities of scores that
    divide 0..1 evenly; empty: CALIBRATION.
    known: bool [10], which categories the detector can recognise.  Raises ConfigurationError where no class
    has a meaning.
    """

    def __init__(self, classes: Sequence[str], class_map: Mapping[str, np.ndarray], min_score: float = 0.25,
                 calibration: Sequence[float] = ()) -> None:
        meanings = {_plain(name): row for name, row in class_map.items()}
        none = np.zeros(CATEGORY_COUNT)
        self.meaning = np.stack([meanings.get(_plain(name), none) for name in classes])
        if not self.meaning.any():
            raise ConfigurationError('the class map names none of the classes of the detector, which are '
                                     f'{", ".join(classes[:12])}{" ..." if len(classes) > 12 else ""}')
        self.known = self.meaning.max(0) >= KNOWN_FROM
        self.min_score = min_score
        self._calibration = np.asarray(calibration or CALIBRATION, np.float64)

    @property
    def identity(self) -> str:
        """Return a sha256 of what classes mean."""
        return hashlib.sha256(self.meaning.round(6).tobytes()).hexdigest()

    def read(self, found: Boxes) -> CategoryBoxes:
        """Return the objects in an image, each once."""
        scores = np.where(self.meaning.any(1), found.scores, 0.)
        keep = scores.max(1, initial=0) >= self.min_score
        boxes, scores = found.boxes[keep].astype(np.float64), scores[keep]
        chances = np.interp(scores, np.linspace(0, 1, len(self._calibration)), self._calibration)
        top = chances.max(1, initial=0)
        shares = np.where(chances >= RUNNER_UP * top[:, None], chances, 0)
        meant = shares @ self.meaning / shares.sum(1, keepdims=True).clip(1e-9)
        told = np.where(self.known, meant, 0)
        objects = CategoryBoxes(boxes, (top * meant.sum(1)).clip(0, 1),
                                told / told.sum(1, keepdims=True).clip(1e-9))
        return objects.select(distinct(objects))


def distinct(objects: CategoryBoxes) -> np.ndarray:
    """Return the indices [m] of the boxes to keep, the surest first.

    Of boxes of one kind that show the same object the surest stays.  In a row of parked cars boxes overlap
    much.  So a box inside another one stays if it ends clearly higher up, which is farther away.  A box
    around several others shows the row, not a car, and goes.
    """
    kept: list[int] = []
    kind = objects.kind
    for place in np.argsort(-objects.existence, kind='stable'):
        same = np.array([other for other in kept if kind[other] == kind[place]], int)
        if not len(same) or not _told(objects.boxes[place], objects.boxes[same]):
            kept.append(int(place))
    return np.array(kept, int)


def _told(box: np.ndarray, others: np.ndarray) -> bool:
    """Whether surer boxes already stand for what a box shows."""
    common, own, theirs = intersections(box, others), area(box), area(others)
    together = common / (own + theirs - common)
    feet = np.abs(others[:, 3] - box[3]) < FOOT * np.maximum(box[3] - box[1], others[:, 3] - others[:, 1])
    inside, around = common / own >= INSIDE, common / theirs >= INSIDE
    row = around.sum() >= 2 and common[around].sum() >= own / 2
    return bool((together >= SAME).any() or (feet & (inside | around)).any() or row)


def area(boxes: np.ndarray) -> np.ndarray:
    """Return the area of boxes [..., 4], at least a tiny one."""
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1).clip(1e-9)


def intersections(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the area that a box [4] shares with others [n, 4]."""
    return (np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])).clip(0).prod(1)


def _plain(name: str) -> str:
    return name.lower().replace('_', ' ')
