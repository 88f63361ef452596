"""Visible share of each object from the ego vehicle, and numbers of sensor points on it."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from mpnp_ros.poses import rotation_about_z
from mpnp_world.scene.state import WorldObject, WorldState
from mpnp_world.sensors.rays import Rays

EYE = (0.9, 0.0, 1.7)
"""View point amid the roof cameras, metres in the ego frame."""
POINTS = 32
"""Number of rays per object."""
_STEPS = (0.8191725134, 0.6710436067, 0.5497004779)


def _box_points() -> np.ndarray:
    """Points [POINTS, 3] evenly distributed in the unit box, slightly inside its faces.

    They are an additive recurrence with a generalised plastic number (Roberts, 2018).
    """
    spread = np.outer(np.arange(1, POINTS + 1), _STEPS) % 1
    return (spread - (0.5, 0.5, 0.0)) * (0.8, 0.8, 0.9) + (0.0, 0.0, 0.05)


def visibility(state: WorldState, rays: Rays) -> dict[int, float]:
    """Visible share, 0..1, of every object by identity: the share of unblocked rays to points in its box.

    Light and weather have no effect.
    """
    if not state.objects:
        return {}
    eye = state.ego.pose.apply(EYE)
    targets = np.concatenate([_points_in(thing) for thing in state.objects]) - eye
    distance = np.linalg.norm(targets, axis=1)
    hits = rays.cast(state, eye, targets / distance[:, None])
    wanted = np.repeat([thing.identity for thing in state.objects], POINTS)
    arrives = (hits.identity == wanted) | (hits.distance >= distance)
    shares = arrives.reshape(-1, POINTS).mean(1)
    return {thing.identity: float(share) for thing, share in zip(state.objects, shares, strict=True)}


def _points_in(thing: WorldObject) -> np.ndarray:
    return _box_points() * thing.size @ rotation_about_z(thing.yaw).T + (thing.x, thing.y, thing.z)


def point_counts(identities: Iterable[np.ndarray]) -> Counter[int]:
    """Number of points on every object by identity, in one or more sweeps; zero if absent."""
    counts = Counter(np.concatenate(list(identities)).tolist())
    del counts[0]
    return counts
