"""Static scenery without annotation: ground, buildings, trees, lamps, signals, benches."""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mpnp_world.scene.boxes import Ground
from mpnp_world.scene.state import Colour, Fixture, Patch, Scenery
from mpnp_world.scene.streets import (
    CROSSWALK_FAR,
    CROSSWALK_NEAR,
    CURB_HEIGHT,
    LANE,
    PARKING,
    SIDEWALK,
    STOP_BACK,
    Junction,
    Kerb,
    Street,
    StreetMap,
)

LOT_DEPTH = 24.0
"""Depth of lots of the main street behind its sidewalks, metres."""
WALLS: tuple[Colour, ...] = ((1, .93, .84), (1, .78, .66), (.95, .97, 1.), (1, .97, .9), (.9, .75, .6))
BENCH = (1.6, 0.5, 0.45)
BENCH_GROUND = (1.7, 1.0)
"""Ground of a bench, including the knees of sitting people."""
TRUNK = (0.5, 0.5)
POLE = (0.14, 0.14, 3.2)
LAMP = (2.0, 0.3, 7.0)
"""Size of a street lamp; its arm reaches over the road."""
GRASS_MARGIN = 60.0


@dataclass(frozen=True)
class Lot:
    """A piece of land behind a sidewalk.  use: building, park or parking; start, end: u; depth: metres."""

    kerb: Kerb
    start: float
    end: float
    depth: float
    use: str


@dataclass(frozen=True)
class Bench:
    """Place and viewing direction of a bench."""

    x: float
    y: float
    yaw: float


