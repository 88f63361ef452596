"""Which cluster of LiDAR points a box in an image covers: how far its object is, and whether one is there."""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mpnp_ros.detection.clusters import REACH, Clusters

SIDES, ENDS = 0.1, 0.05
"""Shares of a box at its left and right, and at its upper and lower edge: there is often something else."""
LAYER = 1.2
"""Metres between LiDAR points of one object, at most, one behind another."""
LEAST = 2
"""Fewest points in a box that tell a distance."""
MISJUDGED = math.log(2)
"""Logarithm of the ratio of a distance to that by the image, at most."""
PART = 0.1
"""Added to the share of a cluster that a box covers: an object may be a small part of what holds together."""
LOOKED = 8
"""Fewest returns in a box, wherever from, that show that the LiDAR looks there."""
SUPPORT_IF_TRUE, SUPPORT_IF_FALSE = 0.95, 0.7
"""Probabilities that a cluster fits a box of an object, and a box without one; set by reasoning.

LiDAR has a cluster at nearly every object.  Something at about the right distance is in most boxes anyway.
"""


@dataclass(frozen=True, eq=False)
class RangeClaim:
    """What a box covers of a cluster.

    cluster: its index.  points: [n] indices of points, of one layer of it.  nearest: horizontal metres from
    the camera to its nearest points.  depth: metres that it extends from there.
    """

    cluster: int
    points: np.ndarray
    nearest: float
    depth: float


class ProjectedClusters:
    """Clusters in the image of one camera."""

    def __init__(self, clusters: Clusters, pixels: np.ndarray, ahead: np.ndarray, position: np.ndarray,
                 size: tuple[int, int]) -> None:
        """pixels, ahead: [N, 2] and [N] metres, of all points.  position, size: of the camera."""
        self.clusters, self._pixels = clusters, pixels
        self._before = ahead > .5
        self._away = np.hypot(*(clusters.points[:, :2] - position[:2]).T)
        inside = self._before & (pixels >= 0).all(1) & (pixels < size).all(1) & (clusters.index >= 0)
        self._visible = np.bincount(clusters.index[inside], minlength=len(clusters))

    def claim(self, box: np.ndarray, distance: float, deviation: float) -> RangeClaim | None:
        """Return the layer of a cluster that a box covers best; None where nothing fits.

        box: [4] pixels.  distance, deviation: metres, by the image.
        """
        within = self._within(box)
        points = within[self.clusters.index[within] >= 0]
        best, most = None, -math.inf
        for cluster in np.unique(self.clusters.index[points]):
            mine = points[self.clusters.index[points] == cluster]
            mine = mine[np.argsort(self._away[mine], kind='stable')]
            share = len(mine) / max(1, self._visible[cluster])
            for layer in np.split(mine, np.flatnonzero(np.diff(self._away[mine]) > LAYER) + 1):
                ratio = abs(math.log(max(.1, float(np.median(self._away[layer]))) / distance))
                if len(layer) < LEAST or ratio > MISJUDGED:
                    continue
                worth = math.log1p(len(layer)) + math.log(min(1., share) + PART) \
                    - math.log1p((ratio * distance / deviation) ** 2)
                if worth > most:
                    low, high = np.quantile(self._away[layer], [.05, .95])
                    best, most = RangeClaim(int(cluster), layer, float(low), float(high - low)), worth
        return best

    def looked(self, box: np.ndarray, distance: float) -> bool:
        """Whether the LiDAR would see an object of this box."""
        return distance < REACH and len(self._within(box)) >= LOOKED

    def _within(self, box: np.ndarray) -> np.ndarray:
        """Return the indices of the returns in the middle of a box."""
        margin = (box[2:] - box[:2]) * [SIDES, ENDS]
        low, high = box[:2] + margin, box[2:] - margin
        return np.flatnonzero(self._before & ((self._pixels > low) & (self._pixels < high)).all(1))


def supported(existence: float, fits: bool) -> float:
    """Return the probability of an object where a cluster fits its box, or none does."""
    true = SUPPORT_IF_TRUE if fits else 1 - SUPPORT_IF_TRUE
    false = SUPPORT_IF_FALSE if fits else 1 - SUPPORT_IF_FALSE
    return existence * true / (existence * true + (1 - existence) * false)


def share_points(first: RangeClaim, second: RangeClaim) -> bool:
    """Whether two boxes claim the same points: at least half of those of the smaller claim."""
    common = len(np.intersect1d(first.points, second.points, assume_unique=True))
    return 2 * common >= min(len(first.points), len(second.points))
