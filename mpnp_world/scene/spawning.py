"""Draws vehicles and their routes: the ego vehicle, initial traffic, and later arrivals."""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from mpnp_world.scene.boxes import Ground
from mpnp_world.scene.catalogue import (
    BODIES,
    CYCLES,
    TOP_SPEED,
    TRAFFIC,
    Size,
    choose,
    draw_colour,
    draw_size,
    ridden,
)
from mpnp_world.scene.lanes import Lane
from mpnp_world.scene.traffic import COMFORTABLE_BRAKING, STANDING_GAP, Body, Traffic, Vehicle
from mpnp_world.sensors.rig import EGO_REAR, EGO_SIZE

TURNS = {'straight': .7, 'left': .15, 'right': .15}
EGO_TURNS = {'straight': .5, 'left': .25, 'right': .25}
WAITING, WAITING_BICYCLES = (0, 0, 1, 1, 2, 4), (0, 0, 0, 0, 1, 2)
"""Possible numbers of vehicles at a red light at the beginning, equally likely."""
EGO_FRONT = EGO_SIZE[0] - EGO_REAR
"""Metres from the front of the ego vehicle to its origin."""
HITCH = 0.7
"""Metres between a truck and its trailer."""


class Spawner:
    """Adds random vehicles to the lanes of `traffic`."""

    def __init__(self, rng: np.random.Generator, traffic: Traffic, ground: Ground,
                 identities: Iterable[int]) -> None:
        self._rng, self._traffic, self._ground = rng, traffic, ground
        self._identities = iter(identities)
        self._headway = 30.0 / float(rng.uniform(.2, 1.35))
        self._bicycle_headway = 350.0 / float(rng.uniform(.3, 3.0))
        self._mixture = dict(TRAFFIC)
        for kind in rng.choice(list(TRAFFIC), 2, replace=False).tolist():
            self._mixture[kind] *= 2.5
        self._arrivals = {lane: self._pause(lane) for lane in traffic.network.entries()}

    def ego(self) -> Vehicle:
        """Add the ego vehicle before a junction, with most of the map ahead of it."""
        rng, lanes = self._rng, self._traffic.network.lanes
        on_main = bool(rng.random() < .7)
        before_junction = [(lane, lane.junction.index) for lane in lanes
                           if lane.kind == 'lane' and lane.junction is not None
                           and not lane.bicycles and lane.street.along_x == on_main]
        last = max(index for _, index in before_junction)
        starts = [lane for lane, index in before_junction if not on_main
                  or (index if lane.way > 0 else last - index) < 2]
        lane = starts[rng.integers(len(starts))]
        s = float(rng.uniform(max(lane.length - 110, 0.0) + EGO_SIZE[0], lane.length - 2))
        vehicle = Vehicle((), EGO_SIZE[0], self.route(lane, EGO_TURNS), s, 0.0, float(rng.uniform(7, 12)),
                          stays=True)
        vehicle.speed = float(rng.uniform(.3, 1)) * self._safe_speed(vehicle, lane.length)
        self._place(vehicle)
        return vehicle

    def fill(self) -> None:
        """Add the initial traffic."""
        rng, traffic = self._rng, self._traffic
        for lane in traffic.network.lanes:
            if lane.kind != 'lane':
                continue
            # From the stop line backwards: a queue if the light is red, then free traffic.
            is_red = lane.junction is not None and \
                traffic.cycles[lane.junction.index].colour(lane.street.along_x, 0.0) == 'red'
            waiting = int(rng.choice(WAITING_BICYCLES if lane.bicycles else WAITING)) if is_red else 0
            front = lane.length - 1 if waiting else lane.length - self._gap(lane)
            end = lane.length if is_red else math.inf
            while front > 12:
                vehicle = self._draw(lane, front)
                vehicle.speed = 0.0 if waiting else self._safe_speed(vehicle, end)
                if self._place(vehicle):
                    end = front - vehicle.length - STANDING_GAP
                    waiting -= waiting > 0
                front -= vehicle.length + (float(rng.uniform(1.8, 3.5)) if waiting else 5 + self._gap(lane))

    def arrivals(self, time: float) -> None:
        """Add vehicles that enter the map by `time` seconds."""
        for lane, due in self._arrivals.items():
            queue = self._traffic.queues[lane.index]
            if time >= due and (not queue or queue[-1].s - queue[-1].length > 15):
                vehicle = self._draw(lane, 0.0)
                vehicle.speed = min([vehicle.desired, *(other.speed for other in queue[-1:])])
                self._traffic.add(vehicle)
                self._arrivals[lane] = time + self._pause(lane)

    def route(self, lane: Lane, turns: Mapping[str, float]) -> tuple[Lane, ...]:
        """A random route from a lane to the end of the map.  turns: probabilities by kind of way."""
        route = [lane]
        while route[-1].successors:
            way = choose(self._rng, {way: turns[way.kind] for way in route[-1].successors})
            route += [way, way.successors[0]]
        return tuple(route)

    def _place(self, vehicle: Vehicle) -> bool:
        """Add a vehicle if its ground is free; returns whether added."""
        x, y, yaw = vehicle.pose(vehicle.length / 2)
        width = max([EGO_SIZE[1], *(body.size[1] for body in vehicle.bodies)])
        if not self._ground.take((x, y, yaw, vehicle.length + 1.5, width)):
            return False
        self._traffic.add(vehicle)
        return True

    def _draw(self, lane: Lane, s: float) -> Vehicle:
        """A random vehicle for a lane, standing at s; a trailer comes with a truck ahead of it."""
        rng = self._rng
        kind = 'bicycle' if lane.bicycles else choose(rng, self._mixture)
        if kind == 'trailer':
            truck = self._body('box_truck' if rng.random() < .5 else 'pickup', 0.0)
            bodies: tuple[Body, ...] = (truck, self._body(kind, truck.size[0] + HITCH))
        else:
            bodies = (self._body(kind, 0.0),)
        length = bodies[-1].behind + bodies[-1].size[0] / 2
        slowest, fastest = (3.5, 6.5) if kind == 'bicycle' else (7.0, 13.0)
        desired = float(rng.uniform(slowest, fastest)) * TOP_SPEED.get(kind, 1)
        vehicle = Vehicle(bodies, length, self.route(lane, TURNS), s, 0.0, desired)
        vehicle.siren = kind == 'ambulance' and bool(rng.random() < .6)
        if rng.random() < .08:
            begin = float(rng.uniform(0, 30))
            vehicle.horns = (begin, begin + float(rng.uniform(.5, 2)))
        return vehicle

    def _body(self, kind: str, front: float) -> Body:
        size: Size = draw_size(self._rng, kind)
        size = ridden(size) if kind in CYCLES else size
        return Body(next(self._identities), kind, size, draw_colour(self._rng, kind), front + size[0] / 2,
                    int(self._rng.integers(BODIES)))

    def _safe_speed(self, vehicle: Vehicle, end: float) -> float:
        """A speed that allows comfortable braking before `end` metres along the lane."""
        room = max(0.0, end - vehicle.s - 1)
        return min(vehicle.desired, math.sqrt(2 * COMFORTABLE_BRAKING * room))

    def _gap(self, lane: Lane) -> float:
        return float(self._rng.gamma(1.5, (self._bicycle_headway if lane.bicycles else self._headway) / 1.5))

    def _pause(self, lane: Lane) -> float:
        """A random time between arrivals on a lane, seconds."""
        return 1.5 + self._gap(lane) / 9
