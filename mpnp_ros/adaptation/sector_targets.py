"""What heads are trained on: where the boxes of a frame lie, counted by sector and kind."""
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_ros.modalities.sector_head import Channel
from mpnp_ros.modalities.sectors import SECTORS, sector_of
from mpnp_ros.nuscenes.categories import CATEGORIES, STATUSES_OF_CATEGORY
from mpnp_ros.nuscenes.key_frame import AnnotatedObject

CHANNELS: tuple[Channel, ...] = tuple(
    (category, status) for category in CATEGORIES for status in (STATUSES_OF_CATEGORY[category] or (None,)))
"""Every category with each of its statuses: 24."""
_WORLD_SCENE = re.compile(r'world-(\d+)-')


@dataclass(frozen=True, eq=False)
class SectorTargets:
    """The objects of a frame.

    azimuth: [N] radians in the base frame; weights: float32 [N, C], how much each counts in each channel:
    1 in all, shared out where its status is not known.
    """

    azimuth: np.ndarray
    weights: np.ndarray

    def counts(self, turn: float = 0.0, mirrored: bool = False) -> np.ndarray:
        """The number of objects by sector, float32 [SECTORS, C].

        mirrored: left for right; turn: radians to the left, after that.
        """
        azimuth = (-self.azimuth if mirrored else self.azimuth) + turn
        counts = np.zeros((SECTORS, self.weights.shape[1]), np.float32)
        np.add.at(counts, sector_of(azimuth), self.weights)
        return counts


def sector_targets(objects: Iterable[AnnotatedObject], max_distance: float = np.inf, min_points: int = 0,
                   channels: Sequence[Channel] = CHANNELS) -> SectorTargets:
    """The objects within ``max_distance`` metres of the vehicle and with ``min_points`` LiDAR points."""
    kept = [item for item in objects
            if item.distance <= max_distance and item.num_lidar_pts >= min_points]
    azimuth = np.array([np.arctan2(item.centre[1], item.centre[0]) for item in kept])
    weights = np.array([_weights(item, channels) for item in kept], np.float32)
    return SectorTargets(azimuth, weights.reshape(-1, len(channels)))


def twins(scene: str) -> str:
    """What scenes have in common that may not be on both sides of a split: the seed of a world's scene.

    Day and night scenes of a seed show the same traffic.  Other scenes stand for themselves.
    """
    found = _WORLD_SCENE.match(scene)
    return found[1] if found else scene


def _weights(item: AnnotatedObject, channels: Sequence[Channel]) -> list[float]:
    fitting = [category == item.category and status in (None, item.attribute)
               for category, status in channels]
    if not any(fitting):
        fitting = [category == item.category for category, _ in channels]
    return [fits / max(1, sum(fitting)) for fits in fitting]
