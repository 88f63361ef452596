"""What LiDAR points above the ground hold together: clusters, their extent, and whether they move.

A cluster lies at nearly every object, but its size hardly tells what it is.  So clusters tell what is there,
how far away it is and whether it moves; boxes in images tell what it is.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.ground import heights_above_ground
from mpnp_ros.detection.motion import PRIOR, MotionTracker, log_odds
from mpnp_ros.poses import Transform
from mpnp_ros.questions.vocabulary import CATEGORIES

CELL, REACH = 0.25, 45.0
"""Metres: side of a cell, and how far clusters are looked for."""
CLEAR, HIGH = 0.25, 4.0
"""Metres above the ground between which points belong to objects."""
SPARSE = 15.0
"""Metres from which on cells that are next but one to each other are connected: points lie apart there."""
FEWEST = 4
"""Fewest points of a cluster."""
OWN_BODY = 1.0
"""Metres from the origin within which points lie on the robot itself."""
TURNS = 18
"""Directions that are tried for the rectangle around a cluster."""
LONGEST = 12.0
"""Metres; what is longer is no object that could move, but a wall or several objects."""
DEVIATION, PER_LENGTH = 0.2, 0.08
"""Metres, and share of its length: deviation of the middle of a cluster, as other parts of it are seen."""
SMALL = 1.3
"""Metres, length of a cluster from which on it is taken for a vehicle."""


def _equally(*names: str) -> np.ndarray:
    return np.array([(category in names) / len(names) for category in CATEGORIES])


SMALL_OBJECTS, LARGE_OBJECTS = _equally('pedestrian', 'car'), _equally('car')
"""What a cluster may be, as far as its motion is concerned: far cars show few points."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters of one sweep; n of them.

    points: [N, 3] metres in the base frame, of the whole sweep.  index: [N] the cluster of each point; -1:
    none, as of points on the ground.  count: [n] points.  centre: [n, 2] metres, middle of the smallest
    rectangle around the points, seen from above.  length, width: [n] metres, of that rectangle.
    top: [n] metres above the ground.
    evidence: [n] log of how much likelier what was measured is if the cluster moves than if it stands; NaN:
    not known.
    """

    points: np.ndarray
    index: np.ndarray
    count: np.ndarray
    centre: np.ndarray
    length: np.ndarray
    width: np.ndarray
    top: np.ndarray
    evidence: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if len(self.evidence) != len(self.count):
            object.__setattr__(self, 'evidence', np.full(len(self.count), np.nan))

    def __len__(self) -> int:
        return len(self.count)

    def moved(self, way: Transform) -> Clusters:
        """Return the same clusters as seen from another base frame; way: this base frame in that one."""
        turn = way.rotation[:2, :2]
        return replace(self, points=way.apply(self.points), centre=self.centre @ turn.T + way.translation[:2])


def clusters_of(points: np.ndarray) -> Clusters:
    """Return the clusters of a sweep.

    points: [N, 3] metres in the base frame; those that are not finite are left out, and those on the robot.
    """
    points = np.asarray(points, np.float64)
    points = points[np.isfinite(points).all(1)]
    points = points[np.hypot(*points[:, :2].T) > OWN_BODY]
    height = heights_above_ground(points)
    near = (height > CLEAR) & (height < HIGH) & (np.abs(points[:, :2]) < REACH).all(1)
    side = int(2 * REACH / CELL)
    place = np.floor((points[near, :2] + REACH) / CELL).astype(int).clip(0, side - 1)
    grid = np.zeros((side, side), bool)
    grid[place[:, 0], place[:, 1]] = True
    around = np.ones((3, 3), bool)
    middles = (np.arange(side) + .5) * CELL - REACH
    far = np.hypot(middles[:, None], middles[None]) > SPARSE
    joined = np.where(far, ndimage.binary_dilation(grid, around), ndimage.binary_closing(grid, around) | grid)
    names = ndimage.label(joined, around)[0][place[:, 0], place[:, 1]]
    counts = np.bincount(names, minlength=1)
    kept = np.flatnonzero(counts >= FEWEST)
    new = np.full(len(counts), -1)
    new[kept] = np.arange(len(kept))
    index = np.full(len(points), -1)
    index[near] = new[names]
    return _measured(points, index, height, len(kept))


def _measured(points: np.ndarray, index: np.ndarray, height: np.ndarray, n: int) -> Clusters:
    """Return n clusters with their extent."""
    if not n:
        return Clusters(points, index, np.zeros(0, int), np.zeros((0, 2)), *np.zeros((3, 0)))
    mine = np.flatnonzero(index >= 0)
    mine = mine[np.argsort(index[mine], kind='stable')]
    starts = np.searchsorted(index[mine], np.arange(n))
    angles = np.arange(TURNS) * (np.pi / 2 / TURNS)
    axes = np.stack([np.stack([np.cos(angles), np.sin(angles)], 1),
                     np.stack([-np.sin(angles), np.cos(angles)], 1)], 1)
    along = np.einsum('ni,tai->tan', points[mine, :2], axes)
    low, high = np.minimum.reduceat(along, starts, axis=2), np.maximum.reduceat(along, starts, axis=2)
    extent = high - low
    best = (extent + CELL).prod(1).argmin(0)
    chosen = extent[best, :, np.arange(n)]
    centre = np.einsum('na,nai->ni', (low + high)[best, :, np.arange(n)] / 2, axes[best])
    return Clusters(points, index, np.diff(np.append(starts, len(mine))), centre, chosen.max(1),
                    chosen.min(1), np.maximum.reduceat(height[mine], starts))


class ClusterTracker:
    """Estimates which clusters move, from those of earlier sweeps.

    It may see more sweeps than there are images: what moves is known as soon as a box lies on it.
    """

    def __init__(self) -> None:
        self._tracker = MotionTracker()

    @property
    def concern(self) -> str:
        """Return why motion cannot be estimated; empty where it can."""
        return self._tracker.concern

    def forget(self) -> None:
        """Start anew."""
        self._tracker.forget()

    def follow(self, clusters: Clusters, stamp_ns: int, ego: Transform | None) -> Clusters:
        """Return the clusters with their motion.

        ego: pose of their frame at their time in a frame that does not move; None: it is not known.
        """
        short = np.flatnonzero(clusters.length < LONGEST)
        categories = np.where(clusters.length[short, None] < SMALL, SMALL_OBJECTS, LARGE_OBJECTS)
        deviation = DEVIATION + PER_LENGTH * clusters.length[short]
        told = self._tracker.follow(Detections(
            clusters.centre[short], np.ones(len(short)), categories, range_deviation=deviation,
            cross_deviation=deviation, stamp_ns=stamp_ns), ego)
        evidence = np.full(len(clusters), np.nan)
        evidence[short] = log_odds(told.moving) - log_odds(categories @ PRIOR)
        return replace(clusters, evidence=evidence)

