"""Common parts of vehicle meshes: lofted bodies, cabins with windows, wheels and lamps.

Metres; x ahead, y left, z up from the ground, the vehicle's middle at x = y = 0.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_world.models.materials import INDEX
from mpnp_world.models.mesh import Mesh
from mpnp_world.models.shapes import box, cylinder, loft, wheel

Station = tuple[float, float, float, float]
"""A cross-section of a body: x, half the width, lower and upper edge."""


def body(stations: Sequence[Station], material: str = 'paint', shoulder: float = 0.1) -> Mesh:
    """A body through cross-sections with chamfered upper and lower edges."""
    def ring(x: float, half: float, low: float, high: float) -> np.ndarray:
        edge = min(shoulder, (high - low) / 3)
        side = [(half - edge, low), (half, low + edge), (half, high - edge), (half - edge, high)]
        outline = side + [(-y, z) for y, z in side[::-1]]
        return np.array([(x, y, z) for y, z in outline])

    return loft([ring(*station) for station in stations], material)


@dataclass(frozen=True)
class Cabin:
    """A cabin with windows on a body: a frustum.

    base, top: (x behind, x ahead, half the width, z).
    """

    base: tuple[float, float, float, float]
    top: tuple[float, float, float, float]

    def _corners(self, side: str) -> np.ndarray:
        """Lower left, lower right, upper right, upper left corner of a side, seen from outside."""
        (b0, b1, bw, bz), (t0, t1, tw, tz) = self.base, self.top
        return np.array({
            'front': [(b1, -bw, bz), (b1, bw, bz), (t1, tw, tz), (t1, -tw, tz)],
            'rear': [(b0, bw, bz), (b0, -bw, bz), (t0, -tw, tz), (t0, tw, tz)],
            'left': [(b1, bw, bz), (b0, bw, bz), (t0, tw, tz), (t1, tw, tz)],
            'right': [(b0, -bw, bz), (b1, -bw, bz), (t1, -tw, tz), (t0, -tw, tz)],
        }[side])

    def shell(self, material: str = 'paint') -> Mesh:
        """The mesh of the frustum."""
        (b0, b1, bw, bz), (t0, t1, tw, tz) = self.base, self.top
        return loft([[(b0, bw, bz), (b0, -bw, bz), (b1, -bw, bz), (b1, bw, bz)],
                     [(t0, tw, tz), (t0, -tw, tz), (t1, -tw, tz), (t1, tw, tz)]], material)

    def panel(self, side: str, along: tuple[float, float], up: tuple[float, float], material: str = 'glass',
              raised: float = 0.012) -> Mesh:
        """A panel slightly in front of a side.  along, up: its range from the left and from the bottom, 0..1.

        On the left and right sides, `along` starts at the front.
        """
        corners = self._corners(side)
        if side == 'right':
            along = 1 - along[1], 1 - along[0]
        low_left, low_right, high_right, high_left = corners
        normal = np.cross(low_right - low_left, high_left - low_left)
        normal *= raised / np.linalg.norm(normal)
        points = []
        for u, v in ((along[0], up[0]), (along[1], up[0]), (along[1], up[1]), (along[0], up[1])):
            foot, head = low_left + u * (low_right - low_left), high_left + u * (high_right - high_left)
            points.append(foot + v * (head - foot) + normal)
        a, b, c, d = points
        return Mesh.of_triangles([(a, b, c), (a, c, d)], INDEX[material])

    def sides(self, windows: Sequence[tuple[float, float]], up: tuple[float, float],
              material: str = 'glass') -> list[Mesh]:
        """The same panels on the left and the right side."""
        return [self.panel(side, along, up, material) for side in ('left', 'right') for along in windows]

    def glazed(self, windows: Sequence[tuple[float, float]], up: tuple[float, float] = (0.1, 0.88),
               rear: bool = True) -> list[Mesh]:
        """The shell with windscreen, side windows and optionally a rear window."""
        ends = ('front', 'rear') if rear else ('front',)
        return [self.shell(), *self.sides(windows, up), *(self.panel(end, (0.05, 0.95), up) for end in ends)]


def wheels(axles: Sequence[float], half_track: float, radius: float, width: float = 0.22) -> list[Mesh]:
    """Wheels at both ends of axles at the given x, with dark arches above them."""
    parts = []
    for x in axles:
        for side in (1, -1):
            parts.append(wheel(x, side * (half_track - width / 2 + 0.025), radius, width))
            parts.append(cylinder((x, side * (half_track - 0.12), radius + 0.02),
                                  (x, side * (half_track + 0.012), radius + 0.02), radius * 1.17, 'trim',
                                  sides=16))
    return parts


def pair(x: float, y: float, z: float, size: tuple[float, float, float], material: str) -> list[Mesh]:
    """A box on the left and its mirror image on the right."""
    return [box((x, side * y, z), size, material) for side in (1, -1)]


def lamps(front: float, rear: float, y: float, front_z: float, rear_z: float,
          tall: float = 0.14, rear_tall: float = 0.2, wide: float = 0.34) -> list[Mesh]:
    """Head lights, orange lights beside them and tail lights.  front, rear: ends of the body."""
    return [*pair(front - 0.05, y, front_z, (0.16, wide, tall), 'head_light'),
            *pair(front - 0.08, y + wide / 2 + 0.04, front_z, (0.2, 0.08, tall), 'orange_light'),
            *pair(rear + 0.03, y + 0.02, rear_z, (0.12, wide, rear_tall), 'tail_light')]


def plates(front: float, rear: float, z: float) -> list[Mesh]:
    """Number plates with a dark grille and a dark bumper.  front, rear: ends of the body."""
    return [box((front + 0.02, 0, z), (0.04, 0.5, 0.12), 'plate'),
            box((rear - 0.02, 0, z + 0.1), (0.04, 0.5, 0.12), 'plate'),
            box((front - 0.02, 0, z), (0.06, 1.3, 0.16), 'trim'),
            box((rear + 0.02, 0, z - 0.08), (0.06, 1.4, 0.16), 'trim')]


def mirrors(x: float, y: float, z: float, size: tuple[float, float, float] = (0.1, 0.2, 0.14)) -> list[Mesh]:
    """Wing mirrors."""
    return pair(x, y, z, size, 'trim')
