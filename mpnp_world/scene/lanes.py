"""Lanes as paths by arc length, connected in junctions."""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mpnp_world.scene.streets import CROSSWALK_FAR, STOP_BACK, Crosswalk, Junction, Street, StreetMap

SPACING = 0.5
"""Distance of the points of a curved path, metres."""
TURN_SPEED = {'left': 6.5, 'right': 5.0, 'straight': math.inf, 'lane': math.inf}
"""Speed limits by kind of lane, metres/second."""
CROSSWALK_STOP = CROSSWALK_FAR + .5
"""Stop for people on a crosswalk, metres before the end of a way through a junction."""

Pose = tuple[float, float, float]


class LanePath:
    """A path on the ground by arc length; extended straight beyond its ends."""

    def __init__(self, points: list[tuple[float, float]]) -> None:
        """Points: at equal distances, or two for a straight path."""
        self.starts = points[:-1]
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(points, points[1:], strict=False)]
        self.step = math.hypot(*steps[0])
        self.length = self.step * len(steps)
        self.yaws = np.unwrap([math.atan2(y, x) for x, y in steps]).tolist()
        self.headings = [(math.cos(yaw), math.sin(yaw)) for yaw in self.yaws]

    def at(self, s: float) -> Pose:
        """The pose (x, y, yaw) after s metres."""
        index = min(max(int(s // self.step), 0), len(self.starts) - 1)
        x, y = self.starts[index]
        cosine, sine = self.headings[index]
        along = s - index * self.step
        yaw, share = self.yaws[index], along / self.step - .5
        neighbour = index + (1 if share > 0 else -1)
        if 0 <= neighbour < len(self.yaws):  # the heading changes continuously from step to step
            yaw += (self.yaws[neighbour] - yaw) * abs(share)
        return x + cosine * along, y + sine * along, yaw


def curve(start: Pose, end: Pose) -> LanePath:
    """A path of a straight line, an arc and a straight line, between poses at a right angle."""
    (x0, y0, yaw0), (x1, y1, yaw1) = start, end
    ahead = (x1 - x0) * math.cos(yaw0) + (y1 - y0) * math.sin(yaw0)
    aside = (x1 - x0) * math.cos(yaw1) + (y1 - y0) * math.sin(yaw1)
    radius = min(ahead, aside)
    turn = math.copysign(1.0, math.sin(yaw1 - yaw0))
    length = ahead + aside - radius * (2 - math.pi / 2)
    count = round(length / SPACING)
    points = [(x0, y0)]
    for index in range(count):
        angle = ((index + .5) * length / count - (ahead - radius)) / radius
        yaw = yaw0 + turn * min(max(angle, 0.0), math.pi / 2)
        x, y = points[-1]
        points.append((x + math.cos(yaw) * length / count, y + math.sin(yaw) * length / count))
    return LanePath(points)


@dataclass(eq=False)
class Lane:
    """A stretch of lane up to a stop line, or a way through a junction.

    kind: lane, straight, left, right.  junction: at the end of a lane, or crossed by a way.  successors: next
    lanes.  crosswalks: (s of the stop, crosswalk).  yields_to: lanes with the right of way.
    """

    index: int
    path: LanePath
    street: Street
    way: int
    number: int
    kind: str = 'lane'
    junction: Junction | None = None
    successors: list[Lane] = field(default_factory=list)
    crosswalks: list[tuple[float, Crosswalk]] = field(default_factory=list)
    yields_to: list[Lane] = field(default_factory=list)
    is_entry: bool = False

    @property
    def bicycles(self) -> bool:
        """Whether this is a bicycle lane."""
        return self.number == self.street.lanes

    @property
    def length(self) -> float:
        """The length, metres."""
        return self.path.length


class LaneNetwork:
    """The lanes of a map and their connections."""

    def __init__(self, streets: StreetMap) -> None:
        self.lanes: list[Lane] = []
        self._map = streets
        self._ways: list[list[Lane]] = [[] for _ in streets.junctions]
        self._arriving: dict[tuple[int, Street, int], list[Lane]] = {}
        self._leaving: dict[tuple[int, Street, int], list[Lane]] = {}
        for street in streets.streets:
            for way in (1, -1):
                for number in range(street.lanes + 1):
                    self._cut(street, way, number)
        for junction in streets.junctions:
            for street in junction.streets:
                for way in (1, -1):
                    self._join(junction, street, way)
        for lane in self.lanes:
            if lane.kind in ('left', 'right'):
                lane.yields_to = self._going_first(lane)

    def ways(self, junction: Junction) -> list[Lane]:
        """All ways through a junction."""
        return self._ways[junction.index]

    def entries(self) -> list[Lane]:
        """The lanes that enter the map."""
        return [lane for lane in self.lanes if lane.is_entry]

    def _add(self, path: LanePath, street: Street, way: int, number: int, kind: str = 'lane',
             junction: Junction | None = None) -> Lane:
        lane = Lane(len(self.lanes), path, street, way, number, kind, junction)
        self.lanes.append(lane)
        return lane

    def _cut(self, street: Street, way: int, number: int) -> None:
        """Add one lane of a street, cut at the junctions."""
        v, u = street.lane_offset(way, number), street.start if way > 0 else street.end
        before: Junction | None = None
        for junction in [*self._map.junctions_on(street)[::way], None]:
            edge = (street.end if way > 0 else street.start) if junction is None else \
                junction.centre(street) - way * (junction.half(street) + STOP_BACK)
            lane = self._add(LanePath([street.point(u, v), street.point(edge, v)]), street, way, number,
                             junction=junction)
            lane.crosswalks = [((item.u - u) * way - 3.0, item) for item in self._map.crosswalks
                               if item.street is street and item.junction is None
                               and 0 < (item.u - u) * way < lane.length]
            if before is None:
                lane.is_entry = True
            else:
                self._leaving.setdefault((before.index, street, way), []).append(lane)
            if junction is not None:
                self._arriving.setdefault((junction.index, street, way), []).append(lane)
                u = edge + way * 2 * (junction.half(street) + STOP_BACK)
            before = junction

    def _join(self, junction: Junction, street: Street, way: int) -> None:
        """Add the ways through a junction from one of its arms."""
        *lanes, strip = self._arriving[junction.index, street, way]
        ahead = self._leaving[junction.index, street, way]
        for lane, onward in zip([*lanes, strip], ahead, strict=True):
            self._through(lane, onward, 'straight', junction)
        other = junction.other(street)
        left_way = 1 if (street.along_x == (way > 0)) else -1
        self._through(lanes[0], self._leaving[junction.index, other, left_way][0], 'left', junction)
        self._through(lanes[-1], self._leaving[junction.index, other, -left_way][-2], 'right', junction)

    def _through(self, lane: Lane, onward: Lane, kind: str, junction: Junction) -> None:
        start, end = lane.path.at(lane.length), onward.path.at(0.0)
        path = LanePath([start[:2], end[:2]]) if kind == 'straight' else curve(start, end)
        through = self._add(path, lane.street, lane.way, lane.number, kind, junction)
        leaves = next(item for item in self._map.crosswalks
                      if item.junction is junction and item.street is onward.street
                      and (item.u - junction.centre(onward.street)) * onward.way > 0)
        enters = next(item for item in self._map.crosswalks
                      if item.junction is junction and item.street is lane.street
                      and (item.u - junction.centre(lane.street)) * lane.way < 0)
        if all(item is not enters for _, item in lane.crosswalks):
            lane.crosswalks.append((lane.length, enters))
        self._ways[junction.index].append(through)
        through.crosswalks = [(through.length - CROSSWALK_STOP - .4, leaves)]
        lane.successors.append(through)
        through.successors.append(onward)

    def _going_first(self, turn: Lane) -> list[Lane]:
        """The lanes that a turn yields to: oncoming traffic (left), straight bicycles (right)."""
        way, onto = (-turn.way, range(turn.street.lanes + 1)) if turn.kind == 'left' else \
            (turn.way, (turn.street.lanes,))
        assert turn.junction is not None  # a turn crosses one
        arriving = [lane for lane in self._arriving[turn.junction.index, turn.street, way]
                    if lane.number in onto]
        return arriving + [through for lane in arriving for through in lane.successors
                           if through.kind != 'left']
