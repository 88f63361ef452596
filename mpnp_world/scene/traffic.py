"""Driving vehicles: Intelligent Driver Model along lanes, traffic lights and right of way.

The model is that of Treiber, Hennecke and Helbing, Phys. Rev. E 62 (2000) 1805, eq. 3: acceleration
a (1 - (v / v0)^4 - (s* / s)^2) with the desired gap s* = s0 + v T + v dv / (2 sqrt(a b)).
Reasons to stop (lights, people on crosswalks, right of way) are standing leaders.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mpnp_world.scene.catalogue import Size
from mpnp_world.scene.lanes import TURN_SPEED, Lane, LaneNetwork, Pose
from mpnp_world.scene.people import Crossings
from mpnp_world.scene.state import Colour
from mpnp_world.scene.streets import SignalCycle

ACCELERATION, COMFORTABLE_BRAKING, HARDEST_BRAKING = 1.6, 2.0, 7.0
"""Metres/second^2."""
HEADWAY, STANDING_GAP = 1.2, 2.0
"""Seconds, metres."""
STOPPING_GAP = 0.6
"""Gap to a stop line, metres."""
LOOKAHEAD = 60.0
GAP_ACCEPTED = 4.5
"""Accepted time gap to oncoming traffic for left turns, seconds."""
CLEAR = 10.0
"""Metres into a turn after which a vehicle is out of the way of following traffic."""
REMAINING = 60.0
"""Distance from the end of the map at which a vehicle with `stays` stops, metres."""
WHEEL_RADIUS = 0.33


@dataclass(frozen=True)
class Body:
    """A box of a vehicle.

    behind: metres from the front of the vehicle to the middle of the box.  variant: number of the body.
    """

    identity: int
    kind: str
    size: Size
    colour: Colour
    behind: float
    variant: int = 0


@dataclass(eq=False)
class Vehicle:
    """A driving vehicle.

    s: position of the front along lane route[leg], metres.  length: from front to rear end, metres.
    desired: speed on a free straight road, metres/second.  horns: (begin, end) seconds.
    stays: whether it stops before the end of the map instead of leaving it.
    """

    bodies: tuple[Body, ...]
    length: float
    route: Sequence[Lane]
    s: float
    speed: float
    desired: float
    leg: int = 0
    acceleration: float = 0.0
    travelled: float = 0.0
    siren: bool = False
    horns: tuple[float, float] = (0.0, 0.0)
    stays: bool = False

    @property
    def lane(self) -> Lane:
        """The lane of its front."""
        return self.route[self.leg]

    @property
    def following(self) -> Lane | None:
        """The next lane of the route; None at its end."""
        return self.route[self.leg + 1] if self.leg + 1 < len(self.route) else None

    def move(self, seconds: float) -> None:
        """Move with constant acceleration until it stands; independent of the division into steps."""
        speed = self.speed + self.acceleration * seconds
        if speed < 0:
            speed, seconds = 0.0, -self.speed / self.acceleration
        distance = (self.speed + speed) / 2 * seconds
        self.s += distance
        self.travelled += distance
        self.speed = speed

    def pose(self, behind: float) -> Pose:
        """The pose (x, y, yaw) of a point `behind` metres from the front, along the driven path."""
        leg, s = self.leg, self.s - behind
        while s < 0 and leg > 0:
            leg -= 1
            s += self.route[leg].length
        return self.route[leg].path.at(s)


@dataclass(eq=False)
class Traffic:
    """All vehicles on a network.  queues: vehicles by index of the lane, the foremost first."""

    network: LaneNetwork
    cycles: Sequence[SignalCycle]
    crossings: Crossings
    queues: list[list[Vehicle]] = field(init=False)
    departed: dict[int, Vehicle] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.queues = [[] for _ in self.network.lanes]

    def vehicles(self) -> list[Vehicle]:
        """All vehicles, lane by lane."""
        return [vehicle for queue in self.queues for vehicle in queue]

    def add(self, vehicle: Vehicle) -> None:
        """Add a vehicle to its lane."""
        queue = self.queues[vehicle.lane.index]
        queue.append(vehicle)
        queue.sort(key=lambda item: -item.s)

    def decide(self, time: float) -> None:
        """Set the accelerations of all vehicles."""
        for queue in self.queues:
            leader = None
            for vehicle in queue:
                vehicle.acceleration = self._acceleration(vehicle, leader, time)
                leader = vehicle

    def move(self, seconds: float) -> None:
        """Move all vehicles; removes those at the end of the map."""
        for vehicle in self.vehicles():
            vehicle.move(seconds)
            lane = vehicle.lane
            if vehicle.s < lane.length:
                continue
            self.queues[lane.index].remove(vehicle)
            if vehicle.following is not None:
                self.departed[lane.index] = vehicle
                vehicle.s -= lane.length
                vehicle.leg += 1
                self.queues[vehicle.lane.index].append(vehicle)

    def _acceleration(self, vehicle: Vehicle, leader: Vehicle | None, time: float) -> float:
        """The lowest acceleration that the leader, a stop, or a turn ahead asks for."""
        lane = vehicle.lane
        wished = min(vehicle.desired, TURN_SPEED[lane.kind])
        if leader is not None:
            gap, speed = leader.s - leader.length - vehicle.s, leader.speed
        else:
            gap, speed = self._beyond(vehicle)
        result = follow(vehicle.speed, wished, gap, speed)
        stop = self._stop(vehicle, leader is None, time)
        if stop < LOOKAHEAD:
            result = min(result, follow(vehicle.speed, wished, stop + STANDING_GAP - STOPPING_GAP, 0.0))
        turn = vehicle.following
        if turn is not None and turn.kind in ('left', 'right'):
            limit, distance = TURN_SPEED[turn.kind], lane.length - vehicle.s
            needed = (limit * limit - vehicle.speed * vehicle.speed) / (2 * max(distance, .5))
            if vehicle.speed > limit and needed < -.6 * COMFORTABLE_BRAKING:
                result = min(result, needed)
        return max(-HARDEST_BRAKING, result)

    def _beyond(self, vehicle: Vehicle) -> tuple[float, float]:
        """Gap and speed of the leader on later lanes."""
        gap, ahead = math.inf, math.inf
        distance = vehicle.lane.length - vehicle.s
        leaving = self.departed.get(vehicle.lane.index)
        if leaving is not None and leaving.route is not vehicle.route:
            tail = leaving.s - leaving.length
            if leaving.leg and leaving.route[leaving.leg - 1] is vehicle.lane and tail <= CLEAR:
                gap, ahead = distance + tail, leaving.speed  # its rear is still on this lane
        for lane in vehicle.route[vehicle.leg + 1:vehicle.leg + 3]:
            if distance > LOOKAHEAD:
                break
            queue = self.queues[lane.index]
            if queue:
                nearer = distance + queue[-1].s - queue[-1].length
                return (nearer, queue[-1].speed) if nearer < gap else (gap, ahead)
            distance += lane.length
        return gap, ahead

    def _stop(self, vehicle: Vehicle, is_first: bool, time: float) -> float:
        """Metres to the nearest stop of the vehicle; inf without."""
        lane = vehicle.lane
        nearest = math.inf
        for s, crosswalk in lane.crosswalks:
            gap = s - vehicle.s
            if -.3 <= gap < LOOKAHEAD and self.crossings.is_used(crosswalk.index, time) \
                    and _can_stop(vehicle.speed, gap):
                nearest = min(nearest, gap)
        gap = lane.length - vehicle.s
        if vehicle.stays and vehicle.following is None:
            nearest = min(nearest, max(0.0, gap - REMAINING))
        if is_first and lane.kind == 'lane' and lane.junction is not None and gap < LOOKAHEAD \
                and not self._may_enter(vehicle, gap, time):
            nearest = min(nearest, gap)
        return nearest

    def _may_enter(self, vehicle: Vehicle, gap: float, time: float) -> bool:
        """Whether the vehicle may enter the junction."""
        lane, through = vehicle.lane, vehicle.following
        assert lane.junction is not None  # _stop asks only before one
        colour = self.cycles[lane.junction.index].colour(lane.street.along_x, time)
        if colour == 'red' or through is None:
            return not _can_stop(vehicle.speed, gap, HARDEST_BRAKING)
        if colour == 'yellow' and _can_stop(vehicle.speed, gap):
            return False
        if gap > 12:
            return True
        if any(self.queues[other.index] for other in self.network.ways(lane.junction)
               if other.street is not lane.street):
            return False  # traffic of the other street is still in the junction
        for last in self.queues[vehicle.route[vehicle.leg + 2].index][-1:]:
            if last.speed < 2 and last.s - last.length < vehicle.length + STANDING_GAP:
                return False  # there is no space after the junction
        return not self._comes_first(through)

    def _comes_first(self, through: Lane) -> bool:
        """Whether a vehicle with the right of way approaches."""
        for lane in through.yields_to:
            for other in self.queues[lane.index]:
                if lane.kind != 'lane':
                    is_near = other.s - other.length < lane.length * .6
                elif other.following is not None and other.following.kind == 'left':
                    is_near = False
                else:
                    is_near = lane.length - other.s < max(3.0, other.speed * GAP_ACCEPTED)
                if is_near:
                    return True
        return False


def follow(speed: float, wished: float, gap: float, ahead: float) -> float:
    """Acceleration of the Intelligent Driver Model.  ahead: speed of the leader `gap` metres ahead.

    Above the desired speed it brakes gently.
    """
    free = 1 - (speed / wished) ** 4 if speed <= wished else -min(2.0, speed / wished - .8)
    if gap > LOOKAHEAD * 2:
        return ACCELERATION * free
    closing = speed * (speed - ahead) / (2 * math.sqrt(ACCELERATION * COMFORTABLE_BRAKING))
    target = STANDING_GAP + max(0.0, speed * HEADWAY + closing)
    return ACCELERATION * (free - (target / max(gap, .2)) ** 2)


def _can_stop(speed: float, gap: float, braking: float = 1.7 * COMFORTABLE_BRAKING) -> bool:
    return speed * speed / (2 * braking) <= gap + .3


