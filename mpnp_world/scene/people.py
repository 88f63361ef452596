"""People on foot: walking, waiting, crossing streets, standing and sitting on benches.

Every person follows a random track of places and times, so that positions depend on time only.
"""
from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_world.scene.boxes import Ground
from mpnp_world.scene.catalogue import BODIES, Size, draw_colour, draw_size
from mpnp_world.scene.lanes import Pose
from mpnp_world.scene.scenery import Bench
from mpnp_world.scene.state import Colour, WorldObject
from mpnp_world.scene.streets import CURB_HEIGHT, SIDEWALK, Crosswalk, Kerb, SignalCycle, StreetMap

HORIZON = 240.0
"""End of all tracks, seconds; people stand afterwards."""
PAST = 45.0
"""Beginning of tracks before the scene, seconds."""
STRIDE = 4.2
"""Radians of gait per metre."""
WALKED = (2.6, 3.7)
"""Distance of walkers from the kerb, metres; standing people are outside of it."""
SEATED = (0.85, 0.55, 1.3)
NOTICE = 2.5
"""Seconds before a person enters a crosswalk without a light when drivers begin to stop."""


@dataclass(frozen=True)
class Track:
    """A polyline of places [(x, y)] at times [seconds].  faces: yaw while standing."""

    times: Sequence[float]
    places: Sequence[tuple[float, float]]
    faces: float

    def at(self, time: float) -> tuple[Pose, float, float]:
        """Pose, speed in metres/second, and walked distance at a time."""
        index = bisect_right(self.times, time)
        if index in (0, len(self.times)):
            return (*self.places[-1 if index else 0], self.faces), 0.0, 0.0
        (x0, y0), (x1, y1) = self.places[index - 1], self.places[index]
        before, span = time - self.times[index - 1], self.times[index] - self.times[index - 1]
        length = math.hypot(x1 - x0, y1 - y0)
        if length < .05:
            return (x0, y0, self.faces), 0.0, 0.0
        share = before / span
        pose = (x0 + (x1 - x0) * share, y0 + (y1 - y0) * share, math.atan2(y1 - y0, x1 - x0))
        return pose, length / span, length * share


@dataclass(frozen=True)
class Person:
    """A person on foot.  seated: on a bench."""

    identity: int
    kind: str
    size: Size
    colour: Colour
    body: int
    track: Track
    seated: bool = False
    z: float = CURB_HEIGHT
    road: tuple[tuple[float, float], ...] = ()

    def at(self, time: float) -> WorldObject:
        """The person at a time."""
        (x, y, yaw), speed, walked = self.track.at(time)
        attribute = 'moving' if speed > 0 else 'not standing' if self.seated else 'standing'
        z = 0.0 if any(begin <= time <= end for begin, end in self.road) else self.z
        return WorldObject(self.identity, self.kind, attribute, x, y, yaw, self.size, speed, z, self.colour,
                           walked * STRIDE % math.tau, self.body)


class Crossings:
    """Times at which people use crosswalks."""

    def __init__(self, uses: Iterable[tuple[Crosswalk, float, float]]) -> None:
        """Uses: crosswalk, and times of entering and leaving the road, seconds."""
        intervals: dict[int, list[tuple[float, float]]] = {}
        for crosswalk, begin, end in uses:
            notice = NOTICE if crosswalk.junction is None else .5
            intervals.setdefault(crosswalk.index, []).append((begin - notice, end))
        self._times: dict[int, list[float]] = {}
        """Begin, end, begin, end, ... of the union of the intervals, by crosswalk."""
        for index, spans in intervals.items():
            edges = self._times[index] = []
            for begin, end in sorted(spans):
                if edges and begin <= edges[-1]:
                    edges[-1] = max(edges[-1], end)
                else:
                    edges += [begin, end]

    def is_used(self, crosswalk: int, time: float) -> bool:
        """Whether drivers have to wait at a crosswalk."""
        return bisect_right(self._times.get(crosswalk, ()), time) % 2 == 1


