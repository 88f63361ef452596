"""Meshes of the street: cones, barriers, lamps, signals, trees, buildings and the ground."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mpnp_world.models.mesh import Mesh, box, cylinder, ellipsoid, lathe, polygon, prism
from mpnp_world.scene.state import Patch, Scenery

SIGNAL_ARM = 4.5
SIGNAL_HEADS = ((0.0, 2.6), (SIGNAL_ARM - 0.2, 4.9))
"""Positions of the heads of a traffic light: metres to the left of its pole and above its foot."""
POLES = {'lamp': (2.0, 0.3, 7.0), 'signal_pole': (0.14, 0.14, 3.2)}
"""Sizes, metres, at which these fixtures look as modelled.  Both stand at their origin: a lamp's arm reaches
its length ahead; a signal's mast rises above its box, and its arm reaches over the road on its left.
"""

PLAIN_SIZE, PLAIN_DEPTH = 1000.0, 0.03
"""Half the side of the plain and its depth below the patches, metres."""
LAYER_HEIGHT = 0.003
"""Vertical distance of stacked patches, metres; invisible, but resolved by the depth buffer."""


def cone() -> Mesh:
    """A traffic cone, orange with two white reflecting bands."""
    rings = [(0.15, 0.05), (0.117, 0.26), (0.088, 0.40), (0.068, 0.50), (0.044, 0.62), (0.02, 0.75)]
    bands = ('orange', 'reflector', 'orange', 'reflector', 'orange')
    return Mesh.join([box((0, 0, 0.025), (0.41, 0.41, 0.05), 'trim'),
                      *(lathe([low, high], band) for low, high,
                        band in zip(rings, rings[1:], bands, strict=False))])


def barrier() -> Mesh:
    """A road barrier: two striped planks on a concrete foot."""
    foot = prism([(-0.25, 0.0), (0.25, 0.0), (0.25, 0.12), (0.10, 0.42), (-0.10, 0.42), (-0.25, 0.12)], 2.5,
                 'concrete')
    planks = []
    for z in (0.58, 0.87):
        for i, y in enumerate(np.linspace(-1.25, 1.25, 9)[:-1] + 2.5 / 16):
            planks.append(box((0, y, z), (0.08, 2.5 / 8, 0.24), 'orange' if i % 2 else 'reflector'))
    posts = [box((0, y, 0.7), (0.06, 0.08, 0.6), 'metal') for y in (-1.0, 1.0)]
    return Mesh.join([foot, *planks, *posts])


def tree() -> Mesh:
    """A broad-leaved tree, 6 m tall."""
    crowns = [((0, 0, 4.3), (1.7, 1.7, 1.6)), ((0.9, 0.5, 3.7), (1.1, 1.1, 0.9)),
              ((-0.8, 0.6, 3.8), (1.1, 1.2, 1.0)),
              ((0.1, -0.9, 3.6), (1.2, 1.1, 0.9)), ((-0.2, 0.1, 5.2), (1.1, 1.1, 0.8))]
    return Mesh.join([cylinder((0, 0, 0), (0, 0, 3.6), 0.17, 'bark', 0.09, sides=8),
                      *(ellipsoid(centre, radii, 'leaf', 9, 5) for centre, radii in crowns)])


def lamp() -> Mesh:
    """A street lamp; its arm reaches ahead."""
    return Mesh.join([cylinder((0, 0, 0), (0, 0, 6.8), 0.09, 'metal', 0.06, sides=8),
                      cylinder((0, 0, 6.75), (1.5, 0, 6.95), 0.05, 'metal', sides=6),
                      box((1.7, 0, 6.96), (0.6, 0.3, 0.08), 'metal'),
                      box((1.7, 0, 6.90), (0.5, 0.24, 0.05), 'lamp_glass')])


def signal_pole() -> Mesh:
    """The pole of a traffic light; its arm reaches to the left."""
    return Mesh.join([cylinder((0, 0, 0), (0, 0, 5.6), 0.07, 'metal', sides=8),
                      cylinder((0, 0, 5.4), (0, SIGNAL_ARM, 5.6), 0.05, 'metal', sides=6)])


def bench() -> Mesh:
    """A bench without a back, along x."""
    planks = [box((0, y, 0.42), (1.6, 0.13, 0.05), 'bark') for y in (-0.17, 0.0, 0.17)]
    return Mesh.join([*planks, *(box((x, 0, 0.2), (0.08, 0.46, 0.4), 'concrete') for x in (-0.6, 0.6))])


def signal_head() -> Mesh:
    """The head of a traffic light, its lamps towards -x; metres, its foot at z = 0."""
    lamps = [cylinder((-0.16, 0, z), (-0.2, 0, z), 0.13, material, sides=12)
             for z, material in ((0.82, 'signal_red'), (0.5, 'signal_yellow'), (0.18, 'signal_green'))]
    hoods = [box((-0.24, 0, z + 0.15), (0.2, 0.28, 0.02), 'trim') for z in (0.82, 0.5, 0.18)]
    return Mesh.join([box((0, 0, 0.5), (0.32, 0.38, 1.0), 'trim'),
                      box((0.02, 0, 0.5), (0.03, 0.6, 1.2), 'trim'), *lamps, *hoods])


def building() -> Mesh:
    """A block with a flat roof, 1 m along every axis; the camera's shader gives it windows."""
    return Mesh.join([box((0, 0, 0.5), (1, 1, 1), 'facade'),
                      box((0, 0, 0.9995), (0.99, 0.99, 0.003), 'roof')])


THINGS: dict[str, Callable[[], Mesh]] = {'cone': cone, 'barrier': barrier}
FIXTURES: dict[str, Callable[[], Mesh]] = {
    'building': building, 'tree': tree, 'lamp': lamp, 'signal_pole': signal_pole, 'bench': bench}
"""Builders by kind of annotated thing and of fixture."""


def ground_mesh(scenery: Scenery) -> Mesh:
    """The ground of a scene in the world frame; raised patches have kerbs.

    Upper patches come first, so that hidden ones need no shading.
    """
    edge = PLAIN_SIZE
    plain = polygon([(x, y, -PLAIN_DEPTH)
                     for x, y in ((-edge, -edge), (edge, -edge), (edge, edge), (-edge, edge))],
                    'grass')
    parts = [plain]
    for patch, layer in zip(scenery.patches, layers(scenery.patches), strict=True):
        height = patch.z + layer * LAYER_HEIGHT
        parts.append(polygon([(x, y, height) for x, y in patch.corners], patch.material))
        if patch.z > 0:
            parts.append(Mesh.join(
                polygon([(*a, -PLAIN_DEPTH), (*b, -PLAIN_DEPTH), (*b, height), (*a, height)], 'concrete')
                for a, b in zip(patch.corners, patch.corners[1:] + patch.corners[:1], strict=True)))
    return Mesh.join(parts[::-1])


def layers(patches: tuple[Patch, ...]) -> list[int]:
    """The number of patches below each patch, by bounding rectangles."""
    if not patches:
        return []
    low = np.array([np.min(patch.corners, axis=0) for patch in patches])
    high = np.array([np.max(patch.corners, axis=0) for patch in patches])
    heights = np.zeros(len(patches), int)
    for i in range(1, len(patches)):
        below = ((low[:i] < high[i]) & (high[:i] > low[i])).all(1)
        heights[i] = heights[:i][below].max(initial=-1) + 1
    return heights.tolist()
