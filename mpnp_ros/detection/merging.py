"""Detections of several sources as one, in which each object counts once."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from mpnp_ros.detection.detections import PER_OBJECT, Detections
from mpnp_ros.detection.motion import AGREEMENT, GATE, position_noise
from mpnp_ros.errors import DetectionsError
from mpnp_ros.tokens import NO_SOURCE

SAME = 0.25
"""Agreement of categories from which two objects at one place are the same."""


def merged(parts: Sequence[Detections]) -> Detections:
    """Return the objects of several sources in one frame as one, each object once.

    Objects of two sources are the same where their places agree within their deviations and their categories
    do.  The position is the mean, weighted by the deviations; the rest comes from the more probable object.
    The stamp is the oldest.  A category is known, and a sector is looked at, where it is for some source.
    Raises DetectionsError for no parts, or parts in several frames.
    """
    frames = {part.frame_id for part in parts}
    if len(frames) != 1:
        raise DetectionsError(f'detections of {len(frames)} frames cannot be merged')
    whole = parts[0]
    for part in parts[1:]:
        whole = _pair(whole, part)
    return whole


def _pair(whole: Detections, part: Detections) -> Detections:
    """Return the objects of both, each once; those of ``part`` follow."""
    rows, columns = _same(whole, part)
    index = part.source_index.astype(int)
    index = np.where(index == NO_SOURCE, NO_SOURCE, index + len(whole.sources)).astype(np.uint16)
    values = {name: np.concatenate([getattr(whole, name), index if name == 'source_index' else
                                    getattr(part, name)]) for name in PER_OBJECT}
    second = len(whole) + columns
    better = values['existence'][second] > values['existence'][rows]
    information = [np.linalg.inv(noise) for noise in (position_noise(whole)[rows],
                                                      position_noise(part)[columns])]
    cov = np.linalg.inv(information[0] + information[1])
    mean = np.einsum('nij,nj->ni', cov, sum(
        np.einsum('nij,nj->ni', inverse, place) for inverse, place in
        zip(information, (whole.position[rows], part.position[columns]), strict=True)))
    categories = values['existence'][rows, None] * values['categories'][rows] + \
        values['existence'][second, None] * values['categories'][second]
    for name in PER_OBJECT:
        mask = better.reshape(-1, *[1] * (values[name].ndim - 1))
        values[name][rows] = np.where(mask, values[name][second], values[name][rows])
    values['position'][rows] = mean
    unit = mean / np.hypot(*mean.T).clip(1e-6)[:, None]
    values['range_deviation'][rows] = np.sqrt(np.einsum('ni,nij,nj->n', unit, cov, unit))
    total = categories.sum(1, keepdims=True)
    values['categories'][rows] = np.where(total > 0, categories / total.clip(1e-12),
                                          values['categories'][rows])
    kept = np.delete(np.arange(len(whole) + len(part)), second)
    each: dict[str, Any] = {name: array[kept] for name, array in values.items()}
    return replace(
        whole, **each, sources=whole.sources + part.sources, known=whole.known | part.known,
        looked=whole.looked | part.looked, max_distance=min(whole.max_distance, part.max_distance),
        stamp_ns=min(whole.stamp_ns, part.stamp_ns))


def _same(whole: Detections, part: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of both that are the same objects."""
    if not len(whole) or not len(part):
        return np.zeros(0, int), np.zeros(0, int)
    gap = whole.position[:, None] - part.position[None]
    spread = position_noise(whole)[:, None] + position_noise(part)[None]
    far = np.einsum('nmi,nmij,nmj->nm', gap, np.linalg.inv(spread), gap)
    possible = (far < GATE) & (whole.categories @ AGREEMENT @ part.categories.T >= SAME)
    rows, columns = linear_sum_assignment(np.where(possible, far, 1e6))
    good = possible[rows, columns]
    return rows[good], columns[good]
