"""A small street by hand: some things stand, some drive and walk, a signal changes."""
from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState, Fixture, Patch, Scenery, Signal, WorldObject, WorldState

SCENERY = Scenery(
    (Fixture('building', 20, 25, 0.1, (18, 12, 15), colour=(0.5, 0.4, 0.3)),
     Fixture('tree', 5, 11, 0, (3, 3, 6), 0.15), Fixture('lamp', 8, 10, -1.57, (2.0, 0.3, 7.0), 0.15),
     Fixture('signal_pole', 30, 8, 0, (0.14, 0.14, 3.2)),
     Fixture('building', 900, 900, 0, (10, 10, 10))),
    (Patch('road', ((-100, -8), (100, -8), (100, 8), (-100, 8))),
     Patch('sidewalk', ((-100, 8), (100, 8), (100, 13), (-100, 13)), 0.15),
     Patch('marking', ((0, -0.1), (3, -0.1), (3, 0.1), (0, 0.1)))))


def objects(time: float) -> tuple[WorldObject, ...]:
    """One parked thing of every kind in a row; a sedan in a bend, a pedestrian, one that comes at 2 s."""
    parked = [WorldObject(number, kind, 'with rider' if kind == 'bicycle' else None, 4 * number, 6, 0.2,
                          spec.size) for number, (kind, spec) in enumerate(KINDS.items(), 1)]
    turn = 0.15 * time
    car = WorldObject(101, 'sedan', 'moving', 40 * math.sin(turn), 40 - 40 * math.cos(turn), turn,
                      (4.6, 1.9, 1.5), speed=6.0, colour=(0.4, 0.05, 0.05), lights=True)
    walker = WorldObject(102, 'pedestrian', 'moving', 10, -9 + 1.2 * time, math.pi / 2, (0.7, 0.6, 1.75))
    late = [WorldObject(103, 'bus', 'moving', -40 + 5 * time, -4, 0, (11, 2.9, 3.5))] if time >= 2 else []
    far = WorldObject(104, 'sedan', 'parked', 2000, 0, 0, (4.6, 1.9, 1.5))
    return (*parked, car, walker, *late, far)


def moment(time: float, light: str = 'day', weather: str = 'clear') -> WorldState:
    """The street after some seconds; the ego vehicle goes into a left bend."""
    turn = 0.1 * time
    ego = EgoState(60 * math.sin(turn), -1.75 + 60 * (1 - math.cos(turn)), turn, 6.0, yaw_rate=0.1)
    lights = (Signal(30, 8, 0.0, 'red' if time < 3 else 'green'), Signal(50, -8, math.pi, 'red'))
    return WorldState(1, Conditions(light, weather), time, ego, objects(time), lights, SCENERY)


@pytest.fixture(scope='session')
def at() -> Callable[..., WorldState]:
    """Give a function: time, light, weather -> the street at that moment."""
    return moment


@pytest.fixture(scope='session')
def drive_states() -> list[WorldState]:
    """Six seconds of it by day."""
    return [moment(float(time)) for time in range(7)]
