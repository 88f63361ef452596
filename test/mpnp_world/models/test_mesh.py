from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_world.models.mesh import (
    INDEX,
    Mesh,
    box,
    cylinder,
    ellipsoid,
    face_normals,
    lathe,
    loft,
    polygon,
    prism,
    tube,
    wheel,
)

LENGTH = st.floats(0.1, 20)


def volume(mesh: Mesh) -> float:
    """Of a closed mesh whose faces look outwards; negative where they look inwards."""
    a, b, c = mesh.corners.astype(np.float64).transpose(1, 0, 2)
    return float(np.einsum('fk,fk->f', a, np.cross(b, c)).sum() / 6)


@settings(max_examples=25, deadline=None)
@given(st.tuples(LENGTH, LENGTH, LENGTH), st.tuples(*[st.floats(-30, 30)] * 3))
def test_box_is_closed_and_looks_outwards_wherever_it_is(size, centre):
    mesh = box(centre, size, 'paint')
    assert volume(mesh.moved(tuple(-np.asarray(centre)))) == pytest.approx(math.prod(size), rel=1e-2)


@pytest.mark.parametrize(('mesh', 'expected'), [
    (cylinder((0, 0, 0), (0, 0, 2), 1.0, 'metal', sides=64), 2 * math.pi),
    (cylinder((0, 0, 0), (3, 0, 0), 1.0, 'metal', end_radius=0.0, sides=64), math.pi),
    (ellipsoid((4, 0, 0), (1, 2, 3), 'leaf', sides=48, rings=32), 8 * math.pi),
    (lathe([(1, 0), (1, 1)], 'white', sides=64), math.pi),
    (prism([(0, 0), (2, 0), (1, 1)], 3.0, 'yellow'), 3.0),
    (box((0, 0, 1), (2, 2, 2), 'white', taper=(0.5, 0.5)), 2 / 3 * (4 + 1 + 2)),
    (wheel(0, 0, 0.4, 0.2), None),
])
def test_solids_have_their_volume(mesh, expected):
    if expected is None:
        assert volume(mesh) > 0
    else:
        assert volume(mesh) == pytest.approx(expected, rel=0.01)


def test_curves_are_smooth_and_edges_are_not():
    rod = cylinder((0, 0, 0), (0, 0, 5), 1.0, 'metal', sides=12).smoothed()
    sides = np.abs(rod.normals[:, 2]) < 0.5
    assert np.allclose(rod.normals[sides, :2], rod.vertices[sides, :2], atol=0.02)
    block = box((0, 0, 0), (1, 2, 3), 'metal').smoothed()
    assert len(block.vertices) == 24
    assert np.allclose(np.abs(block.normals).max(1), 1, atol=1e-3)


def test_smoothing_moves_nothing():
    mesh = Mesh.join([wheel(1, 0, 0.4), tube([(0, 0, 0), (1, 0, 0), (1, 1, 1)], 0.1, 'metal')])
    smooth = mesh.smoothed()
    assert np.allclose(mesh.corners, smooth.corners, atol=1e-4)
    assert (mesh.material == smooth.material).all()
    assert (smooth.vertex_material[smooth.faces] == smooth.material[:, None]).all()


def test_join_keeps_materials_and_faces():
    parts = [box((0, 0, 0), (1, 1, 1), 'paint'), box((3, 0, 0), (1, 1, 1), 'glass')]
    mesh = Mesh.join(parts)
    assert np.allclose(mesh.corners, np.concatenate([part.corners for part in parts]))
    assert mesh.material.tolist() == [INDEX['paint']] * 12 + [INDEX['glass']] * 12


@settings(max_examples=25, deadline=None)
@given(st.floats(-7, 7), st.sampled_from([0, 1, 2]))
def test_turning_turns_normals_with_the_faces(angle, axis):
    mesh = box((1, 2, 3), (1, 2, 3), 'paint').turned(angle, axis)
    assert np.allclose(face_normals(mesh.corners), mesh.normals[mesh.faces[:, 0]], atol=1e-4)


def test_turning_is_counter_clockwise():
    mesh = box((1, 0, 0), (0.1, 0.1, 0.1), 'paint').turned(math.pi / 2, 2)
    assert np.allclose(mesh.vertices.mean(0), (0, 1, 0), atol=1e-6)


def test_stretching_keeps_normals_upright_on_their_faces():
    mesh = ellipsoid((0, 0, 0), (1, 1, 1), 'leaf', 32, 24).smoothed().scaled((5, 1, 1))
    gradient = mesh.vertices / np.array([25, 1, 1])
    gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
    assert np.einsum('vk,vk->v', gradient, mesh.normals).min() > 0.97


def test_fitted_fills_the_unit_box():
    low, high = prism([(3, 1), (9, 1), (7, 4)], 3, 'red', y=5).fitted().bounds
    assert np.allclose(low, (-0.5, -0.5, 0), atol=1e-5)
    assert np.allclose(high, (0.5, 0.5, 1), atol=1e-5)


def test_polygon_faces_whom_it_is_counter_clockwise_for():
    mesh = polygon([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], 'road')
    assert np.allclose(mesh.normals, (0, 0, 1))
    assert len(mesh.faces) == 2


def test_open_loft_has_no_ends():
    rings = [[(0, 1, 0), (0, 0, 1), (0, -1, 0)], [(2, 1, 0), (2, 0, 1), (2, -1, 0)]]
    assert len(loft(rings, 'metal', caps=False).faces) == 6
    assert len(loft(rings, 'metal').faces) == 8
