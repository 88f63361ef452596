"""The ground as a mesh: patches of road, sidewalk, markings and grass on a wide plain."""
from __future__ import annotations

import numpy as np

from mpnp_ros.world.mesh import Mesh
from mpnp_ros.world.shapes import polygon
from mpnp_ros.world.state import Patch, Scenery

PLAIN_SIZE, PLAIN_DEPTH = 1000.0, 0.03
"""Metres from the middle of the plain to its edges, and how far it lies below the patches."""
LAYER_HEIGHT = 0.003
"""Metres between patches that lie on each other: too little to see, enough for a depth buffer."""


def ground_mesh(scenery: Scenery) -> Mesh:
    """The ground of a scene in the world frame; raised patches have kerbs.

    What lies on top comes first, so that what it hides need not be shaded.
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
            parts.append(_kerb(patch, height))
    return Mesh.join(parts[::-1])


def layers(patches: tuple[Patch, ...]) -> list[int]:
    """How many patches lie below each one, counted along the highest pile (by their bounding rectangles)."""
    if not patches:
        return []
    low = np.array([np.min(patch.corners, axis=0) for patch in patches])
    high = np.array([np.max(patch.corners, axis=0) for patch in patches])
    heights = np.zeros(len(patches), int)
    for i in range(1, len(patches)):
        below = ((low[:i] < high[i]) & (high[:i] > low[i])).all(1)
        heights[i] = heights[:i][below].max(initial=-1) + 1
    return heights.tolist()


def _kerb(patch: Patch, height: float) -> Mesh:
    """The sides of a raised patch."""
    corners = patch.corners
    return Mesh.join(polygon([(*a, -PLAIN_DEPTH), (*b, -PLAIN_DEPTH), (*b, height), (*a, height)], 'concrete')
                     for a, b in zip(corners, corners[1:] + corners[:1], strict=True))
