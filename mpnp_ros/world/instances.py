"""Which models stand where: rows that the graphics card repeats a model by."""
from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from mpnp_ros.world.furniture import SIGNAL_HEADS
from mpnp_ros.world.models import SIGNAL_HEAD, ModelKey, key_of, placement
from mpnp_ros.world.rig import EGO_REAR, EGO_SIZE
from mpnp_ros.world.state import Colour, Scenery, Signal, WorldObject, WorldState

_LIT, _BRAKING, _SIREN = 1, 2, 4
_SIGNAL_BITS = {'red': 8, 'yellow': 16, 'green': 32}

Instances = dict[ModelKey, np.ndarray]
"""Rows [N, 16] by model: the first three rows of its place [4, 4], its colour, its lights as bits."""


def of_state(state: WorldState, with_ego: bool = False) -> Instances:
    """What moves or changes."""
    rows = [(key_of(thing), _row(thing.x, thing.y, thing.z, thing.yaw, thing.size, thing.colour, _bits(thing)))
            for thing in state.objects]
    rows += [((SIGNAL_HEAD, 0, 0), row) for signal in state.signals for row in _signal_rows(signal)]
    if with_ego:
        ego, ahead = state.ego, EGO_SIZE[0] / 2 - EGO_REAR
        x, y = ego.x + ahead * math.cos(ego.yaw), ego.y + ahead * math.sin(ego.yaw)
        rows.append((('hatchback', 0, 0), _row(x, y, 0, ego.yaw, EGO_SIZE, (0.9, 0.9, 0.92), _LIT)))
    return _grouped(rows)


def of_scenery(scenery: Scenery) -> Instances:
    """What stands still."""
    return _grouped(((fixture.kind, 0, 0), _row(fixture.x, fixture.y, fixture.z, fixture.yaw, fixture.size,
                                                fixture.colour, 0)) for fixture in scenery.fixtures)


def _grouped(rows: Iterable[tuple[ModelKey, np.ndarray]]) -> Instances:
    groups: dict[ModelKey, list[np.ndarray]] = defaultdict(list)
    for key, row in rows:
        groups[key].append(row)
    return {key: np.array(group, np.float32) for key, group in groups.items()}


def _row(x: float, y: float, z: float, yaw: float, size: tuple[float, float, float], colour: Colour,
         bits: int) -> np.ndarray:
    return np.concatenate([placement(x, y, z, yaw, size)[:3].ravel(), colour, [bits]])


def _signal_rows(signal: Signal) -> list[np.ndarray]:
    """One row for each head that hangs at its pole."""
    bits = _SIGNAL_BITS[signal.colour]
    return [_row(signal.x - left * math.sin(signal.yaw), signal.y + left * math.cos(signal.yaw), up, signal.yaw,
                 (1, 1, 1), (1, 1, 1), bits) for left, up in SIGNAL_HEADS]


def _bits(thing: WorldObject) -> int:
    return _LIT * thing.lights + _BRAKING * thing.braking + _SIREN * thing.siren
