"""Casts a LiDAR sweep: rays against blocks and the ground, nearest hit wins."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_ros.poses import Transform
from mpnp_world.standin.rig import LIDAR_CHANNEL, RIG, lidar_rays
from mpnp_world.standin.shapes import Block, blocks_of, building_block
from mpnp_world.standin.street import StandinStreet

MAX_RANGE = 70.0
RANGE_NOISE = .02
"""Standard deviation of a range, metres."""
DROPOUT = .01
GROUND, BUILDING = -1, -2
GROUND_INTENSITY = 8.0


@dataclass(frozen=True, eq=False)
class Sweep:
    """One sweep. points: [N, 5] float32: x, y, z in the sensor frame, intensity 0..255, ring.

    hits: rays that hit each actor, in the street's order; visible: share of the rays to
    the actor that are not blocked, 0 without rays.
    """

    points: np.ndarray
    hits: np.ndarray
    visible: np.ndarray


def cast_sweep(street: StandinStreet, time: float, rng: np.random.Generator) -> Sweep:
    """The sweep of the street at ``time`` seconds."""
    mounting = RIG[LIDAR_CHANNEL].pose
    ego = street.ego(time)
    rays, rings = lidar_rays()
    directions, origin = rays @ ego.rotation.T, ego.apply(mounting.translation)
    ranges, owners, intensity = _background(street, origin, directions)
    alone = np.zeros(len(street.actors), int)
    for index, actor in enumerate(street.actors):
        distance, shade = _actor_ranges(blocks_of(actor), actor.pose(time), actor.size, origin, directions)
        alone[index] = np.isfinite(distance).sum()
        nearer = distance < ranges
        ranges[nearer], owners[nearer], intensity[nearer] = distance[nearer], index, shade[nearer]
    kept = (ranges < MAX_RANGE) & (rng.random(len(ranges)) >= DROPOUT)
    hits = np.bincount(owners[kept & (owners >= 0)], minlength=len(street.actors))
    noisy = ranges[kept] + rng.normal(0, RANGE_NOISE, kept.sum())
    points = (rays[kept] * noisy[:, None]) @ mounting.rotation
    return Sweep(np.c_[points, intensity[kept], rings[kept]].astype('<f4'), hits,
                 hits / np.maximum(alone, 1))


def _background(street: StandinStreet, origin: np.ndarray,
                directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Range, owner and intensity of every ray for ground and buildings."""
    with np.errstate(divide='ignore'):
        ranges = np.where(directions[:, 2] < 0, -origin[2] / directions[:, 2], np.inf)
    owners = np.full(len(ranges), GROUND)
    intensity = np.full(len(ranges), GROUND_INTENSITY)
    for building in street.buildings:
        block = building_block(building)
        distance = _block_ranges(block, origin, directions)
        nearer = distance < ranges
        ranges[nearer], owners[nearer], intensity[nearer] = distance[nearer], BUILDING, _brightness(block)
    return ranges, owners, intensity


def _actor_ranges(blocks: tuple[Block, ...], pose: Transform, size: tuple[float, float, float],
                  origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Range (inf: none) and intensity of every ray that meets one of the blocks."""
    ranges, intensity = np.full(len(directions), np.inf), np.zeros(len(directions))
    middle = pose.translation + (0, 0, size[2] / 2) - origin
    distance, radius = np.linalg.norm(middle), np.linalg.norm(size) / 2 + .1
    if distance - radius > MAX_RANGE:
        return ranges, intensity
    limit = np.sqrt(max(0.0, 1 - (radius / distance) ** 2)) if distance > radius else -1.0
    near = np.flatnonzero(directions @ (middle / distance) > limit)
    to_actor = pose.inverse()
    local_origin, local = to_actor.apply(origin), directions[near] @ to_actor.rotation.T
    for block in blocks:
        hit = _block_ranges(block, local_origin, local)
        nearer = hit < ranges[near]
        ranges[near[nearer]], intensity[near[nearer]] = hit[nearer], _brightness(block)
    return ranges, intensity


def _block_ranges(block: Block, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Range at which each ray enters an upright block without taper; inf: no hit."""
    half = np.array(block.size) / 2
    with np.errstate(divide='ignore', invalid='ignore'):
        first, second = ((block.centre + sign * half - origin) / directions for sign in (-1, 1))
    entry = np.minimum(first, second).max(1)
    leaving = np.maximum(first, second).min(1)
    return np.where((entry <= leaving) & (entry > 0), entry, np.inf)


def _brightness(block: Block) -> float:
    return 10 + .3 * sum(block.colour) / 3
