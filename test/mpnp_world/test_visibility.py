"""What share of an object is in sight, and how many points lie on it."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_world.scene.conditions import Conditions
from mpnp_world.scene.state import EgoState, Fixture, Patch, Scenery, WorldObject, WorldState
from mpnp_world.sensors.rays import Rays
from mpnp_world.sensors.visibility import point_counts, visibility

CAR = WorldObject(1, 'sedan', 'parked', 30.0, 0.0, 0.0, (4.6, 1.93, 1.5))
BUS = WorldObject(2, 'bus', 'stopped', 20.0, 0.0, np.pi / 2, (11.2, 2.9, 3.5))
ROAD = Patch('road', ((-100, -50), (100, -50), (100, 50), (-100, 50)))


def world(*objects: WorldObject, fixtures: tuple[Fixture, ...] = ()) -> WorldState:
    """A state with the ego vehicle at the origin."""
    return WorldState(1, Conditions(), 0.0, EgoState(0.0, 0.0, 0.0, 0.0), objects, (),
                      Scenery(fixtures, (ROAD,)))


@pytest.mark.parametrize('kind, size', [('sedan', (4.6, 1.93, 1.5)), ('pedestrian', (0.75, 0.65, 1.75)),
                                        ('cone', (0.41, 0.41, 0.75))])
@pytest.mark.parametrize('distance', [6.0, 70.0, 200.0])
def test_in_the_open_all_is_in_sight(kind: str, size: tuple[float, float, float], distance: float) -> None:
    """Near, far and beyond the reach of rays; the ground below is not in the way."""
    thing = replace(CAR, kind=kind, size=size, y=distance, attribute=None)
    assert visibility(world(thing), Rays()) == {1: 1.0}


def test_what_stands_behind_a_bus_is_hidden_and_the_bus_is_not() -> None:
    """The bus stands across the way, later the car beside its end."""
    hidden = visibility(world(CAR, BUS), Rays())
    assert hidden[1] < 0.1
    assert hidden[2] == 1.0
    half = visibility(world(replace(CAR, y=9.2), BUS), Rays())
    assert 0.2 < half[1] < 0.8
    assert visibility(world(replace(CAR, y=15.0), BUS), Rays())[1] == 1.0


def test_a_building_hides_as_well() -> None:
    """A wall between the car and the ego vehicle."""
    wall = Fixture('building', 15.0, 0.0, 0.0, (2.0, 30.0, 9.0))
    assert visibility(world(CAR, fixtures=(wall,)), Rays()) == {1: 0.0}


def test_nothing_to_see_in_an_empty_world() -> None:
    """No objects, no shares."""
    assert visibility(world(), Rays()) == {}


def test_points_are_counted_over_sweeps_and_the_background_is_left_out() -> None:
    """Two sweeps."""
    counts = point_counts([np.array([0, 3, 3, 0]), np.array([3, 5], np.int32)])
    assert counts == {3: 3, 5: 1}
    assert counts[4] == 0
