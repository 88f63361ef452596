"""Boxes seen from above: whether they overlap."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np


def footprint(x: float, y: float, yaw: float, length: float, width: float) -> np.ndarray:
    """Corners [4, 2] counter-clockwise from ahead left."""
    along = np.array([math.cos(yaw), math.sin(yaw)]) * length / 2
    across = np.array([-math.sin(yaw), math.cos(yaw)]) * width / 2
    return np.array([along + across, across - along, -along - across, along - across]) + (x, y)


def footprints(places: np.ndarray) -> np.ndarray:
    """Corners [N, 4, 2] of boxes [N, 5]: x, y, yaw, length, width."""
    places = np.asarray(places, float).reshape(-1, 5)
    cosine, sine = np.cos(places[:, 2]), np.sin(places[:, 2])
    along = np.stack([cosine, sine], -1) * places[:, 3:4] / 2
    across = np.stack([-sine, cosine], -1) * places[:, 4:5] / 2
    return places[:, None, :2] + np.stack([along + across, across - along, -along - across, along - across], 1)


def overlapping(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `others` [N, 4, 2] overlap `box` [4, 2], by the separating axis theorem: bool [N]."""
    apart = np.zeros(len(others), bool)
    for first, second in ((box[None], others), (others, box[None])):
        edges = first[:, [0, 1]] - first[:, [1, 2]]
        low, high = (first @ edges.transpose(0, 2, 1), second @ edges.transpose(0, 2, 1))
        apart |= ((low.max(1) <= high.min(1)) | (high.max(1) <= low.min(1))).any(1)
    return ~apart


class Ground:
    """What of the ground is taken."""

    def __init__(self, taken: Iterable[np.ndarray] = ()) -> None:
        self._boxes: list[np.ndarray] = list(taken)
        self._centres: list[Sequence[float]] = [box.mean(0) for box in self._boxes]
        self._radii: list[float] = [_radius(box) for box in self._boxes]

    def is_free(self, box: np.ndarray) -> bool:
        """Whether nothing taken overlaps the box [4, 2]."""
        if not self._boxes:
            return True
        distances = np.hypot(*(np.array(self._centres) - box.mean(0)).T)
        near = np.flatnonzero(distances < np.array(self._radii) + _radius(box))
        return not len(near) or not overlapping(box, np.array([self._boxes[i] for i in near])).any()

    def take(self, box: np.ndarray) -> bool:
        """Take the place of the box if it is free; whether it was."""
        if not self.is_free(box):
            return False
        self._boxes.append(box)
        self._centres.append(box.mean(0))
        self._radii.append(_radius(box))
        return True


def _radius(box: np.ndarray) -> float:
    return float(np.hypot(*(box[0] - box[2]))) / 2
