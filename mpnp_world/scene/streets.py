"""The map: a random main street, its cross streets, and their traffic lights.

Coordinates of a street are (u, v): u metres along it, v metres to the left of its middle line.  Traffic keeps
right.  The cross section from the middle line outwards: lanes, bicycle lane, parking strip, kerb, sidewalk,
lots with buildings.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LANE = 3.5
BIKE_STRIP = 1.3
PARKING = 3.2
SIDEWALK = 5.0
"""Widths, metres."""
CURB_HEIGHT = 0.15
"""Height of sidewalks above the road, metres."""
CROSSWALK_NEAR, CROSSWALK_FAR = 0.8, 4.3
"""Range of the stripes of a crosswalk from the edge of a junction, metres."""
STOP_BACK = 5.5
"""Metres from the edge of a junction to the stop line."""
REACH = 145.0
"""Metres from the outermost starting place of the ego vehicle to the end of the map."""

YELLOW = 3.0
ALL_RED = 1.5
"""Duration of red for all, seconds."""


@dataclass(frozen=True)
class Street:
    """A straight street.

    along_x: direction is +x, otherwise +y.  position: of the middle line on the other axis.  start, end:
    range of u.  lanes: per direction.
    """

    along_x: bool
    position: float
    start: float
    end: float
    lanes: int

    @property
    def half_width(self) -> float:
        """Metres from the middle line to the kerb."""
        return self.lanes * LANE + BIKE_STRIP + PARKING

    def point(self, u: float, v: float) -> tuple[float, float]:
        """(x, y) of a place u metres along and v metres to the left."""
        return (u, self.position + v) if self.along_x else (self.position - v, u)

    def yaw(self, way: int) -> float:
        """Heading of traffic.  way: 1 towards larger u, -1 towards smaller u."""
        ahead = 0.0 if self.along_x else math.pi / 2
        return ahead if way > 0 else ahead - math.pi

    def lane_offset(self, way: int, lane: int) -> float:
        """V of the middle of a lane; lane 0 is the innermost, lane `lanes` the bicycle lane."""
        across = self.lanes * LANE + BIKE_STRIP / 2 if lane == self.lanes else (lane + .5) * LANE
        return -way * across


@dataclass(frozen=True)
class Junction:
    """A junction of a cross street with the main street.  index: its number, also of its traffic light."""

    index: int
    main: Street
    cross: Street

    @property
    def streets(self) -> tuple[Street, Street]:
        """The main street and the cross street."""
        return self.main, self.cross

    def centre(self, street: Street) -> float:
        """U of the junction's middle on one of its streets."""
        return self.other(street).position

    def half(self, street: Street) -> float:
        """Metres from the middle to the junction's edge, along one of its streets."""
        return self.other(street).half_width

    def other(self, street: Street) -> Street:
        """The street that crosses `street` here."""
        return self.cross if street is self.main else self.main


@dataclass(frozen=True)
class Crosswalk:
    """A crosswalk of a street around u.  junction: of its traffic light; None without."""

    index: int
    street: Street
    u: float
    junction: Junction | None


@dataclass(frozen=True)
class Kerb:
    """One side of a street between junctions or ends of the map.

    side: 1 to the left of +u, -1 to the right.  start, end: u at the junctions' edges.
    """

    street: Street
    side: int
    start: float
    end: float

    @property
    def yaw(self) -> float:
        """Heading of the traffic on this side."""
        return self.street.yaw(-self.side)

    def point(self, u: float, depth: float) -> tuple[float, float]:
        """(x, y) of a place `depth` metres outside the kerb; negative depths are on the road."""
        return self.street.point(u, self.side * (self.street.half_width + depth))

    @property
    def outward(self) -> float:
        """Heading from the road to the lots."""
        return self.street.yaw(1) + self.side * math.pi / 2


@dataclass(frozen=True, eq=False)
class StreetMap:
    """Streets, junctions and crosswalks."""

    main: Street
    crosses: tuple[Street, ...]
    junctions: tuple[Junction, ...]
    crosswalks: tuple[Crosswalk, ...]

    @property
    def streets(self) -> tuple[Street, ...]:
        """The main street first."""
        return self.main, *self.crosses

    def junctions_on(self, street: Street) -> list[Junction]:
        """The junctions of a street, in order of u."""
        return [junction for junction in self.junctions if street in junction.streets]

    def kerbs(self) -> list[Kerb]:
        """Both sides of every street, cut at the junctions."""
        kerbs = []
        for street in self.streets:
            cuts = [street.start]
            for junction in self.junctions_on(street):
                centre, half = junction.centre(street), junction.half(street)
                cuts += [centre - half, centre + half]
            cuts.append(street.end)
            kerbs += [Kerb(street, side, first, last) for side in (-1, 1)
                      for first, last in zip(cuts[::2], cuts[1::2], strict=True)]
        return kerbs


def draw_map(rng: np.random.Generator) -> StreetMap:
    """A street along x through y = 0 with two to four streets across it, every 60 to 125 m."""
    centres = [float(rng.uniform(-75, -10))]
    while centres[-1] < 90:
        centres.append(centres[-1] + float(rng.uniform(60, 125)))
    main = Street(True, 0.0, centres[0] - REACH, centres[-1] + REACH, int(rng.choice([1, 2, 2, 2])))
    crosses = tuple(Street(False, centre, -REACH, REACH, int(rng.choice([1, 1, 2]))) for centre in centres)
    junctions = tuple(Junction(index, main, cross) for index, cross in enumerate(crosses))
    middle = (CROSSWALK_NEAR + CROSSWALK_FAR) / 2
    places: list[tuple[Street, float, Junction | None]] = [
        (street, junction.centre(street) + side * (junction.half(street) + middle), junction)
        for junction in junctions for street in junction.streets for side in (-1, 1)]
    for before, after in zip(junctions, junctions[1:], strict=False):
        low, high = (junction.centre(main) for junction in (before, after))
        if high - low > 85 and rng.random() < .5:
            places.append((main, (low + high) / 2 + float(rng.uniform(-6, 6)), None))
    crosswalks = tuple(Crosswalk(index, *place) for index, place in enumerate(places))
    return StreetMap(main, crosses, junctions, crosswalks)


@dataclass(frozen=True)
class SignalCycle:
    """The cycle of the lights of one junction: a phase for the main street, one for the cross street.

    greens: seconds of green for the main street, for the cross street.  offset: seconds into the cycle at
    time 0.
    """

    greens: tuple[float, float]
    offset: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> SignalCycle:
        """A random cycle with a random offset."""
        greens = float(rng.uniform(10, 20)), float(rng.uniform(8, 14))
        return cls(greens, float(rng.uniform(0, sum(greens) + 2 * (YELLOW + ALL_RED))))

    @property
    def period(self) -> float:
        """Duration of the cycle, seconds."""
        return sum(self.greens) + 2 * (YELLOW + ALL_RED)

    def colour(self, along_x: bool, time: float) -> str:
        """The colour for the main street (along_x) or for the cross street."""
        since = self._since_green(along_x, time)
        green = self.greens[0 if along_x else 1]
        if since < green:
            return 'green'
        return 'yellow' if since < green + YELLOW else 'red'

    def next_green(self, along_x: bool, time: float) -> float:
        """The first time at or after `time` at which the light of that street turns green."""
        since = self._since_green(along_x, time)
        return time if since == 0 else time + self.period - since

    def _since_green(self, along_x: bool, time: float) -> float:
        start = 0.0 if along_x else self.greens[0] + YELLOW + ALL_RED
        return (time + self.offset - start) % self.period
