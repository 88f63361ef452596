"""Whole scenes: the same for a seed in all conditions, without overlaps, moving, with everything in them."""
from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import chain, combinations

import pytest

from mpnp_ros.questions.vocabulary import CATEGORIES, STATUSES_OF_CATEGORY
from mpnp_world.scene.boxes import footprint, overlap
from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.identity import LIGHTS, MAX_SEED, WEATHERS, Conditions
from mpnp_world.scene.state import EgoState, WorldObject, WorldState
from mpnp_world.scene.world import Tour, World
from mpnp_world.sensors.rig import EGO_REAR, EGO_SIZE

SEEDS = range(16)


@pytest.fixture(scope='module')
def first_states() -> list[WorldState]:
    """The first moment of some scenes."""
    return [World(seed).state() for seed in SEEDS]


def unlit(item: WorldObject) -> WorldObject:
    """The object with its lights off."""
    return replace(item, lights=False)


def ego_box(ego: EgoState) -> tuple[float, float, float, float, float]:
    """The ego vehicle from above."""
    ahead = EGO_SIZE[0] / 2 - EGO_REAR
    return (ego.x + ahead * math.cos(ego.yaw), ego.y + ahead * math.sin(ego.yaw), ego.yaw, *EGO_SIZE[:2])


def overlaps(state: WorldState) -> list[tuple[str, str]]:
    """Kinds of those whose boxes overlap."""
    boxes = [('ego', footprint(*ego_box(state.ego)))]
    boxes += [(item.kind, footprint(item.x, item.y, item.yaw, *item.size[:2])) for item in state.objects]
    return [(first[0], other[0]) for first, other in combinations(boxes, 2)
            if math.dist(first[1][0], other[1][0]) < 16 and overlap(first[1], other[1])]


@pytest.mark.parametrize('seed', [0, 7])
def test_a_seed_is_a_scene(seed: int) -> None:
    """Two worlds of the same seed stay equal; another seed is another scene."""
    same, other = World(seed), World(seed)
    for _ in range(3):
        first, second = same.state(), other.state()
        assert (first.ego, first.objects, first.signals) == (second.ego, second.objects, second.signals)
        assert first.scenery.fixtures == second.scenery.fixtures
        same.step(1.0)
        other.step(1.0)
    assert World(seed + 1).state().objects != World(seed).state().objects


def test_many_small_steps_are_one_large_step() -> None:
    """In tenths of a second or in two seconds at once."""
    whole, other = World(3), World(3)
    for _ in range(3):
        whole.step(2.0)
        for _ in range(20):
            other.step(.1)
        assert whole.time == pytest.approx(other.time)
        assert [item.identity for item in whole.state().objects] == \
            [item.identity for item in other.state().objects]
        for first, second in zip(whole.state().objects, other.state().objects, strict=True):
            assert (first.x, first.y, first.speed) == pytest.approx((second.x, second.y, second.speed))


def test_twins_differ_in_their_lights_only() -> None:
    """The same traffic in every light and weather, lit where drivers would turn lights on."""
    worlds = [World(5, Conditions(light, weather)) for light in LIGHTS for weather in WEATHERS]
    for world in worlds:
        world.step(3.0)
    states = [world.state() for world in worlds]
    assert len({tuple(map(unlit, state.objects)) for state in states}) == 1
    assert len({state.ego for state in states}) == 1
    assert [any(item.lights for item in state.objects) for state in states] == [False] + [True] * 8
    assert not any(item.lights for item in states[-1].objects
                   if item.attribute in ('parked', 'without rider'))


def test_nothing_overlaps_when_a_scene_begins(first_states: list[WorldState]) -> None:
    """Neither objects nor the ego vehicle."""
    assert [overlaps(state) for state in first_states] == [[]] * len(first_states)


