from __future__ import annotations

import math

import numpy as np
import pytest

from mpnp_ros.errors import ConfigurationError
from mpnp_world.models.figures import SITTING, STANDING
from mpnp_world.models.lookup import key_of, mesh_of, mesh_of_fixture, model_of, placement, pose_of
from mpnp_world.models.mesh import COLOUR, GLOSS, INDEX, MATERIALS, REFLECTIVITY
from mpnp_world.models.street import FIXTURES
from mpnp_world.models.vehicles import VEHICLES
from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.state import Fixture, WorldObject

PEOPLE = ('pedestrian', 'child')
CYCLES = ('bicycle', 'motorcycle')


def thing(kind: str, attribute: str | None = None, **changes) -> WorldObject:
    return WorldObject(1, kind, attribute, 0.0, 0.0, 0.0, KINDS[kind].size, **changes)


def areas(kind: str) -> dict[str, float]:
    """Square metres of each material."""
    mesh = mesh_of(thing(kind))
    a, b, c = mesh.corners.transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return {name: float(area[mesh.material == index].sum()) for name, index in INDEX.items()}


@pytest.mark.parametrize('kind', [*KINDS, *FIXTURES, 'signal_head'])
def test_every_kind_has_a_sound_mesh(kind):
    mesh = model_of(kind)
    assert mesh.vertices.dtype == np.float32
    assert mesh.faces.min() == 0 and mesh.faces.max() == len(mesh.vertices) - 1
    assert mesh.material.shape == (len(mesh.faces),) and mesh.material.max() < len(MATERIALS)
    assert np.isfinite(mesh.vertices).all() and mesh.vertices[:, 2].min() > -0.11
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-2)
    assert model_of(kind) is mesh


@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind not in PEOPLE])
def test_things_fill_the_box_that_annotates_them(kind):
    low, high = mesh_of(thing(kind)).bounds
    length, width, height = KINDS[kind].size
    assert np.allclose(low, (-length / 2, -width / 2, 0), atol=1e-3)
    assert np.allclose(high, (length / 2, width / 2, height), atol=1e-3)


@pytest.mark.parametrize('kind', PEOPLE)
@pytest.mark.parametrize('body', range(4))
def test_people_keep_to_their_box(kind, body):
    """A stride may reach a little out of it, as annotated people do."""
    length, width, height = KINDS[kind].size
    for step in range(6):
        low, high = mesh_of(thing(kind, 'moving', body=body, phase=step * math.tau / 6 + 0.1)).bounds
        assert abs(high[2] - height) < 0.06 * height
        assert max(-low[0], high[0]) < 0.62 * length and max(-low[1], high[1]) < 0.5 * width


def test_people_walk_stand_and_sit():
    walking = {key_of(thing('pedestrian', 'moving', phase=phase)) for phase in np.linspace(0, 6.2, 40)}
    assert len(walking) == 6
    assert pose_of(thing('pedestrian', 'standing', phase=3.0)) == STANDING
    assert pose_of(thing('pedestrian', 'not standing')) == SITTING
    stride, standing = (np.ptp(model_of('pedestrian', 0, pose).vertices[:, 0]) for pose in (1, STANDING))
    assert stride > 1.2 * standing


def test_a_ridden_cycle_has_a_person_on_it():
    for kind in CYCLES:
        ridden, alone = (mesh_of(thing(kind, status)) for status in ('with rider', 'without rider'))
        skin = INDEX['skin']
        assert (ridden.material == skin).any() and not (alone.material == skin).any()


@pytest.mark.parametrize('kind', [kind for kind in VEHICLES if kind not in ('excavator', 'trailer')])
def test_vehicles_look_ahead(kind):
    """White lights in front, red ones behind; what is behind glass cannot be seen."""
    mesh = model_of(kind)
    middles = mesh.corners.mean(1)
    assert middles[mesh.material == INDEX['head_light'], 0].min() > 0.3
    tail = mesh.material == INDEX['tail_light']
    assert (middles[tail, 0] < -0.3).mean() > 0.4
    glass = mesh.material == INDEX['glass']
    a, b, c = mesh.corners[glass].transpose(1, 0, 2)
    facing = np.cross(b - a, c - a)
    outwards = np.einsum('fk,fk->f', facing[:, :2], np.sign(middles[glass, :2]))
    assert outwards.sum() > 0.5 * np.linalg.norm(facing, axis=1).sum()


def test_categories_have_their_colours():
    assert areas('excavator')['yellow'] > 0.3 * sum(areas('excavator').values())
    assert areas('cone')['orange'] > areas('cone')['reflector'] > 0
    assert areas('barrier')['orange'] > 0.5
    assert areas('ambulance')['siren_light'] > 0.1 and areas('ambulance')['red'] > 0.5
    assert areas('trailer')['head_light'] == areas('trailer')['glass'] == 0
    assert areas('bus')['glass'] > 10


def test_lamp_reaches_over_the_road_ahead_of_it():
    mesh = mesh_of_fixture(Fixture('lamp', 0, 0, 0, (2.0, 0.3, 7.0)))
    glass = mesh.corners[mesh.material == INDEX['lamp_glass']]
    assert glass[..., 0].min() > 1.0 and glass[..., 2].min() > 6.5
    assert mesh.bounds[0][0] > -0.2


def test_placement_turns_then_moves():
    corner = placement(10.0, 5.0, 1.0, math.pi / 2, (4.0, 2.0, 1.5)) @ (0.5, 0.5, 1.0, 1.0)
    assert np.allclose(corner, (9.0, 7.0, 2.5, 1.0))


def test_unknown_kind_names_those_there_are():
    with pytest.raises(ConfigurationError, match="'spaceship'.*sedan"):
        model_of('spaceship')


def test_material_tables_are_in_range():
    assert COLOUR.shape == (len(MATERIALS), 3)
    for table in (COLOUR, GLOSS, REFLECTIVITY):
        assert table.min() >= 0 and table.max() <= 1
    assert REFLECTIVITY[INDEX['plate']] > REFLECTIVITY[INDEX['paint']] > REFLECTIVITY[INDEX['tyre']]
