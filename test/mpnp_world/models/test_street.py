from __future__ import annotations

import numpy as np

from mpnp_world.models.mesh import INDEX
from mpnp_world.models.street import LAYER_HEIGHT, PLAIN_DEPTH, ground_mesh, layers
from mpnp_world.scene.state import Patch, Scenery


def rectangle(material: str, x: float, y: float, length: float, width: float, z: float = 0.0) -> Patch:
    return Patch(material, ((x, y), (x + length, y), (x + length, y + width), (x, y + width)), z)


STREET = (rectangle('road', 0, 0, 50, 10), rectangle('sidewalk', 0, 10, 50, 4, 0.15),
          rectangle('road', 20, -20, 8, 50), rectangle('marking', 5, 5, 3, 0.2),
          rectangle('line', 21, 5, 3, 0.2))


def test_later_patches_lie_on_earlier_ones_only_where_they_meet():
    assert layers(STREET) == [0, 0, 1, 1, 2]
    assert layers(()) == []


def test_markings_are_above_the_road_and_all_face_up():
    mesh = ground_mesh(Scenery((), STREET))
    marking = mesh.corners[mesh.material == INDEX['marking']]
    assert np.allclose(marking[..., 2], LAYER_HEIGHT)
    flat = mesh.material != INDEX['concrete']
    assert (mesh.normals[mesh.faces[flat, 0], 2] == 1).all()


def test_a_sidewalk_has_a_kerb_that_faces_the_road():
    mesh = ground_mesh(Scenery((), STREET))
    kerb = mesh.material == INDEX['concrete']
    assert kerb.sum() == 8
    corners, normals = mesh.corners[kerb], mesh.normals[mesh.faces[kerb, 0]]
    assert np.isclose(corners[..., 2].max(), 0.15, atol=1e-3)
    away = corners.mean(1)[:, :2] - (25, 12)
    assert (np.einsum('fk,fk->f', normals[:, :2], away) > 0).all()


def test_a_plain_lies_below_everything():
    mesh = ground_mesh(Scenery((), ()))
    assert np.allclose(mesh.vertices[:, 2], -PLAIN_DEPTH)
    assert np.abs(mesh.vertices[:, :2]).min() >= 500


def test_what_is_on_top_is_drawn_first():
    heights = ground_mesh(Scenery((), STREET)).corners[..., 2].max(1)
    assert heights[-1] == heights.min()