class Crowd:
    """Draws the people of a scene.  people, uses: drawn so far."""

    def __init__(self, rng: np.random.Generator, streets: StreetMap, cycles: Sequence[SignalCycle],
                 ground: Ground, identities: Iterable[int]) -> None:
        self._rng, self._map, self._cycles, self._ground = rng, streets, cycles, ground
        self._identities = iter(identities)
        self.people: list[Person] = []
        self.uses: list[tuple[Crosswalk, float, float]] = []

    def fill(self, benches: Iterable[Bench]) -> None:
        """Draw all people; their density varies by sidewalk."""
        busy = float(self._rng.uniform(.05, 1.0))
        for kerb in self._map.kerbs():
            length = kerb.end - kerb.start
            rate = busy * length * float(self._rng.gamma(1.2, .022))
            for _ in range(self._rng.poisson(rate)):
                self.walker(kerb)
            for _ in range(self._rng.poisson(rate * .25)):
                self.group(kerb)
        for crosswalk in self._map.crosswalks:
            for _ in range(self._rng.poisson(busy * .9)):
                self.crosser(crosswalk)
        for bench in benches:
            for aside in (-.4, .4):
                if self._rng.random() < .3:
                    self.sitter(bench, aside)

    def add(self, track: Track, seated: bool = False, z: float = CURB_HEIGHT, kind: str | None = None,
            road: tuple[tuple[float, float], ...] = ()) -> bool:
        """Add a person on a track if the place is free when the scene begins; returns whether added."""
        rng = self._rng
        kind = kind or ('child' if rng.random() < .1 else 'pedestrian')
        size = SEATED if seated else draw_size(rng, kind)
        colour, body = draw_colour(rng, kind), int(rng.integers(BODIES))
        x, y, yaw = track.at(0.0)[0]
        if not seated and not self._ground.take((x, y, yaw, size[0] + .1, size[1] + .1)):
            return False
        self.people.append(Person(next(self._identities), kind, size, colour, body, track, seated, z, road))
        return True

    def walker(self, kerb: Kerb) -> None:
        """Add a person who walks up and down a sidewalk."""
        rng = self._rng
        depth, speed = float(rng.uniform(*WALKED)), float(rng.uniform(.8, 1.7))
        low, high = kerb.start + 1.0, kerb.end - 1.0
        ends = [kerb.point(low, depth), kerb.point(high, depth)]
        if rng.random() < .5:
            ends.reverse()
        lap = (high - low) / speed
        begin = -float(rng.uniform(0, lap))
        count = math.ceil((HORIZON - begin) / lap) + 1
        self.add(Track([begin + lap * index for index in range(count)],
                       [ends[index % 2] for index in range(count)], kerb.outward + math.pi))

    def group(self, kerb: Kerb) -> None:
        """Add one to four people who stand together."""
        rng = self._rng
        u, depth = float(rng.uniform(kerb.start + 1, kerb.end - 1)), float(rng.choice([1.3, 4.3]))
        for _ in range(int(rng.choice([1, 1, 2, 2, 3, 4]))):
            at, away = u + float(rng.uniform(-1.3, 1.3)), depth + float(rng.uniform(-.6, .6))
            self.stander(kerb.point(at, min(away, SIDEWALK - .4)), float(rng.uniform(-math.pi, math.pi)))

    def stander(self, place: tuple[float, float], yaw: float, z: float = CURB_HEIGHT) -> None:
        """Add a person who stands."""
        self.add(Track([0.0], [place], yaw), z=z)

    def sitter(self, bench: Bench, aside: float) -> None:
        """Add a person on a bench, `aside` metres from its middle."""
        yaw = bench.yaw
        place = bench.x - aside * math.sin(yaw), bench.y + aside * math.cos(yaw)
        self.add(Track([0.0], [place], yaw), seated=True, kind='pedestrian')

    def crosser(self, crosswalk: Crosswalk) -> None:
        """Add a person who crosses a street, walks on, returns and crosses again."""
        rng, street, junction = self._rng, crosswalk.street, crosswalk.junction
        u, speed = crosswalk.u + float(rng.uniform(-1.2, 1.2)), float(rng.uniform(1.0, 1.7))
        side, edge, wait = int(rng.choice([-1, 1])), street.half_width, float(rng.uniform(.7, 1.6))
        time = float(rng.uniform(-PAST, 10))
        times, places, uses = [time], [street.point(u, side * (edge + wait))], []
        while time < HORIZON:
            if junction is None:  # without a light people wait for a while
                begin = time + float(rng.uniform(1, 12))
            else:
                begin = self._cycles[junction.index].next_green(not street.along_x, time)
            begin += float(rng.exponential(.8))
            end = begin + 2 * (edge + wait) / speed
            uses.append((begin + (wait - .4) / speed, end - (wait - .4) / speed))
            side = -side
            opposite = street.point(u, side * (edge + wait))
            away = float(rng.uniform(5, 25))
            if junction is None:
                away *= int(rng.choice([-1, 1]))
            else:
                away = math.copysign(away, crosswalk.u - junction.centre(street))
            aside = street.point(u + away, side * (edge + float(rng.uniform(*WALKED))))
            walk = math.dist(opposite, aside) / speed
            stay = float(rng.uniform(0, 12))
            times += [begin, end, end + walk, end + walk + stay, end + 2 * walk + stay]
            places += [places[-1], opposite, aside, aside, opposite]
            time = times[-1]
        if self.add(Track(times, places, street.yaw(1) - side * math.pi / 2), road=tuple(uses)):
            self.uses += [(crosswalk, *use) for use in uses]
