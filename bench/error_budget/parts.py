"""What an encoder counts at one moment, in parts that belong to annotated objects or to none.

Two encoders speak differently of objects: one detects them, the other expects numbers of them in sectors.
Both become parts, so that the same repairs apply to them.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.real_matching import Matches
from mpnp_ros.detection.detections import Detections
from mpnp_ros.questions.generator import Scope, askable
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_ros.questions.vocabulary import CATEGORIES, CATEGORY_OF_CHANNEL, CHANNELS
from mpnp_ros.tokens import SECTORS, ModalityTokens, sector_of

CATEGORY_OF = np.array(CATEGORY_OF_CHANNEL)
"""Index of the category of each channel."""
REACH = 3
"""Sectors by which what is said of an object may lie beside it."""
BEYOND = 10.
"""Metres beyond the scope of questions up to which an object may be what was counted."""
FITTING = 0.3
"""Logarithm of the ratio of two distances of one object, at most, where tokens have distances."""
LEAST = 1e-6
"""Expected number that is not worth a part."""


@dataclass(frozen=True, eq=False)
class Part:
    """Something that an encoder counts.

    counts: [24] expected numbers by channel, if it is near and dense enough for questions.  azimuth: radians.
    distance: metres, NaN: not known.  near, dense: how likely it is near enough and has enough points, as
    the encoder says.  item: the annotated object that it is; None: it is none.
    """

    counts: np.ndarray
    azimuth: float
    distance: float
    item: AnnotatedObject | None
    near: float = 1.
    dense: float = 1.

    @property
    def weight(self) -> float:
        """Return the share of the counts that reaches the tokens."""
        return self.near * self.dense


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """A key frame as an encoder sees it.

    objects: all annotated ones.  build: what makes tokens of parts.
    """

    parts: tuple[Part, ...]
    objects: Sequence[AnnotatedObject]
    scope: Scope
    build: Callable[[Sequence[Part]], ModalityTokens]

    def asked_about(self) -> list[AnnotatedObject]:
        """Return the annotated objects in the scope of questions."""
        return askable(self.objects, self.scope)

    def tokens(self) -> ModalityTokens:
        """Return the tokens that the parts make."""
        return self.build(self.parts)


def azimuth_of(item: AnnotatedObject) -> float:
    """Return the direction of an annotated object, radians."""
    return math.atan2(item.centre[1], item.centre[0])


def seen_by_detector(matches: Matches, scope: Scope, tokens: ModalityTokens,
                     left_out: Matches | None = None) -> SeenFrame:
    """Return the parts of detections: one for each.

    tokens: those of the detections.  left_out: detections that were left out because they have too few
    points; they belong to objects that no other detection is.
    """
    parts = list(_parts_of(matches.detections, matches.object_of, scope, 1.))
    if left_out is not None:
        taken = {item.instance for item in matches.object_of if item is not None}
        free = [item if item is not None and item.instance not in taken else None
                for item in left_out.object_of]
        parts += [part for part in _parts_of(left_out.detections, free, scope, 0.) if part.item is not None]

    def build(parts: Sequence[Part]) -> ModalityTokens:
        return tokens_by_object(tokens, parts)

    return SeenFrame(tuple(parts), matches.objects, scope, build)


def _parts_of(detections: Detections, object_of: Sequence[AnnotatedObject | None], scope: Scope,
              dense: float) -> Iterable[Part]:
    counts, near = detections.counts().astype(np.float64), detections.within(scope.max_distance)
    for row, item in enumerate(object_of):
        yield Part(counts[row], float(detections.azimuth[row]), float(detections.distance[row]), item,
                   float(near[row]), dense)


def seen_in_tokens(tokens: ModalityTokens, objects: Sequence[AnnotatedObject], scope: Scope) -> SeenFrame:
    """Return the parts of expected numbers by sector, or of tokens of which each counts one object.

    Every annotated object takes up to 1 of what is said around it: its own category before others, its own
    sector before the next ones.  Objects of questions come before those that are too far or have too few
    points.  What no object takes is a part without one.
    """
    left = tokens.values.astype(np.float64)
    sectors = sector_of(np.nan_to_num(tokens.azimuth))
    distances = tokens.distance if len(tokens.distance) else np.full(tokens.count, math.nan)
    asked = askable(objects, scope)
    lacking = {item.instance: 1. for item in asked}
    others = [item for item in objects if item.instance not in lacking
              and item.distance <= scope.max_distance + BEYOND]
    lacking |= {item.instance: 1. for item in others}
    parts = []
    for group in (asked, others):
        for own in (True, False):
            for steps in range(REACH + 1):
                for item in group:
                    apart = abs(sectors - sector_of(np.array(azimuth_of(item))))
                    fits = abs(np.log(np.maximum(distances, .1) / max(.1, item.distance)))
                    beside = (np.minimum(apart, SECTORS - apart) == steps) & ~(fits > FITTING)
                    channels = (CATEGORIES.index(item.category) == CATEGORY_OF) == own
                    for row in np.flatnonzero(beside):
                        taken = left[row] * channels
                        taken *= min(1., lacking[item.instance] / max(LEAST, taken.sum()))
                        if taken.sum() > LEAST:
                            left[row] -= taken
                            lacking[item.instance] -= taken.sum()
                            parts.append(Part(taken, float(tokens.azimuth[row]), float(distances[row]), item))
    parts += [Part(counts, float(tokens.azimuth[row]), float(distances[row]), None)
              for row, counts in enumerate(left) if counts.sum() > LEAST]
    by_sector = tokens.count == SECTORS and len(set(sectors)) == SECTORS and not len(tokens.distance)
    how = tokens_by_sector if by_sector else tokens_by_object

    def build(parts: Sequence[Part]) -> ModalityTokens:
        return how(tokens, parts)

    return SeenFrame(tuple(parts), objects, scope, build)


def tokens_by_object(tokens: ModalityTokens, parts: Sequence[Part]) -> ModalityTokens:
    """Return tokens with one for each part; what is said beside the counts stays as it was."""
    kept = [part for part in parts if part.weight > .01]
    if not kept:
        kept = [Part(np.zeros(len(CHANNELS)), math.nan, math.nan, None)]
    values = np.array([part.counts * part.weight for part in kept], np.float32)
    azimuth = np.array([part.azimuth for part in kept], np.float32)
    return _with(tokens, values, azimuth, np.array([part.distance for part in kept], np.float32))


def tokens_by_sector(tokens: ModalityTokens, parts: Sequence[Part]) -> ModalityTokens:
    """Return tokens with one for each sector."""
    row_of = {int(sector): row for row, sector in enumerate(sector_of(tokens.azimuth))}
    values = np.zeros(tokens.values.shape)
    for part in parts:
        values[row_of[int(sector_of(np.array(part.azimuth)))]] += part.counts * part.weight
    return _with(tokens, values.astype(np.float32), tokens.azimuth, tokens.distance)


def _with(tokens: ModalityTokens, values: np.ndarray, azimuth: np.ndarray, distance: np.ndarray,
          ) -> ModalityTokens:
    """Return tokens with other counts.  Whatever counts somewhere is known, and looked at there."""
    looked = tokens.sectors_looked_at().copy()
    looked[sector_of(azimuth[values.any(1)])] = True
    known = tokens.known | values.any(0) if len(tokens.known) else tokens.known
    return replace(tokens, values=values, azimuth=azimuth, distance=distance, known=known, looked=looked,
                   sources=(), source_index=np.zeros(0, np.uint16), source_stamps_ns=(),
                   boxes=np.zeros((0, 4), np.float32))
