"""Meshes of vehicles from simple solids, at the mean sizes of the catalogue: their parts, then the models.

Metres; x ahead, y left, z up from the ground, the vehicle's middle at x = y = 0.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_world.models.mesh import INDEX, Mesh, box, cylinder, loft, prism, wheel

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


def sedan() -> Mesh:
    """A saloon: three volumes."""
    cabin = Cabin((-1.75, 0.98, 0.83, 0.88), (-1.02, 0.22, 0.60, 1.47))
    return Mesh.join([
        body([(2.30, 0.70, 0.32, 0.60), (2.12, 0.84, 0.22, 0.72), (1.10, 0.90, 0.20, 0.86),
              (0.85, 0.90, 0.20, 0.92),
              (-1.60, 0.90, 0.20, 0.96), (-2.12, 0.86, 0.22, 0.95), (-2.30, 0.76, 0.34, 0.84)]),
        *cabin.glazed([(0.10, 0.46), (0.50, 0.90)]), box((-0.4, 0, 1.48), (1.1, 1.0, 0.04), 'paint'),
        *wheels((1.38, -1.38), 0.90, 0.33), *lamps(2.30, -2.30, 0.56, 0.54, 0.70), *plates(2.30, -2.30, 0.42),
        *mirrors(0.66, 0.90, 0.98)])


def hatchback() -> Mesh:
    """A small car: two volumes, steep behind."""
    cabin = Cabin((-1.98, 0.92, 0.81, 0.88), (-1.62, 0.22, 0.62, 1.52))
    return Mesh.join([
        body([(2.05, 0.70, 0.32, 0.64), (1.88, 0.82, 0.22, 0.76), (1.05, 0.86, 0.20, 0.90),
              (0.80, 0.86, 0.20, 0.94),
              (-1.85, 0.86, 0.22, 0.98), (-2.05, 0.78, 0.32, 0.90)]),
        *cabin.glazed([(0.08, 0.42), (0.46, 0.78)]), box((-0.7, 0, 1.53), (1.5, 1.05, 0.04), 'paint'),
        *wheels((1.26, -1.28), 0.86, 0.32), *lamps(2.05, -2.05, 0.54, 0.58, 0.76, rear_tall=0.34, wide=0.3),
        *plates(2.05, -2.05, 0.44), *mirrors(0.62, 0.86, 1.0)])


def suv() -> Mesh:
    """A tall car with roof rails."""
    cabin = Cabin((-2.30, 1.00, 0.86, 1.02), (-2.02, 0.35, 0.68, 1.68))
    return Mesh.join([
        body([(2.40, 0.78, 0.42, 0.80), (2.22, 0.90, 0.32, 0.94), (1.10, 0.94, 0.30, 1.04),
              (-2.20, 0.94, 0.30, 1.10),
              (-2.40, 0.86, 0.42, 1.02)]),
        *cabin.glazed([(0.07, 0.35), (0.38, 0.66), (0.70, 0.94)]),
        *pair(-0.9, 0.66, 1.72, (2.3, 0.05, 0.06), 'trim'),
        *wheels((1.46, -1.46), 0.94, 0.39, 0.26),
        *lamps(2.40, -2.40, 0.62, 0.74, 0.86, tall=0.17, rear_tall=0.4, wide=0.32),
        *pair(0, 0.92, 0.38, (4.2, 0.06, 0.14), 'trim'), *plates(2.40, -2.40, 0.56),
        *mirrors(0.72, 0.93, 1.12)])


def van() -> Mesh:
    """A delivery or people van: short bonnet, tall and long cabin."""
    cabin = Cabin((-2.48, 1.72, 0.90, 1.02), (-2.38, 0.92, 0.78, 1.98))
    return Mesh.join([
        body([(2.55, 0.76, 0.38, 0.74), (2.38, 0.90, 0.26, 0.90), (1.70, 0.95, 0.24, 1.06),
              (-2.48, 0.95, 0.24, 1.08),
              (-2.55, 0.90, 0.34, 1.04)]),
        *cabin.glazed([(0.08, 0.30)], (0.08, 0.72)), *cabin.sides([(0.36, 0.62), (0.66, 0.92)], (0.14, 0.72)),
        box((-0.8, 0, 2.0), (2.6, 1.2, 0.04), 'paint'), *wheels((1.62, -1.52), 0.95, 0.34),
        *lamps(2.55, -2.55, 0.62, 0.64, 0.95, tall=0.2, rear_tall=0.55, wide=0.3), *plates(2.55, -2.55, 0.48),
        *mirrors(1.42, 0.94, 1.18, (0.12, 0.2, 0.26))])


def ambulance() -> Mesh:
    """A white ambulance: van front, box body, red and orange stripes, blue and red roof lights."""
    cabin = Cabin((0.60, 2.35, 0.92, 1.10), (0.60, 1.50, 0.82, 2.05))
    stripes = [box((-1.15, 0, z), (3.62, 2.14, tall), material)
               for z, tall, material in ((1.30, 0.26, 'red'), (1.06, 0.12, 'orange'))]
    crosses = [box((-1.1, side * 1.06, 1.92), size, 'red') for side in (1, -1)
               for size in ((0.6, 0.02, 0.2), (0.2, 0.02, 0.6))]
    return Mesh.join([
        body([(3.00, 0.82, 0.40, 0.86), (2.85, 0.96, 0.30, 1.00), (2.30, 1.00, 0.28, 1.14),
              (0.5, 1.00, 0.28, 1.16)],
             'white'),
        box((-1.15, 0, 1.42), (3.6, 2.1, 2.0), 'white'), cabin.shell('white'),
        cabin.panel('front', (0.05, 0.95), (0.1, 0.85)),
        *cabin.sides([(0.2, 0.85)], (0.1, 0.85)), *stripes, *crosses,
        box((0.75, 0, 2.30), (0.5, 1.5, 0.14), 'siren_light'),
        *pair(0.75, 0.62, 2.31, (0.52, 0.3, 0.16), 'tail_light'),
        *pair(-2.7, 0.85, 2.5, (0.2, 0.25, 0.16), 'siren_light'),
        *pair(-2.96, 0.5, 2.0, (0.02, 0.45, 0.5), 'glass'),
        *wheels((2.05, -1.75), 1.02, 0.38, 0.26), *lamps(3.00, -2.95, 0.66, 0.74, 0.75, tall=0.18),
        *plates(3.0, -2.95, 0.52), *mirrors(1.95, 1.02, 1.4, (0.14, 0.2, 0.34))])


def pickup() -> Mesh:
    """A pick-up truck: cab ahead, open bed behind."""
    cabin = Cabin((-0.75, 1.30, 0.86, 1.08), (-0.62, 0.55, 0.68, 1.86))
    bed = [*pair(-1.80, 0.93, 1.10, (1.95, 0.08, 0.30), 'paint'),
           box((-2.74, 0, 1.05), (0.08, 1.86, 0.42), 'paint'),
           box((-1.80, 0, 0.98), (1.85, 1.76, 0.06), 'trim')]
    return Mesh.join([
        body([(2.80, 0.82, 0.48, 0.92), (2.62, 0.94, 0.38, 1.04), (1.35, 0.97, 0.36, 1.12),
              (-0.82, 0.97, 0.36, 1.14)]),
        box((-1.78, 0, 0.74), (1.98, 1.9, 0.50), 'paint'), *cabin.glazed([(0.10, 0.46), (0.52, 0.90)]), *bed,
        *wheels((1.78, -1.70), 0.97, 0.40, 0.26),
        *lamps(2.80, -2.77, 0.68, 0.80, 0.98, tall=0.2, rear_tall=0.4, wide=0.3),
        box((2.78, 0, 0.72), (0.06, 1.3, 0.24), 'metal'), box((-2.78, 0, 0.56), (0.08, 1.8, 0.16), 'metal'),
        *plates(2.80, -2.80, 0.54), *mirrors(1.0, 0.97, 1.22, (0.12, 0.22, 0.22))])


def box_truck() -> Mesh:
    """A lorry: painted cab, white box body on a dark frame."""
    cab = Cabin((1.90, 3.90, 1.16, 1.25), (1.90, 3.62, 1.08, 2.55))
    return Mesh.join([
        box((2.92, 0, 0.88), (2.04, 2.34, 0.86), 'paint'),
        *cab.glazed([(0.18, 0.72)], (0.12, 0.72), rear=False),
        box((-1.15, 0, 2.02), (5.70, 2.46, 2.10), 'white'),
        box((-1.15, 0, 0.94), (5.72, 2.48, 0.08), 'metal'),
        *pair(-1.15, 1.235, 2.95, (5.70, 0.02, 0.12), 'paint'),
        *pair(-4.0, 0.6, 2.0, (0.03, 1.1, 1.8), 'metal'),
        box((-1.0, 0, 0.72), (5.6, 0.9, 0.3), 'trim'), box((-3.95, 0, 0.62), (0.1, 2.3, 0.14), 'trim'),
        *pair(-0.9, 1.1, 0.68, (2.2, 0.08, 0.36), 'trim'),
        *wheels((2.95, -2.55), 1.16, 0.48, 0.32), *lamps(3.94, -4.0, 0.92, 0.74, 0.84, wide=0.36),
        *pair(-4.01, 1.1, 3.0, (0.03, 0.14, 0.08), 'tail_light'), *plates(3.94, -4.0, 0.55),
        *mirrors(3.7, 1.30, 1.95, (0.12, 0.18, 0.55))])


def bus() -> Mesh:
    """A city bus: a long body with a band of windows, doors on the right."""
    hull = Cabin((-5.60, 5.60, 1.40, 0.32), (-5.56, 5.50, 1.34, 3.36))
    panes = [(0.115 + 0.098 * i, 0.205 + 0.098 * i) for i in range(9)]
    doors = [hull.panel('right', along, (0.04, 0.84), 'glass', 0.02)
             for along in ((0.02, 0.10), (0.505, 0.605))]
    return Mesh.join([
        hull.shell(), *hull.sides(panes, (0.40, 0.80)), hull.panel('left', (0.02, 0.10), (0.40, 0.80)),
        *doors,
        hull.panel('front', (0.05, 0.95), (0.34, 0.84)),
        hull.panel('front', (0.18, 0.82), (0.87, 0.97), 'orange_light'),
        hull.panel('rear', (0.12, 0.88), (0.50, 0.80)), *hull.sides([(0.0, 1.0)], (0.30, 0.35), 'white'),
        box((-0.6, 0, 3.42), (7.5, 1.7, 0.18), 'white'), box((0, 0, 0.3), (10.9, 2.5, 0.2), 'trim'),
        *wheels((2.95, -2.75), 1.40, 0.50, 0.32),
        *lamps(5.60, -5.60, 1.02, 0.72, 0.95, tall=0.22, rear_tall=0.5, wide=0.44),
        *plates(5.60, -5.60, 0.48), *mirrors(5.70, 1.38, 2.5, (0.14, 0.16, 0.5))])


def trailer() -> Mesh:
    """A detached semi-trailer: a tall box on legs ahead and three axles behind, no cab."""
    posts = [box((x, side * 1.29, 2.45), (0.06, 0.02, 2.5), 'metal') for x in np.linspace(-4.6, 4.6, 9)
             for side in (1, -1)]
    return Mesh.join([
        box((0, 0, 2.45), (10.0, 2.56, 2.5), 'paint'), *posts, box((0, 0, 1.12), (9.9, 1.0, 0.22), 'trim'),
        *pair(0, 1.285, 1.26, (10.0, 0.03, 0.14), 'metal'), *pair(3.3, 0.75, 0.6, (0.16, 0.14, 1.1), 'metal'),
        *pair(3.3, 0.75, 0.03, (0.4, 0.3, 0.06), 'metal'), *pair(-0.4, 1.2, 0.78, (3.0, 0.04, 0.5), 'trim'),
        *[wheel(x, side * 1.08, 0.5, 0.36) for x in (-4.2, -3.0, -1.8) for side in (1, -1)],
        box((-4.95, 0, 0.7), (0.1, 2.3, 0.14), 'trim'),
        *pair(-5.0, 0.95, 0.95, (0.05, 0.4, 0.2), 'tail_light'),
        *pair(-5.01, 0.63, 2.4, (0.04, 1.16, 2.2), 'metal'),
        box((-5.02, 0, 1.3), (0.03, 2.4, 0.1), 'reflector'),
        *pair(0, 1.30, 1.24, (9.6, 0.02, 0.06), 'reflector')])


def _arm(points: list[tuple[float, float]], width: float) -> Mesh:
    """A boom of an excavator from its side view."""
    return prism(points, width, 'yellow', y=-0.25)


def excavator() -> Mesh:
    """An excavator: tracks, a turning house with its cab on the left, boom, stick and bucket ahead."""
    track = [(-2.0, 0.30), (-1.75, 0.0), (0.95, 0.0), (1.2, 0.30), (1.2, 0.55), (0.95, 0.85), (-1.75, 0.85),
             (-2.0, 0.55)]
    rollers = [cylinder((x, side * 1.12, 0.3), (x, side * 1.42, 0.3), 0.2, 'metal', sides=10)
               for x in np.linspace(-1.6, 0.8, 5) for side in (1, -1)]
    cab = Cabin((-0.45, 1.0, 0.48, 1.28), (-0.40, 0.75, 0.42, 2.78))
    glass = [cab.panel(side, (0.1, 0.9), (0.3, 0.92)) for side in ('front', 'rear', 'left', 'right')]
    return Mesh.join([
        *[prism(track, 0.55, 'tyre', side * 1.12) for side in (1, -1)], *rollers,
        cylinder((-0.4, 0, 0.8), (-0.4, 0, 1.1), 0.7, 'trim'), box((-1.0, 0, 1.2), (3.3, 2.6, 0.3), 'yellow'),
        box((-1.7, 0, 1.75), (1.9, 2.56, 0.9), 'yellow', (0.92, 0.94)),
        box((-2.5, 0, 1.7), (0.3, 2.3, 0.6), 'trim'),
        Mesh.join([cab.shell('yellow'), *glass]).moved((0, 0.72, 0)),
        box((0.1, 0.72, 2.82), (1.3, 0.92, 0.08), 'orange'),
        _arm([(0.2, 1.4), (0.6, 1.2), (2.5, 2.85), (2.45, 3.2), (2.05, 3.1), (0.3, 1.9)], 0.36),
        _arm([(2.15, 3.2), (2.55, 3.25), (3.45, 1.35), (3.2, 1.2), (2.85, 1.5)], 0.26),
        cylinder((0.8, -0.25, 1.45), (1.9, -0.25, 2.85), 0.07, 'metal', sides=6),
        prism([(3.0, 1.3), (3.5, 1.3), (3.85, 0.85), (3.6, 0.35), (3.0, 0.55), (2.85, 0.9)], 0.95, 'metal',
              -0.25),
        cylinder((-2.0, -0.8, 2.2), (-2.0, -0.8, 2.6), 0.06, 'trim', sides=6),
        box((-2.2, 0.9, 2.25), (0.16, 0.16, 0.18), 'orange_light')])


VEHICLES: dict[str, Callable[[], Mesh]] = {
    'sedan': sedan, 'hatchback': hatchback, 'suv': suv, 'van': van, 'ambulance': ambulance, 'pickup': pickup,
    'box_truck': box_truck, 'bus': bus, 'trailer': trailer, 'excavator': excavator,
}
"""Builders of vehicles by kind; cycles are in :mod:`~mpnp_world.models.figures`."""
