"""Meshes of people: walking and standing bodies from people.npz, sitting figures and riders from solids.

people.npz is baked from CC0 meshes of MakeHuman (people.NOTICE).
"""
from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import numpy as np

from mpnp_world.models.materials import INDEX
from mpnp_world.models.mesh import Mesh
from mpnp_world.models.shapes import Point, box, cylinder, ellipsoid
from mpnp_world.scene.catalogue import KINDS

WALKING_POSES, STANDING, SITTING = 6, 6, 7
"""Poses 0..5 are a step of the gait each, 60 degrees apart."""
ADULT_BODIES, CHILD_BODY = 4, 4
"""Bodies 0..3 in people.npz are adults, 4 is a child."""
STRIDE = 0.45
"""Maximum reach of limbs ahead and behind, metres, so that strides stay near their boxes."""
_SMOOTH = 180.0


@lru_cache(maxsize=1)
def _baked() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [bodies, poses, V, 3] in metres, faces [F, 3] and the material [F] of each."""
    with files(__package__).joinpath('people.npz').open('rb') as file, np.load(file) as baked:
        material = np.array([INDEX[name] for name in ('skin', 'cloth', 'trousers', 'hair')], np.uint8)
        return baked['v'] / np.float32(1000), baked['f'].astype(np.int32), material[baked['m'] - 7]


def person(kind: str, body: int, pose: int) -> Mesh:
    """A pedestrian or child in its unit box; scaled by the mean size of its kind it is as baked.

    Walking bodies keep their proportions, so poses may not fill the box.
    """
    if pose == SITTING:
        return sitting().fitted()
    vertices, faces, material = _baked()
    shape = vertices[CHILD_BODY if kind == 'child' else body % ADULT_BODIES]
    points = shape[pose] * np.float32(1)
    points[:, 0] = STRIDE * np.tanh((points[:, 0] - np.ptp(points[:, 0]) / 2 - points[:, 0].min()) / STRIDE)
    soup = Mesh.of_triangles(points[faces], 0)
    length, width, height = KINDS[kind].size
    scale = height / np.ptp(shape[STANDING][:, 2])
    dressed = Mesh(soup.vertices, soup.faces, material, soup.normals).smoothed(_SMOOTH)
    return dressed.scaled((scale / length, scale / width, scale / height))


def limb(points: list[Point], radii: list[float], material: str) -> Mesh:
    """A chain of truncated cones with rounded joints."""
    parts = [cylinder(a, b, ra, material, rb, sides=8)
             for a, b, ra, rb in zip(points, points[1:], radii, radii[1:], strict=False)]
    return Mesh.join([*parts, *(ellipsoid(p, (r, r, r), material, 8, 4)
                                for p, r in zip(points[1:], radii[1:], strict=True))])


def figure(hip: Point, shoulder: Point, knee: Point, foot: Point, hand: Point,
           head_material: str = 'hair') -> Mesh:
    """A seated figure; points of its left side (y left) are mirrored to the right, metres."""
    hip, shoulder = np.asarray(hip, float), np.asarray(shoulder, float)
    neck = shoulder * (1, 0, 1)
    lean = (neck - hip * (1, 0, 1)) / np.linalg.norm(neck - hip * (1, 0, 1))
    head = neck + 0.24 * lean + (0.03, 0, 0.02)
    parts = [limb([hip * (1, 0, 1), (hip * (1, 0, 1) + neck) / 2, neck], [0.17, 0.18, 0.15], 'cloth'),
             limb([neck, head], [0.06, 0.055], 'skin'), ellipsoid(head, (0.10, 0.085, 0.13), 'skin'),
             ellipsoid(head + (-0.015, 0, 0.045), (0.115, 0.10, 0.11), head_material)]
    for side in (1, -1):
        mirror = np.array((1, side, 1))
        elbow = (shoulder + hand) / 2 + (-0.06, 0.05, -0.10)
        parts += [limb([hip * mirror, knee * mirror, foot * mirror], [0.095, 0.075, 0.05], 'trousers'),
                  limb([shoulder * mirror, elbow * mirror], [0.065, 0.05], 'cloth'),
                  limb([elbow * mirror, hand * mirror], [0.048, 0.04], 'skin'),
                  box(foot * mirror + (0.06, 0, -0.03), (0.27, 0.1, 0.09), 'hair')]
    return Mesh.join(parts)


def sitting() -> Mesh:
    """A person sitting 0.45 m above the ground, e.g. on a bench; metres."""
    return figure(hip=(0, 0.10, 0.52), shoulder=(-0.03, 0.19, 1.0), knee=(0.44, 0.14, 0.54),
                  foot=(0.46, 0.15, 0.09), hand=(0.38, 0.13, 0.64)).smoothed()