def test_vehicles_keep_clear_of_each_other_and_of_people() -> None:
    """After a while of driving; people may brush past each other and past cycles."""
    soft = {'pedestrian', 'child', 'bicycle', 'motorcycle'}
    found = []
    for seed in range(6):
        world = World(seed)
        world.step(9.0)
        found += [pair for pair in overlaps(world.state()) if not soft.issuperset(pair)]
    assert len(found) <= 1


def test_everything_occurs(first_states: list[WorldState]) -> None:
    """Every category with every attribute it can have, and none that it cannot."""
    expected = {(category, status) for category in CATEGORIES
                for status in STATUSES_OF_CATEGORY[category] or (None,)}
    found: set[tuple[str, str | None]] = set()
    for state in chain(first_states, (World(seed).state() for seed in range(len(first_states), 60))):
        found |= {(KINDS[item.kind].category, item.attribute) for item in state.objects}
        if found >= expected:
            break
    assert found == expected


def test_counts_are_plausible(first_states: list[WorldState]) -> None:
    """Within 50 m: some scenes are quiet and some are busy, hidden things included."""
    counts = [Counter(KINDS[item.kind].category for item in state.objects
                      if math.hypot(item.x - state.ego.x, item.y - state.ego.y) < 50)
              for state in first_states]
    totals = sorted(sum(count.values()) for count in counts)
    assert 5 <= totals[0] < 40 < totals[-1] < 150
    for category in ('bus', 'trailer', 'construction vehicle', 'traffic cone', 'barrier', 'motorcycle'):
        assert 0 < sum(count[category] > 0 for count in counts) < len(counts)


def test_the_ego_vehicle_drives_and_turns() -> None:
    """In some scenes it turns a corner; it moves no faster than its speed says."""
    turned = 0
    for seed in range(8):
        world = World(seed)
        start = before = world.state().ego
        for _ in range(20):
            world.step(1.0)
            now = world.state().ego
            fastest = max(before.speed, now.speed) + 2.0
            assert math.hypot(now.x - before.x, now.y - before.y) <= fastest
            before = now
        turned += abs(math.remainder(before.yaw - start.yaw, math.tau)) > 1
    assert 1 <= turned < 8


def test_who_waits_at_red_is_stopped() -> None:
    """Nobody crosses a stop line late after its light has turned red."""
    world = World(2)
    traffic = world._traffic
    late = 0
    for _ in range(300):
        before = {vehicle: vehicle.leg for vehicle in traffic.vehicles()}
        world.step(.1)
        for vehicle in traffic.vehicles():
            if vehicle.leg > before.get(vehicle, vehicle.leg) and vehicle.lane.kind != 'lane':
                cycle = traffic.cycles[vehicle.lane.junction.index]
                along_x = vehicle.lane.street.along_x
                late += all(cycle.colour(along_x, world.time - ago) == 'red' for ago in (0.0, 1.0))
    assert late == 0


def test_day_turns_into_night_amid_the_same_traffic():
    tour = Tour(3, Conditions(), 20.)
    for _ in range(10):
        tour.step(.1)
    tour.conditions = Conditions('night')
    before, after = tour.step(.1)
    twin = World(3, Conditions())
    twin.step(1.1)
    assert before.conditions == after.conditions == Conditions('night')
    assert after.time == pytest.approx(1.1)
    assert after.ego.x == pytest.approx(twin.state().ego.x)

    def places(state):
        return {item.identity: (round(item.x, 6), round(item.y, 6), item.attribute) for item in state.objects}

    assert places(after) == places(twin.state())
    assert any(item.lights for item in after.objects)
    assert not any(item.lights for item in twin.state().objects)


def test_it_goes_on_in_the_next_seed_when_a_scene_is_over():
    tour = Tour(MAX_SEED, Conditions(), 1.)
    seeds, times = [], []
    for _ in range(5):
        before, after = tour.step(.5)
        assert before.seed == after.seed and before.time < after.time
        seeds.append(after.seed)
        times.append(tour.left_behind + after.time)
    assert seeds == [MAX_SEED, MAX_SEED, 0, 0, 1]
    assert times == pytest.approx([.5, 1., 1.5, 2., 2.5])