class SceneryPainter:
    """Draws the scenery.  lots, benches, signal_posts: places for objects and people."""

    def __init__(self, rng: np.random.Generator, streets: StreetMap, ground: Ground) -> None:
        self._rng, self._map, self._ground = rng, streets, ground
        self._fixtures: list[Fixture] = []
        self.lots: list[Lot] = []
        self.benches: list[Bench] = []
        self.signal_posts: list[tuple[Junction, Street, int, tuple[float, float]]] = []

    def fixed(self) -> None:
        """Draw all fixtures."""
        for junction in self._map.junctions:
            self._signals(junction)
        for kerb in self._map.kerbs():
            self._furnish(kerb)
            self.lots += self._cut(kerb)
        for lot in self.lots:
            if lot.use == 'building':
                self._building(lot)
            elif lot.use == 'park':
                self._park(lot)

    def scenery(self) -> Scenery:
        """The scenery, including the ground."""
        return Scenery(tuple(self._fixtures), tuple(self._patches()))

    def _add(self, kind: str, place: tuple[float, float], yaw: float, size: tuple[float, float, float],
             z: float = CURB_HEIGHT, colour: Colour = (1., 1., 1.),
             takes: tuple[float, float] | None = None) -> bool:
        """Add a fixture if its ground is free; returns whether added.  takes: occupied length and width."""
        length, width = takes or size[:2]
        if not self._ground.take((*place, yaw, length, width)):
            return False
        self._fixtures.append(Fixture(kind, *place, yaw, size, z, colour))
        return True

    def _signals(self, junction: Junction) -> None:
        """Draw one traffic light per arm, at the stop line on the right."""
        for street in junction.streets:
            for way in (1, -1):
                u = junction.centre(street) - way * (junction.half(street) + STOP_BACK - .7)
                place = street.point(u, -way * (street.half_width + .5))
                self.signal_posts.append((junction, street, way, place))
                self._add('signal_pole', place, street.yaw(way), POLE, 0.0, takes=TRUNK)

    def _furnish(self, kerb: Kerb) -> None:
        """Draw the lamps, benches and trees of a sidewalk; benches stand at its back and face the street."""
        rng, facing = self._rng, kerb.outward + math.pi
        first = kerb.start + float(rng.uniform(6, 16))
        for u in np.arange(first, kerb.end - 5, float(rng.uniform(24, 32))).tolist():
            self._add('lamp', kerb.point(u, .5), facing, LAMP, takes=TRUNK)
        for _ in range(rng.poisson(.018 * (kerb.end - kerb.start))):
            self._bench(kerb.point(float(rng.uniform(kerb.start + 7, kerb.end - 7)), SIDEWALK - .5), facing)
        if rng.random() >= .3:
            for u in np.arange(kerb.start + 8, kerb.end - 6, float(rng.uniform(8, 16))).tolist():
                self._tree(kerb.point(u + float(rng.uniform(-2, 2)), .8))

    def _tree(self, place: tuple[float, float], z: float = CURB_HEIGHT) -> None:
        rng = self._rng
        crown, height = float(rng.uniform(2.8, 4.5)), float(rng.uniform(5, 9))
        yaw = float(rng.uniform(-math.pi, math.pi))
        self._add('tree', place, yaw, (crown, crown, height), z, takes=TRUNK)

    def _bench(self, place: tuple[float, float], yaw: float) -> None:
        if self._add('bench', place, yaw + math.pi / 2, BENCH, takes=BENCH_GROUND):
            self.benches.append(Bench(*place, yaw))

    def _cut(self, kerb: Kerb) -> Iterator[Lot]:
        """The lots along a kerb."""
        rng = self._rng
        margin = SIDEWALK if kerb.street is self._map.main else SIDEWALK + LOT_DEPTH
        start, end = kerb.start, kerb.end
        if kerb.street is self._map.main:
            start, end = start + SIDEWALK, end - SIDEWALK
        elif kerb.start > 0:
            start += margin
        else:
            end -= margin
        while end - start > 8:
            length = min(float(rng.uniform(12, 30)), end - start)
            use = str(rng.choice(['building', 'park', 'parking'], p=[.72, .14, .14]))
            if length < 16:
                use = 'building'
            yield Lot(kerb, start, start + length, LOT_DEPTH, use)
            start += length

    def _building(self, lot: Lot) -> None:
        rng = self._rng
        length, depth = lot.end - lot.start - float(rng.choice([0, 0, 0, 2.5])), float(rng.uniform(9, 16))
        grey = float(rng.uniform(.25, .6))
        wall = np.array(WALLS[rng.integers(len(WALLS))]) * grey + rng.normal(0, .02, 3)
        red, green, blue = np.clip(wall, .08, .8).tolist()
        setback = SIDEWALK + float(rng.choice([0, 0, 1.5, 4]))
        self._add('building', lot.kerb.point((lot.start + lot.end) / 2, setback + depth / 2),
                  lot.kerb.outward - math.pi / 2, (length, depth, float(rng.uniform(5, 24))), 0.0,
                  (red, green, blue))

    def _park(self, lot: Lot) -> None:
        rng = self._rng
        for _ in range(int((lot.end - lot.start) / 5)):
            self._tree(lot.kerb.point(float(rng.uniform(lot.start + 2, lot.end - 2)),
                                      SIDEWALK + float(rng.uniform(3, lot.depth - 2))), .02)
        for u in np.arange(lot.start + 3, lot.end - 3, 5.0).tolist():
            if rng.random() < .5:
                place = lot.kerb.point(u, SIDEWALK + float(rng.uniform(.8, 4)))
                self._bench(place, lot.kerb.outward + math.pi)

    def _patches(self) -> Iterator[Patch]:
        """The ground, from the lowest patch to the uppermost: grass, roads, sidewalks, lots, paint."""
        main = self._map.main
        start, end, side = (place + margin for place, margin in (
            (main.start, -GRASS_MARGIN), (main.end, GRASS_MARGIN), (self._map.crosses[0].end, GRASS_MARGIN)))
        yield Patch('grass', _corners(main, start, end, -side, side), -.02)
        for street in self._map.streets:
            half = street.half_width
            yield Patch('road', _corners(street, street.start, street.end, -half, half))
        for kerb in self._map.kerbs():
            first, last = kerb.start, kerb.end
            if kerb.street is not main:  # the corner belongs to the sidewalk of the main street
                first, last = (first + SIDEWALK, last) if first > 0 else (first, last - SIDEWALK)
            yield _along(kerb, 'sidewalk', first, last, 0.0, SIDEWALK, CURB_HEIGHT)
        for lot in self.lots:
            material = {'building': 'sidewalk', 'park': 'grass', 'parking': 'road'}[lot.use]
            yield _along(lot.kerb, material, lot.start, lot.end, SIDEWALK, SIDEWALK + lot.depth, .02)
        for kerb in self._map.kerbs():
            yield from self._lines(kerb)
        for crosswalk in self._map.crosswalks:
            street, u, half = crosswalk.street, crosswalk.u, (CROSSWALK_FAR - CROSSWALK_NEAR) / 2
            for v in np.arange(-street.half_width + .5, street.half_width - .5, 1.0).tolist():
                yield Patch('marking', _corners(street, u - half, u + half, v, v + .5))
        for junction in self._map.junctions:
            for street in junction.streets:
                for way in (1, -1):  # stop lines
                    u = junction.centre(street) - way * (junction.half(street) + STOP_BACK)
                    right, left = sorted((0.0, -way * (street.half_width - PARKING)))
                    yield Patch('marking', _corners(street, u - .2, u + .2, right, left))

    def _lines(self, kerb: Kerb) -> Iterator[Patch]:
        """Lane lines of one half of a street, from one stop line to the next."""
        street = kerb.street
        junctions = self._map.junctions_on(street)
        starts, ends = ([junction.centre(street) + side * junction.half(street) for junction in junctions]
                        for side in (1, -1))
        start = kerb.start + STOP_BACK * (kerb.start in starts)
        end = kerb.end - STOP_BACK * (kerb.end in ends)
        inner = -street.half_width + .12
        yield _along(kerb, 'line', start, end, inner - .06, inner + .06, 0.0)
        edge = street.lanes * LANE - street.half_width
        yield _along(kerb, 'marking', start, end, edge - .06, edge + .06, 0.0)
        for lane in range(1, street.lanes):
            depth = lane * LANE - street.half_width
            for u in np.arange(start, end - 3, 9.0).tolist():
                yield _along(kerb, 'marking', u, u + 3, depth - .06, depth + .06, 0.0)


def _corners(street: Street, start: float, end: float, right: float,
             left: float) -> tuple[tuple[float, float], ...]:
    """Counter-clockwise corners of a rectangle given by ranges along and across a street."""
    return tuple(street.point(u, v) for u, v in ((start, right), (end, right), (end, left), (start, left)))


def _along(kerb: Kerb, material: str, start: float, end: float, near: float, far: float, z: float) -> Patch:
    """A strip beside a kerb; near, far: depths."""
    right, left = sorted(kerb.side * (kerb.street.half_width + depth) for depth in (near, far))
    return Patch(material, _corners(kerb.street, start, end, right, left), z)
