"""Annotated static objects along streets: parked vehicles, cycles on sidewalks, work zones."""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mpnp_world.scene.boxes import Ground
from mpnp_world.scene.catalogue import BODIES, CYCLES, KINDS, PARKED, choose, draw_colour, draw_size
from mpnp_world.scene.scenery import Lot
from mpnp_world.scene.state import WorldObject
from mpnp_world.scene.streets import CURB_HEIGHT, PARKING, SIDEWALK, Kerb, StreetMap

CORNER = 8.0
"""Metres from a junction's edge without parked vehicles."""
STOPPED, STOPPED_BUSES = 0.06, 0.85
"""Share of vehicles at the kerb that are stopped instead of parked."""
MIXTURES: Sequence[Mapping[str, float]] = (
    {}, {}, {}, {'motorcycle': 6}, {'bicycle': 6}, {'box_truck': 6, 'trailer': 4, 'pickup': 4}, {'bus': 5})
"""Alternative frequencies of kinds in a row of parked vehicles."""


class Roadside:
    """Draws objects at the kerbs.  things: drawn so far."""

    def __init__(self, rng: np.random.Generator, streets: StreetMap, ground: Ground,
                 identities: Iterable[int]) -> None:
        self._rng, self._map, self._ground = rng, streets, ground
        self._identities = iter(identities)
        self.things: list[WorldObject] = []

    def add(self, kind: str, place: tuple[float, float], yaw: float, attribute: str | None = None,
            z: float = 0.0) -> bool:
        """Add an object if its place is free; returns whether it was."""
        rng = self._rng
        size, colour = draw_size(rng, kind), draw_colour(rng, kind)
        if not self._ground.take((*place, yaw, size[0] + .2, size[1] + .1)):
            return False
        self.things.append(WorldObject(next(self._identities), kind, attribute, *place, yaw, size, 0.0, z,
                                       colour, 0.0, int(rng.integers(BODIES))))
        return True

    def fill(self, lots: Iterable[Lot]) -> None:
        """Draw work zones, then parked rows, cycles on the sidewalks, and parking lots."""
        kerbs = self._map.kerbs()
        works = float(self._rng.choice([.15, .4, .65, .95]))
        self._parked = float(self._rng.uniform(.05, .95))
        for kerb in kerbs:
            if kerb.end - kerb.start > 38 and self._rng.random() < works:
                self._work_zone(kerb)
        for kerb in kerbs:
            self._row(kerb)
            self._cycles(kerb)
        for lot in lots:
            if lot.use == 'parking':
                self._parking_lot(lot)

    def _row(self, kerb: Kerb) -> None:
        """Draw a row of vehicles parked along a kerb."""
        rng = self._rng
        taken = self._parked * float(rng.choice([0.05, .2, .45, .85]))
        mixture = {**PARKED, **MIXTURES[int(rng.integers(len(MIXTURES)))]}
        u = kerb.start + CORNER
        while u < kerb.end - CORNER:
            kind = choose(rng, mixture)
            length, width = KINDS[kind].size[:2]
            end = u + length * 1.1
            if rng.random() < taken and end < kerb.end - CORNER and not self._on_crosswalk(kerb, u, end):
                yaw = kerb.yaw + float(rng.normal(0, .02)) + (math.pi if rng.random() < .04 else 0)
                place = kerb.point((u + end) / 2, -.2 - width * .55 + float(rng.uniform(-.05, .05)))
                self.add(kind, place, yaw, self._attribute(kind))
            u = end + float(rng.uniform(.5, 2.5))

    def _attribute(self, kind: str) -> str:
        if kind in CYCLES:
            return 'without rider'
        return 'stopped' if self._rng.random() < (STOPPED_BUSES if kind == 'bus' else STOPPED) else 'parked'

    def _on_crosswalk(self, kerb: Kerb, start: float, end: float) -> bool:
        return any(start - 4 < crosswalk.u < end + 4 for crosswalk in self._map.crosswalks
                   if crosswalk.street is kerb.street)

    def _cycles(self, kerb: Kerb) -> None:
        """Draw a rack of bicycles and some motorcycles on the sidewalk."""
        rng = self._rng
        for _ in range(rng.poisson(.0025 * (kerb.end - kerb.start))):
            u = float(rng.uniform(kerb.start + 6, kerb.end - 6))
            kind = 'bicycle' if rng.random() < .7 else 'motorcycle'
            yaw = kerb.outward + float(rng.normal(0, .1))
            for index in range(int(rng.choice([1, 1, 2, 3, 4, 6]))):
                self.add(kind, kerb.point(u + index * 1.1, 1.35), yaw, 'without rider', CURB_HEIGHT)

    def _parking_lot(self, lot: Lot) -> None:
        """Draw two rows of vehicles parked across."""
        rng = self._rng
        taken = self._parked * float(rng.uniform(.1, .8))
        mixture = {**PARKED, **MIXTURES[int(rng.integers(len(MIXTURES)))]}
        for depth, yaw in ((5.5, lot.kerb.outward), (18.0, lot.kerb.outward + math.pi)):
            u = lot.start + 1.8
            while u < lot.end - 1.8:
                kind = choose(rng, mixture)
                if rng.random() < taken:
                    place = lot.kerb.point(u, SIDEWALK + depth + float(rng.uniform(-.3, .3)))
                    self.add(kind, place, yaw + float(rng.normal(0, .02)),
                             'without rider' if kind in CYCLES else 'parked')
                u += 2.9

    def _work_zone(self, kerb: Kerb) -> None:
        """Draw a fenced part of the parking strip, often with machines."""
        rng = self._rng
        length = float(rng.uniform(10, min(34.0, kerb.end - kerb.start - 2 * CORNER)))
        start = float(rng.uniform(kerb.start + CORNER, kerb.end - CORNER - length))
        if self._on_crosswalk(kerb, start, start + length):
            return
        u = start + 6.5
        while u < start + length - 5:
            kind = choose(rng, {'excavator': 8, 'trailer': 1.2, 'box_truck': 1.0, 'pickup': .6})
            half = KINDS[kind].size[0] / 2
            yaw = kerb.yaw + float(rng.normal(0, .02))
            if u + 2 * half < start + length - 1 and self.add(kind, kerb.point(u + half, -.95), yaw,
                                                              self._attribute(kind)):
                u += 2 * half
            u += float(rng.uniform(1, 9))
        # Fence the side of the traffic and the end that faces it.
        kinds = rng.choice(['cone', 'barrier', 'mixed'], p=[.5, .2, .3])
        step = float(rng.uniform(2.2, 5.5)) if kinds == 'cone' else float(rng.uniform(2.8, 4.5))
        for index, u in enumerate(np.arange(start, start + length, step).tolist()):
            kind = 'cone' if kinds == 'cone' or (kinds == 'mixed' and index % 2) else 'barrier'
            self.add(kind, kerb.point(u, -PARKING + .3), kerb.yaw + math.pi / 2)
        first = start if kerb.side < 0 else start + length
        for depth in (-.9, -2.2):
            self.add('cone' if kinds == 'cone' else 'barrier', kerb.point(first, depth), kerb.yaw)
        if kerb.street is self._map.main or rng.random() < .5:  # barriers towards the sidewalk, too
            for u in np.arange(start + 2, start + length - 2, 2.9).tolist()[:int(rng.integers(0, 9))]:
                self.add('barrier', kerb.point(u, .45), kerb.yaw + math.pi / 2, z=CURB_HEIGHT)
