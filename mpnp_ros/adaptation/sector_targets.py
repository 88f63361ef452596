"""Training targets of heads: the boxes of a frame, counted by sector and channel."""
from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mpnp_ros.adaptation.true_objects import TrueObjects
from mpnp_ros.modalities.geometry import SECTORS, sector_of
from mpnp_ros.nuscenes.key_frame import KeyFrame
from mpnp_ros.nuscenes.questions import Scope

_WORLD_SCENE = re.compile(r'world-(\d+)-')


@dataclass(frozen=True, eq=False)
class SectorTargets:
    """The objects of a frame.

    azimuth: [N] radians in the base frame; weights: float32 [N, C], how much each counts in each channel,
    1 in all.
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


def sector_targets(frame: KeyFrame, scope: Scope) -> SectorTargets:
    """Return the objects of a key frame in the scope of questions."""
    tokens = TrueObjects(scope).encode(frame)
    there = np.isfinite(tokens.azimuth)
    return SectorTargets(tokens.azimuth[there].astype(np.float64), tokens.values[there])


def twins(scene: str) -> str:
    """Return the key of scenes that must be on one side of a split: the seed of a simulated scene.

    Day and night scenes of a seed have the same traffic.  Other scenes are independent.
    """
    found = _WORLD_SCENE.match(scene)
    return found[1] if found else scene
