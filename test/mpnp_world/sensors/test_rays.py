"""Rays into the world: what is met, how far off, of what."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_world.models.lookup import key_of, model_of
from mpnp_world.models.mesh import MATERIALS
from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState, Fixture, Patch, Scenery, WorldObject, WorldState
from mpnp_world.sensors.rays import COARSE_FROM, Rays, coarse_model_of

AHEAD, DOWN, UP = (1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 0.0, 1.0)
TRUCK = WorldObject(7, 'box_truck', 'parked', 20.0, 0.0, 0.0, (8.0, 2.5, 3.1))
WALL = Fixture('building', 40.0, 0.0, 0.0, (10.0, 12.0, 9.0))


def world(*objects: WorldObject, fixtures: tuple[Fixture, ...] = (),
          patches: tuple[Patch, ...] = ()) -> WorldState:
    """A state with the ego vehicle at the origin."""
    return WorldState(1, Conditions(), 0.0, EgoState(0.0, 0.0, 0.0, 0.0), objects, (),
                      Scenery(fixtures, patches))


def square(half: float, material: str, z: float = 0.0) -> Patch:
    """Ground about the origin."""
    return Patch(material, ((-half, -half), (half, -half), (half, half), (-half, half)), z)


def test_the_nearest_thing_is_met_with_its_identity() -> None:
    """A truck before a wall, then the wall alone."""
    state = world(TRUCK, fixtures=(WALL,))
    rays = Rays()
    hits = rays.cast(state, (0, 0, 1.5), np.array([AHEAD, UP]))
    assert hits.identity.tolist() == [7, 0]
    assert hits.distance[0] == pytest.approx(16.0, abs=0.3)
    assert np.isinf(hits.distance[1])
    wall = rays.cast(world(fixtures=(WALL,)), (0, 0, 1.5), np.array([AHEAD]))
    assert wall.identity.tolist() == [0]
    assert wall.distance[0] == pytest.approx(35.0, abs=0.3)


def test_a_thing_is_turned_moved_and_raised_as_its_state_says() -> None:
    """The truck stands across, 10 m to the left, on a sidewalk."""
    across = WorldObject(3, 'box_truck', None, 0.0, 10.0, np.pi / 2, (8.0, 2.5, 3.1), z=0.15)
    hits = Rays().cast(world(across), np.array([(0.0, 0.0, 1.5), (0.0, 8.0, 9.0)]),
                       np.array([(0.0, 1.0, 0.0), DOWN]))
    assert hits.identity.tolist() == [3, 3]
    assert hits.distance[0] == pytest.approx(6.0, abs=0.3)
    assert hits.distance[1] == pytest.approx(9.0 - 3.25, abs=0.3)


def test_what_moves_is_built_anew_and_what_stands_is_kept() -> None:
    """The same scenery with the truck elsewhere."""
    rays, before = Rays(), world(TRUCK, fixtures=(WALL,))
    rays.cast(before, (0, 0, 1.5), np.array([AHEAD]))
    gone = WorldState(1, Conditions(), 1.0, before.ego, (), (), before.scenery)
    assert rays.cast(gone, (0, 0, 1.5), np.array([AHEAD])).distance[0] == pytest.approx(35.0, abs=0.3)
    assert rays.cast(before, (0, 0, 1.5), np.array([AHEAD])).identity.tolist() == [7]


def test_later_patches_lie_on_earlier_ones_even_far_off_and_at_grazing_angles() -> None:
    """A marking on a road on grass, seen under 1 to 30 degrees."""
    state = world(patches=(square(250, 'road'), square(240, 'road'), square(90, 'marking')))
    slopes = np.radians(np.linspace(-1.3, -30, 500))
    directions = np.column_stack([np.cos(slopes), 0 * slopes, np.sin(slopes)])
    hits = Rays().cast(state, (0, 0, 1.84), directions)
    names = np.array(list(MATERIALS))[hits.material]
    assert set(names) == {'marking'}
    assert hits.incidence == pytest.approx(-np.sin(slopes), abs=1e-3)
    far = Rays().cast(state, (500, 0, 1.84), np.array([DOWN]))
    assert list(MATERIALS)[far.material[0]] == 'grass'


def test_a_raised_patch_has_a_kerb() -> None:
    """A sidewalk met from the side, below its top."""
    state = world(patches=(Patch('sidewalk', ((5, -5), (9, -5), (9, 5), (5, 5)), 0.15),))
    hits = Rays().cast(state, (0, 0, 0.1), np.array([AHEAD]))
    assert hits.distance[0] == pytest.approx(5.0, abs=1e-3)
    assert np.abs(hits.normal[0]) == pytest.approx(AHEAD, abs=1e-5)


@pytest.mark.parametrize('kind, size', [('sedan', (4.6, 1.93, 1.5)), ('pedestrian', (0.75, 0.65, 1.75)),
                                        ('bus', (11.2, 2.9, 3.5)), ('cone', (0.41, 0.41, 0.75))])
def test_far_things_are_coarse_but_as_large_as_near_ones(kind: str, size: tuple[float, float, float]) -> None:
    """Seen 70 m off along a grid of level rays: the same part of them is met, within a few hundredths."""
    thing = replace(TRUCK, kind=kind, size=size, attribute='standing')
    origins = np.stack(np.meshgrid((0.0,), np.linspace(-1.5, 1.5, 60), np.linspace(0.02, 3.6, 60)), -1)
    shares = []
    for distance in (COARSE_FROM - 5, 70.0):
        hits = Rays().cast(world(replace(thing, x=distance)), origins.reshape(-1, 3),
                           np.full((3600, 3), AHEAD))
        met = hits.identity == 7
        shares.append(met.mean())
        assert np.abs(hits.distance[met] - distance).max() < size[0] / 2 + 0.01
    assert shares[1] == pytest.approx(shares[0], rel=0.1)
    key = key_of(thing)
    assert len(coarse_model_of(*key).faces) < 0.8 * len(model_of(*key).faces)


def test_an_empty_world_has_ground_only() -> None:
    """Nothing stands and nothing moves."""
    hits = Rays().cast(world(), (0, 0, 2.0), np.array([AHEAD, UP, DOWN]))
    assert np.isinf(hits.distance).tolist() == [True, True, False]
    assert hits.identity.tolist() == [0, 0, 0]
    assert hits.incidence[:2].tolist() == [0, 0]
