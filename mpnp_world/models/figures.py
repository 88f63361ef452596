"""Meshes of people, and of bicycles and motorcycles with and without riders, in metres.

Walking and standing bodies come from people.npz, which is baked from CC0 meshes of MakeHuman (people.NOTICE).
Sitting figures and riders are simple solids.
"""
from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import numpy as np

from mpnp_world.models.mesh import INDEX, Mesh, Point, box, cylinder, ellipsoid, prism, tube
from mpnp_world.scene.catalogue import KINDS

WALKING_POSES, STANDING, SITTING = 6, 6, 7
"""Poses 0..5 are a step of the gait each, 60 degrees apart."""
ADULT_BODIES, CHILD_BODY = 4, 4
"""Bodies 0..3 in people.npz are adults, 4 is a child."""
STRIDE = 0.45
"""Maximum reach of limbs ahead and behind, metres, so that strides stay near their boxes."""
_SMOOTH = 180.0

RIDDEN = 1
"""Pose of a cycle with a rider; 0: without."""


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


def _tyre(x: float, radius: float, thickness: float) -> Mesh:
    """A tyre as a ring about an axle along y, standing on the ground."""
    angle = np.linspace(0, 2 * np.pi, 17)
    inner = radius - thickness
    ring = np.column_stack([x + inner * np.cos(angle), 0 * angle, radius + inner * np.sin(angle)])
    spokes = [cylinder(ring[i], ring[i + 8], 0.008, 'metal', sides=3) for i in range(0, 8, 2)]
    return Mesh.join([tube(ring, thickness, 'tyre', sides=6), *spokes])


def bicycle() -> Mesh:
    """A city bicycle."""
    rear, front, crank = (-0.52, 0, 0.34), (0.52, 0, 0.34), (-0.08, 0, 0.30)
    seat, head, bars = (-0.22, 0, 0.88), (0.36, 0, 0.86), (0.33, 0, 1.06)
    frame = [tube([rear, crank, head, seat, rear], 0.028, 'paint'), tube([seat, crank], 0.028, 'paint'),
             tube([bars, head, front], 0.026, 'paint'), tube([seat, (-0.23, 0, 0.98)], 0.018, 'metal')]
    return Mesh.join([
        _tyre(-0.52, 0.34, 0.032), _tyre(0.52, 0.34, 0.032), *frame,
        box((-0.24, 0, 1.0), (0.27, 0.15, 0.06), 'trim'),
        tube([(0.24, 0.29, 1.06), (0.34, 0.16, 1.08), (0.34, -0.16, 1.08), (0.24, -0.29, 1.06)], 0.02,
             'trim'),
        cylinder((-0.08, -0.05, 0.30), (-0.08, -0.07, 0.30), 0.1, 'metal', sides=10),
        box((-0.08, 0.13, 0.14), (0.1, 0.08, 0.03), 'trim'),
        box((-0.08, -0.13, 0.46), (0.1, 0.08, 0.03), 'trim'),
        box((0.44, 0, 0.92), (0.06, 0.07, 0.07), 'head_light'),
        box((-0.5, 0, 0.78), (0.04, 0.08, 0.08), 'tail_light')])


def motorcycle() -> Mesh:
    """A road motorcycle."""
    tank = ellipsoid((0.18, 0, 0.86), (0.30, 0.17, 0.16), 'paint')
    fairing = prism([(0.62, 0.86), (0.70, 1.02), (0.52, 1.16), (0.38, 0.98), (0.45, 0.80)], 0.34, 'paint')
    return Mesh.join([
        _tyre(-0.70, 0.32, 0.075), _tyre(0.72, 0.32, 0.07), tank, fairing,
        cylinder((-0.70, -0.09, 0.32), (-0.70, 0.09, 0.32), 0.15, 'metal'),
        cylinder((0.72, -0.08, 0.32), (0.72, 0.08, 0.32), 0.15, 'metal'),
        prism([(-0.30, 0.36), (0.30, 0.30), (0.42, 0.58), (0.20, 0.74), (-0.30, 0.72)], 0.34, 'trim'),
        box((-0.02, 0, 0.46), (0.36, 0.44, 0.26), 'metal'),
        prism([(-0.98, 0.86), (-0.90, 0.98), (-0.05, 0.86), (-0.05, 0.74), (-0.6, 0.70)], 0.26, 'paint'),
        box((-0.42, 0, 0.91), (0.66, 0.28, 0.08), 'trim'),
        *[tube([(0.72, side * 0.10, 0.32), (0.50, side * 0.10, 1.0)], 0.035, 'metal') for side in (1, -1)],
        tube([(0.34, 0.38, 1.08), (0.46, 0.2, 1.1), (0.46, -0.2, 1.1), (0.34, -0.38, 1.08)], 0.022, 'trim'),
        *[box((0.50, side * 0.34, 1.24), (0.04, 0.14, 0.1), 'trim') for side in (1, -1)],
        cylinder((-0.1, -0.24, 0.36), (-0.95, -0.26, 0.46), 0.06, 'metal', sides=8),
        prism([(0.56, 1.12), (0.44, 1.40), (0.42, 1.38), (0.50, 1.12)], 0.30, 'glass'),
        box((0.70, 0, 0.94), (0.06, 0.22, 0.16), 'head_light'),
        box((-0.98, 0, 0.90), (0.06, 0.2, 0.1), 'tail_light'),
        box((-1.02, 0, 0.62), (0.02, 0.2, 0.14), 'plate')])


def bicycle_ridden() -> Mesh:
    """A bicycle with its rider."""
    rider = figure(hip=(-0.20, 0.09, 1.06), shoulder=(0.06, 0.19, 1.46), knee=(0.16, 0.12, 0.74),
                   foot=(-0.08, 0.14, 0.26),
                   hand=(0.30, 0.25, 1.08))
    return Mesh.join([bicycle(), rider])


def motorcycle_ridden() -> Mesh:
    """A motorcycle with its rider, who wears a helmet."""
    rider = figure(hip=(-0.32, 0.12, 0.98), shoulder=(-0.06, 0.21, 1.42), knee=(0.12, 0.26, 0.74),
                   foot=(-0.12, 0.24, 0.34),
                   hand=(0.40, 0.34, 1.10), head_material='white')
    return Mesh.join([motorcycle(), rider])


def cycle(kind: str, pose: int) -> Mesh:
    """A bicycle or motorcycle, with a rider if `pose` is RIDDEN."""
    alone, ridden = {'bicycle': (bicycle, bicycle_ridden),
                     'motorcycle': (motorcycle, motorcycle_ridden)}[kind]
    return (ridden if pose == RIDDEN else alone)()
