"""Vehicles: they keep their distance, stop at red and for people, give way, and draw their trailers."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from mpnp_world.scene.boxes import Ground
from mpnp_world.scene.lanes import Lane, LaneNetwork
from mpnp_world.scene.people import Crossings
from mpnp_world.scene.spawning import EGO_FRONT, Spawner
from mpnp_world.scene.streets import SignalCycle, draw_map
from mpnp_world.scene.traffic import Body, Traffic, Vehicle, follow
from mpnp_world.sensors.rig import EGO_REAR, EGO_SIZE

MAIN_GREEN, CROSS_GREEN = SignalCycle((1000.0, 8.0), 0.0), SignalCycle((8.0, 1000.0), 13.0)


@pytest.fixture
def empty() -> Traffic:
    """A map without anybody, whose main street has a green light for a long time."""
    streets = draw_map(np.random.default_rng(4))
    return Traffic(LaneNetwork(streets), [MAIN_GREEN] * len(streets.junctions), Crossings(()))


def lane_of(traffic: Traffic, kind: str = 'straight', way: int = 1) -> Lane:
    """A lane of the main street whose road user may go on as `kind`."""
    return next(lane for lane in traffic.network.lanes if lane.street.along_x and not lane.bicycles
                and lane.way == way and kind in {through.kind for through in lane.successors})


def car(lane: Lane, s: float, speed: float, kind: str = 'straight') -> Vehicle:
    """A car that goes on as `kind` and then leaves the map."""
    through = next(way for way in lane.successors if way.kind == kind)
    body = Body(1, 'sedan', (4.6, 1.9, 1.5), (1., 1., 1.), 2.3)
    return Vehicle((body,), 4.6, (lane, through, through.successors[0]), s, speed, 10.0)


def step(traffic: Traffic, time: float) -> None:
    """A tenth of a second."""
    traffic.decide(time)
    traffic.move(.1)


def drive(traffic: Traffic, seconds: float) -> None:
    """Move on in tenths of a second."""
    for tick in range(round(seconds * 10)):
        step(traffic, tick / 10)


def test_free_cars_reach_their_wished_speed_and_close_ones_brake() -> None:
    """The model of Treiber et al. in its limits."""
    assert follow(10.0, 10.0, 1e9, 10.0) == pytest.approx(0.0)
    assert follow(5.0, 10.0, 1e9, 10.0) > 1.0
    assert follow(10.0, 10.0, 8.0, 0.0) < -5.0
    assert follow(12.0, 10.0, 1e9, 12.0) < 0.0


def test_a_car_stops_at_red_and_goes_at_green(empty: Traffic) -> None:
    """Its front stays within two metres of the line."""
    lane = lane_of(empty)
    for cycle, passes in ((CROSS_GREEN, False), (MAIN_GREEN, True)):
        empty.cycles = [cycle] * len(empty.cycles)
        vehicle = car(lane, lane.length - 50, 9.0)
        empty.add(vehicle)
        drive(empty, 12)
        assert (vehicle.leg > 0) == passes
        if not passes:
            assert vehicle.speed < .1
            assert 0 < lane.length - vehicle.s < 2
            empty.queues[lane.index].clear()


def test_two_moves_are_one_of_both_times(empty: Traffic) -> None:
    """Also for who comes to a stand on the way."""
    lane = lane_of(empty)
    for braking in (-.5, -4.0):
        once, twice = car(lane, 20.0, 3.0), car(lane, 20.0, 3.0)
        once.acceleration = twice.acceleration = braking
        once.move(1.0)
        twice.move(.4)
        twice.move(.6)
        assert (twice.s, twice.speed) == pytest.approx((once.s, once.speed))


def test_a_queue_does_not_touch(empty: Traffic) -> None:
    """Four cars come up to a red light one behind the other."""
    empty.cycles = [CROSS_GREEN] * len(empty.cycles)
    lane = lane_of(empty)
    cars = [car(lane, lane.length - 20 - 14 * index, 8.0) for index in range(4)]
    for vehicle in cars:
        empty.add(vehicle)
    for tick in range(150):
        step(empty, tick / 10)
        assert all(ahead.s - ahead.length - behind.s > .5
                   for ahead, behind in zip(cars, cars[1:], strict=False))
    assert all(vehicle.speed < .2 for vehicle in cars)


def test_who_turns_left_lets_oncoming_traffic_pass(empty: Traffic) -> None:
    """Green for both: the one who turns waits until the other is through."""
    turning = lane_of(empty, 'left')
    oncoming = next(lane for through in turning.successors if through.kind == 'left'
                    for lane in through.yields_to if lane.kind == 'lane' and not lane.bicycles)
    first, second = car(turning, turning.length - 12, 5.0, 'left'), car(oncoming, oncoming.length - 30, 9.0)
    empty.add(first)
    empty.add(second)
    order = []
    for tick in range(150):
        step(empty, tick / 10)
        order += [name for name, vehicle in (('turning', first), ('oncoming', second))
                  if vehicle.leg > 0 and name not in order]
    assert order == ['oncoming', 'turning']


def test_cars_wait_for_people_on_a_crosswalk(empty: Traffic) -> None:
    """Somebody is on the stripes behind the turn for 9 seconds."""
    lane = lane_of(empty, 'right')
    vehicle = car(lane, lane.length - 5, 3.0, 'right')
    (_, crosswalk), = vehicle.route[1].crosswalks
    empty.crossings = Crossings([(crosswalk, 0.0, 9.0)])
    empty.add(vehicle)
    drive(empty, 8)
    assert vehicle.leg == 1
    assert vehicle.speed < .1
    for tick in range(80, 140):
        step(empty, tick / 10)
    assert vehicle.leg == 2


def test_a_trailer_follows_its_truck_around_a_corner(empty: Traffic) -> None:
    """Its place is where the truck has been, at the same distance along the way."""
    lane = lane_of(empty, 'right')
    vehicle = car(lane, lane.length - 1, 4.0, 'right')
    drawn = []
    empty.add(vehicle)
    for tick in range(40):
        drawn.append((vehicle.travelled, vehicle.pose(0.0)))
        step(empty, tick / 10)
    travelled, place = drawn[10]
    assert vehicle.pose(vehicle.travelled - travelled) == pytest.approx(place, abs=1e-6)


def test_the_ego_vehicle_stays_on_the_map(empty: Traffic) -> None:
    """It stops with street ahead; its origin is between its front and its rear."""
    spawner = Spawner(np.random.default_rng(1), empty, Ground(), itertools.count(1))
    ego = spawner.ego()
    drive(empty, 200)
    assert ego in empty.vehicles()
    assert ego.speed < .1
    assert pytest.approx(EGO_SIZE[0]) == EGO_FRONT + EGO_REAR
