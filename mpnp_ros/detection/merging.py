"""Objects that several sources see count once."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.motion import AGREEMENT, GATE, position_noise
from mpnp_ros.errors import DetectionsError
from mpnp_ros.tokens import NO_SOURCE

SAME = 0.25
"""Agreement of categories from which two objects at one place are the same."""
EACH = ('position', 'existence', 'categories', 'moving', 'rider', 'velocity', 'size', 'yaw',
        'range_deviation', 'boxes', 'source_index', 'track')


def merged(parts: Sequence[Detections]) -> Detections:
    """Return the objects of several sources in one frame as one, each object once.

    Objects of two sources are the same where their places agree within their deviations and their categories
    do.  The place is the mean by deviation, the rest is of the one that exists more probably.  The stamp is
    the oldest; categories can be told, and sectors are looked at, where some source does.  Raises
    DetectionsError for none, or several frames.
    """
    frames = {part.frame_id for part in parts}
    if len(frames) != 1:
        raise DetectionsError(f'detections of {len(frames)} frames cannot be merged')
    whole = parts[0]
    for part in parts[1:]:
        whole = _pair(whole, part)
    return whole


def _pair(one: Detections, other: Detections) -> Detections:
    rows, columns = _same(one, other)
    index = other.source_index.astype(int)
    index = np.where(index == NO_SOURCE, NO_SOURCE, index + len(one.sources)).astype(np.uint16)
    values = {name: np.concatenate([getattr(one, name), index if name == 'source_index' else
                                    getattr(other, name)]) for name in EACH}
    second = len(one) + columns
    better = values['existence'][second] > values['existence'][rows]
    information = [np.linalg.inv(noise) for noise in (position_noise(one)[rows],
                                                      position_noise(other)[columns])]
    cov = np.linalg.inv(information[0] + information[1])
    mean = np.einsum('nij,nj->ni', cov, sum(
        np.einsum('nij,nj->ni', inverse, place) for inverse, place in
        zip(information, (one.position[rows], other.position[columns]), strict=True)))
    categories = values['existence'][rows, None] * values['categories'][rows] + \
        values['existence'][second, None] * values['categories'][second]
    for name in EACH:
        mask = better.reshape(-1, *[1] * (values[name].ndim - 1))
        values[name][rows] = np.where(mask, values[name][second], values[name][rows])
    values['position'][rows] = mean
    unit = mean / np.hypot(*mean.T).clip(1e-6)[:, None]
    values['range_deviation'][rows] = np.sqrt(np.einsum('ni,nij,nj->n', unit, cov, unit))
    total = categories.sum(1, keepdims=True)
    values['categories'][rows] = np.where(total > 0, categories / total.clip(1e-12),
                                          values['categories'][rows])
    kept = np.delete(np.arange(len(one) + len(other)), second)
    each: dict[str, Any] = {name: array[kept] for name, array in values.items()}
    return replace(
        one, **each, sources=one.sources + other.sources, known=one.known | other.known,
        looked=one.looked | other.looked, max_distance=min(one.max_distance, other.max_distance),
        stamp_ns=min(one.stamp_ns, other.stamp_ns))


def _same(one: Detections, other: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the one and of the other that are the same object."""
    if not len(one) or not len(other):
        return np.zeros(0, int), np.zeros(0, int)
    gap = one.position[:, None] - other.position[None]
    spread = position_noise(one)[:, None] + position_noise(other)[None]
    far = np.einsum('nmi,nmij,nmj->nm', gap, np.linalg.inv(spread), gap)
    possible = (far < GATE) & (one.categories @ AGREEMENT @ other.categories.T >= SAME)
    rows, columns = linear_sum_assignment(np.where(possible, far, 1e6))
    good = possible[rows, columns]
    return rows[good], columns[good]
