"""The ground as a mesh: patches of road, sidewalk, markings and grass on a wide plain."""
from __future__ import annotations

import numpy as np

from mpnp_world.models.mesh import Mesh
from mpnp_world.models.shapes import polygon
from mpnp_world.scene.state import Patch, Scenery

PLAIN_SIZE, PLAIN_DEPTH = 1000.0, 0.03
"""Half the side of the plain and its depth below the patches, metres."""
LAYER_HEIGHT = 0.003
"""Vertical distance of stacked patches, metres; invisible, but resolved by the depth buffer."""


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
            parts.append(_kerb(patch, height))
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


def _kerb(patch: Patch, height: float) -> Mesh:
    """The sides of a raised patch."""
    corners = patch.corners
    return Mesh.join(polygon([(*a, -PLAIN_DEPTH), (*b, -PLAIN_DEPTH), (*b, height), (*a, height)], 'concrete')
                     for a, b in zip(corners, corners[1:] + corners[:1], strict=True))
