"""Overlap of boxes in the ground plane."""
from __future__ import annotations

import math

import numpy as np

Box = tuple[float, float, float, float, float]
"""x, y, yaw, length, width: metres and radians."""
Corners = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
CELL = 6.0
"""Side of a grid cell, metres."""


def footprint(x: float, y: float, yaw: float, length: float, width: float) -> Corners:
    """The corners, counter-clockwise from front left."""
    cosine, sine = math.cos(yaw), math.sin(yaw)
    a, b, c, d = cosine * length / 2, sine * length / 2, -sine * width / 2, cosine * width / 2
    return ((x + a + c, y + b + d), (x - a + c, y - b + d),
            (x - a - c, y - b - d), (x + a - c, y + b - d))


def footprints(places: np.ndarray) -> np.ndarray:
    """Corners [N, 4, 2] of boxes [N, 5]: x, y, yaw, length, width."""
    places = np.asarray(places, float).reshape(-1, 5)
    cosine, sine = np.cos(places[:, 2]), np.sin(places[:, 2])
    along = np.stack([cosine, sine], -1) * places[:, 3:4] / 2
    across = np.stack([-sine, cosine], -1) * places[:, 4:5] / 2
    corners = along + across, across - along, -along - across, along - across
    return places[:, None, :2] + np.stack(corners, 1)


def overlap(first: Corners, other: Corners) -> bool:
    """Whether two boxes overlap, by the separating axis theorem."""
    for (x0, y0), (x1, y1), (x2, y2), _ in (first, other):
        for x, y in ((x1 - x0, y1 - y0), (x2 - x1, y2 - y1)):  # directions of the sides
            own, others = [a * x + b * y for a, b in first], [a * x + b * y for a, b in other]
            if max(own) <= min(others) or max(others) <= min(own):
                return False
    return True


class Ground:
    """Occupied ground; a grid of cells finds candidate boxes."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], list[tuple[Box, Corners]]] = {}

    def take(self, box: Box) -> bool:
        """Occupy the place of a box if it is free; returns whether it was free."""
        corners = footprint(*box)
        cells = _cells(corners)
        for cell in cells:
            for other, outline in self._cells.get(cell, ()):
                reach = box[3] + box[4] + other[3] + other[4]
                may_touch = 4 * ((box[0] - other[0]) ** 2 + (box[1] - other[1]) ** 2) < reach * reach
                if may_touch and overlap(corners, outline):
                    return False
        for cell in cells:
            self._cells.setdefault(cell, []).append((box, corners))
        return True


def _cells(corners: Corners) -> list[tuple[int, int]]:
    """The cells that the bounding rectangle of a box touches."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    left, right = int(min(x0, x1, x2, x3) // CELL), int(max(x0, x1, x2, x3) // CELL)
    low, high = int(min(y0, y1, y2, y3) // CELL), int(max(y0, y1, y2, y3) // CELL)
    return [(i, j) for i in range(left, right + 1) for j in range(low, high + 1)]
