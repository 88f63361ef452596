"""Bicycles and motorcycles, with and without riders, in metres."""
from __future__ import annotations

import numpy as np

from mpnp_world.models.mesh import Mesh
from mpnp_world.models.people_meshes import figure
from mpnp_world.models.shapes import box, cylinder, ellipsoid, prism, tube

RIDDEN = 1
"""Pose of a cycle with a rider; 0: without."""


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
