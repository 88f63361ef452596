"""People: where they are follows from the time; they cross when they may; drivers learn of it."""
from __future__ import annotations

import math

import numpy as np
import pytest

from mpnp_world.scene.boxes import Ground
from mpnp_world.scene.people import Crossings, Crowd, Person, Track
from mpnp_world.scene.streets import SignalCycle, StreetMap, draw_map

TRACK = Track([0.0, 4.0, 6.0, 10.0], [(0.0, 0.0), (4.0, 0.0), (4.0, 0.0), (4.0, 8.0)], 1.0)


@pytest.fixture
def streets() -> StreetMap:
    """Some map."""
    return draw_map(np.random.default_rng(2))


def crowd_on(streets: StreetMap, cycle: SignalCycle) -> Crowd:
    """Nobody yet."""
    rng = np.random.default_rng(3)
    return Crowd(rng, streets, [cycle] * len(streets.junctions), Ground(), range(1, 1000))


def test_a_track_is_walked_then_stood_on() -> None:
    """Places, headings and speeds of a walk with a pause, before it and after it."""
    assert TRACK.at(2.0) == ((2.0, 0.0, 0.0), 1.0, 2.0)
    assert TRACK.at(5.0) == ((4.0, 0.0, 1.0), 0.0, 0.0)
    assert TRACK.at(8.0)[0] == pytest.approx((4.0, 4.0, math.pi / 2))
    assert TRACK.at(8.0)[1] == 2.0
    assert TRACK.at(-1.0) == ((0.0, 0.0, 1.0), 0.0, 0.0)
    assert TRACK.at(99.0) == ((4.0, 8.0, 1.0), 0.0, 0.0)


def test_attributes_follow_from_what_people_do() -> None:
    """Moving, standing, not standing."""
    walker = Person(1, 'pedestrian', (.7, .6, 1.7), (1., 1., 1.), 0, TRACK)
    sitter = Person(2, 'pedestrian', (.7, .6, 1.3), (1., 1., 1.), 0, Track([0.0], [(0., 0.)], 0.0), True)
    assert [walker.at(time).attribute for time in (1.0, 5.0)] == ['moving', 'standing']
    assert sitter.at(1.0).attribute == 'not standing'


def test_a_crosswalk_is_used_from_step_to_step(streets: StreetMap) -> None:
    """Overlapping uses count as one; drivers are warned a moment before."""
    walk = streets.crosswalks[0]
    crossings = Crossings([(walk, 10.0, 15.0), (walk, 12.0, 20.0), (walk, 40.0, 45.0)])
    used = [crossings.is_used(walk.index, time) for time in (9.0, 9.7, 14.0, 18.0, 21.0, 39.0, 42.0)]
    assert used == [False, True, True, True, False, False, True]
    assert not crossings.is_used(walk.index + 1, 14.0)


def test_people_cross_while_the_traffic_has_red(streets: StreetMap) -> None:
    """They step onto the road when the light of the street that they cross is red."""
    cycle = SignalCycle((12.0, 14.0), 3.0)
    crowd = crowd_on(streets, cycle)
    for walk in streets.crosswalks:
        crowd.crosser(walk)
    signalled = [(walk, begin) for walk, begin, _ in crowd.uses if walk.junction is not None]
    assert len(signalled) > 20
    red = sum(cycle.colour(walk.street.along_x, begin) == 'red' for walk, begin in signalled)
    assert red == len(signalled)


def test_those_on_the_road_are_on_the_ground(streets: StreetMap) -> None:
    """And on the sidewalk otherwise."""
    crowd = crowd_on(streets, SignalCycle((12.0, 14.0), 3.0))
    walk = streets.crosswalks[0]
    crowd.crosser(walk)
    _, begin, end = crowd.uses[0]
    person = crowd.people[0]
    assert person.at((begin + end) / 2).z == 0.0
    assert person.at(end + 3.0).z > 0.1
