"""What share of an object is in sight, and how many points lie on it."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_world.dataset.annotations import MAX_DISTANCE, annotate, visibility_level
from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState, Fixture, Patch, Scenery, WorldObject, WorldState
from mpnp_world.sensors.rays import Rays
from mpnp_world.sensors.visibility import Walls, estimate_occlusion, point_counts, visibility

CAR = WorldObject(1, 'sedan', 'parked', 30.0, 0.0, 0.0, (4.6, 1.93, 1.5))
BUS = WorldObject(2, 'bus', 'stopped', 20.0, 0.0, np.pi / 2, (11.2, 2.9, 3.5))
ROAD = Patch('road', ((-100, -50), (100, -50), (100, 50), (-100, 50)))

EGO = EgoState(10.0, 5.0, 0.6, 3.0)
SIDE = 4.0


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


def thing(identity: int, kind: str, ahead: float, left: float, yaw: float = 0.0) -> WorldObject:
    """Something in front of the ego vehicle, turned with it."""
    x, y = EGO.pose.apply((ahead, left, 0.0))[:2]
    return WorldObject(identity, kind, None, float(x), float(y), EGO.yaw + yaw, KINDS[kind].size, 2.0)


def around_ego(*objects: WorldObject, fixtures: tuple[Fixture, ...] = ()) -> WorldState:
    """A state around EGO."""
    return WorldState(1, Conditions(), 0.0, EGO, objects, (), Scenery(fixtures, ()))


def points(*objects: WorldObject, fixtures: tuple[Fixture, ...] = ()) -> dict[int, int]:
    """LiDAR points on every object."""
    state = around_ego(*objects, fixtures=fixtures)
    return estimate_occlusion(state, Walls(state)).num_lidar_pts


@pytest.mark.parametrize('left', [0.0, 6.0, -15.0])
def test_a_pedestrian_behind_a_bus_is_hidden_and_one_before_it_is_not(left: float) -> None:
    """The bus stands across the line of sight."""
    bus = thing(1, 'bus', 15.0, left, yaw=1.57)
    behind, before = thing(2, 'pedestrian', 20.0, left * 20 / 15), thing(3, 'pedestrian', 8.0, left * 8 / 15)
    found = points(bus, behind, before)
    assert found[2] == 0
    assert found[3] > 5
    assert found[1] > 50
    assert points(behind)[2] > 3


def test_a_wall_hides_what_is_behind_it_only() -> None:
    """A house beside the road."""
    centre = EGO.pose.apply((20.0, 12.0, 0.0))
    house = Fixture('building', float(centre[0]), float(centre[1]), EGO.yaw, (16.0, 8.0, 9.0))
    behind, beside = thing(1, 'sedan', 24.0, 22.0), thing(2, 'sedan', 24.0, 4.0)
    along = thing(3, 'sedan', -9.0, 8.0)
    found = points(behind, beside, along, fixtures=(house,))
    assert found[1] == 0
    assert found[2] == points(beside)[2] > 10
    assert found[3] == points(along)[3]


def test_points_fade_with_distance() -> None:
    """Roughly with its square, and none beyond the range."""
    near, far, farther = (points(thing(1, 'sedan', distance, 2.0))[1] for distance in (10.0, 20.0, 40.0))
    assert 2.5 < near / far < 8
    assert far > farther > 0
    assert points(thing(1, 'sedan', 79.0, 2.0))[1] == 0


def test_a_low_thing_hides_part_of_a_high_one() -> None:
    """A truck behind a car keeps its upper half."""
    truck, car = thing(1, 'box_truck', 25.0, 0.0), thing(2, 'sedan', 12.0, 0.0)
    state = around_ego(truck, car)
    shares = estimate_occlusion(state, Walls(state)).shares
    assert .2 < shares[1] < .9
    assert shares[2] == pytest.approx(1.0)


def test_boxes_are_annotated_in_the_ego_frame() -> None:
    """Centre, heading and velocity as seen from the rear axle."""
    item, far = thing(7, 'sedan', 12.0, -SIDE, yaw=.5), thing(8, 'sedan', MAX_DISTANCE + 1, 0.0)
    annotation, = annotate(around_ego(item, far), {7: .7}, {7: 31}, {7: 2})
    seen = annotation.seen_from(EGO, 'seven')
    assert seen.centre == pytest.approx((12.0, -SIDE, .75))
    assert seen.yaw == pytest.approx(.5)
    assert seen.velocity == pytest.approx((2.0 * .8775826, 2.0 * .4794255))
    assert (seen.category, seen.instance) == ('car', 'seven')
    assert (seen.num_lidar_pts, seen.num_radar_pts, seen.visibility) == (31, 2, 3)
    assert [visibility_level(share) for share in (0, .4, .41, .61, .81, 1)] == [1, 1, 2, 3, 4, 4]
