"""Scene after scene, from day into night."""
from __future__ import annotations

import pytest

from mpnp_world.scene.conditions import Conditions
from mpnp_world.scene.drive import World
from mpnp_world.scene.identity import MAX_SEED
from mpnp_world.scene.tour import Tour


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
