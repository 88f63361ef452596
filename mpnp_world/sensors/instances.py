"""Instances of models: per-instance rows for instanced drawing."""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import numpy as np

from mpnp_world.models.furniture import SIGNAL_HEADS
from mpnp_world.models.lookup import SIGNAL_HEAD, ModelKey, key_of, model_of, placement
from mpnp_world.scene.state import Colour, EgoState, Scenery, Signal, WorldObject, WorldState
from mpnp_world.sensors.rig import EGO_REAR, EGO_SIZE
from mpnp_world.sensors.views import seen

_LIT, _BRAKING, _SIREN = 1, 2, 4
_SIGNAL_BITS = {'red': 8, 'yellow': 16, 'green': 32}

_VISIBLE = {'pedestrian': 110.0, 'child': 110.0, 'cone': 80.0, 'barrier': 120.0, 'bicycle': 110.0,
            'motorcycle': 120.0, 'bench': 80.0, 'tree': 160.0, 'lamp': 160.0, 'building': 420.0}
_VISIBLE_OTHERWISE = 220.0
"""Drawing distance of other kinds, metres."""
_DRAWN_LAST = ('tree', 'lamp', 'signal_pole', 'building')

Row = tuple[ModelKey, np.ndarray]


@dataclass(frozen=True, eq=False)
class Instances:
    """Instances, grouped by model.

    slices: rows of each model.  rows: [N, 16]: the first three rows of the pose [4, 4], colour, and lights as
    bits.  radii: [N], bounding radius around the origin, metres; reach: [N], drawing distance, metres.
    """

    slices: dict[ModelKey, slice]
    rows: np.ndarray
    radii: np.ndarray
    reach: np.ndarray

    @classmethod
    def of_state(cls, state: WorldState, with_ego: bool = False) -> Instances:
        """The instances of moving and changing things."""
        rows = [(key_of(thing), _row(thing.x, thing.y, thing.z, thing.yaw, thing.size, thing.colour,
                                     _bits(thing)))
                for thing in state.objects]
        rows += [((SIGNAL_HEAD, 0, 0), row) for signal in state.signals for row in _signal_rows(signal)]
        return cls._grouped(rows + [_ego_row(state.ego)] * with_ego)

    @classmethod
    def of_scenery(cls, scenery: Scenery) -> Instances:
        """The instances of static things."""
        return cls._grouped([((fixture.kind, 0, 0),
                              _row(fixture.x, fixture.y, fixture.z, fixture.yaw, fixture.size,
                                                         fixture.colour, 0)) for fixture in scenery.fixtures])

    @classmethod
    def _grouped(cls, rows: list[Row]) -> Instances:
        rows = sorted(rows, key=lambda row: (_rank(row[0]), row[0]))
        slices = {key: slice(group[0], group[-1] + 1) for key, group in
                  ((key, [index for index, _ in group]) for key, group in
                   groupby(enumerate(rows), key=lambda item: item[1][0]))}
        table = np.array([row for _, row in rows], np.float32).reshape(-1, 16)
        extents = np.array([_extent(key) for key, _ in rows]).reshape(-1, 3)
        scales = np.linalg.norm(table[:, :12].reshape(-1, 3, 4)[:, :, :3], axis=1)
        reach = np.array([_VISIBLE.get(key[0], _VISIBLE_OTHERWISE) for key, _ in rows])
        return cls(slices, table, np.linalg.norm(scales * extents, axis=1), reach)

    def __add__(self, other: Instances) -> Instances:
        """The union of both, which must have different models."""
        moved = {key: slice(part.start + len(self.rows), part.stop + len(self.rows))
                 for key, part in other.slices.items()}
        slices = dict(sorted((self.slices | moved).items(), key=lambda item: _rank(item[0])))
        return Instances(slices, np.concatenate([self.rows, other.rows]),
                         np.concatenate([self.radii, other.radii]), np.concatenate([self.reach, other.reach]))

    def visible(self, projection: np.ndarray, eye: np.ndarray) -> Iterator[tuple[ModelKey, np.ndarray]]:
        """Models and rows in the view of a projection [4, 4] from `eye` [3], the nearest first.

        Small things come first, so that hidden fragments need no shading.
        """
        places = self.rows[:, [3, 7, 11]]
        distance = np.linalg.norm(places - eye, axis=1)
        inside = seen(projection, places, self.radii) & (distance - self.radii < self.reach + abs(eye[2]))
        for key, part in self.slices.items():
            chosen = part.start + np.flatnonzero(inside[part])
            if len(chosen):
                yield key, self.rows[chosen[np.argsort(distance[chosen], kind='stable')]]


def _rank(key: ModelKey) -> int:
    """Position in the drawing order."""
    return _DRAWN_LAST.index(key[0]) + 1 if key[0] in _DRAWN_LAST else 0


@cache
def _extent(key: ModelKey) -> np.ndarray:
    """Extent of a model from its origin along each axis, [3]."""
    low, high = model_of(*key).bounds
    return np.maximum(np.abs(low), np.abs(high))


def _ego_row(ego: EgoState) -> Row:
    ahead = EGO_SIZE[0] / 2 - EGO_REAR
    x, y = ego.x + ahead * math.cos(ego.yaw), ego.y + ahead * math.sin(ego.yaw)
    return ('hatchback', 0, 0), _row(x, y, 0, ego.yaw, EGO_SIZE, (0.9, 0.9, 0.92), _LIT)


def _row(x: float, y: float, z: float, yaw: float, size: tuple[float, float, float], colour: Colour,
         bits: int) -> np.ndarray:
    return np.concatenate([placement(x, y, z, yaw, size)[:3].ravel(), colour, [bits]])


def _signal_rows(signal: Signal) -> list[np.ndarray]:
    """One row per head of a traffic light."""
    bits = _SIGNAL_BITS[signal.colour]
    return [_row(signal.x - left * math.sin(signal.yaw), signal.y + left * math.cos(signal.yaw), up,
                 signal.yaw,
                 (1, 1, 1), (1, 1, 1), bits) for left, up in SIGNAL_HEADS]


def _bits(thing: WorldObject) -> int:
    return _LIT * thing.lights + _BRAKING * thing.braking + _SIREN * thing.siren
