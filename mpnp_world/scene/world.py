"""A scene that is simulated over time, and an endless drive through successive scenes."""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from mpnp_world.scene.boxes import Ground
from mpnp_world.scene.catalogue import CYCLES
from mpnp_world.scene.identity import MAX_SEED, Conditions
from mpnp_world.scene.lanes import LaneNetwork
from mpnp_world.scene.people import Crossings, Crowd
from mpnp_world.scene.roadside import Roadside
from mpnp_world.scene.scenery import SceneryPainter
from mpnp_world.scene.spawning import EGO_FRONT, Spawner
from mpnp_world.scene.state import EgoState, Scenery, Signal, WorldObject, WorldState
from mpnp_world.scene.streets import SignalCycle, draw_map
from mpnp_world.scene.traffic import WHEEL_RADIUS, Traffic

ATTENTION = 0.2
"""Seconds between decisions of drivers."""
INSTANT = 1e-6
"""Tolerance for times, seconds."""
REACH = 150.0
"""Default radius of states around the ego vehicle, metres."""
STANDS = 0.3
"""Speed below which a vehicle has the status stopped, metres/second."""
BRAKING = -0.6
"""Acceleration below which the brake lights are on, metres/second^2."""


class World:
    """A scene with traffic; :meth:`step` advances it.

    The ego vehicle stops before the end of the map, mostly after more than 20 s.  All random draws follow
    from `seed`; `conditions` only switch lights on.  reach: radius around the ego vehicle within which states
    have objects, metres.
    """

    def __init__(self, seed: int, conditions: Conditions | None = None, reach: float = REACH) -> None:
        self.seed, self.conditions, self.time = seed, conditions or Conditions(), 0.0
        self._reach, self._identities, self._next_look = reach, itertools.count(1), 0.0
        self._lights = self.conditions.light != 'day' or self.conditions.weather != 'clear'
        self._streets = draw_map(self._rng('streets'))
        cycles, ground = self._rng('signals'), Ground()
        self._cycles = [SignalCycle.draw(cycles) for _ in self._streets.junctions]
        painter = SceneryPainter(self._rng('scenery'), self._streets, ground)
        painter.fixed()
        roadside = Roadside(self._rng('kerbside'), self._streets, ground, self._identities)
        roadside.fill(painter.lots)
        crowd = Crowd(self._rng('people'), self._streets, self._cycles, ground, self._identities)
        network = LaneNetwork(self._streets)
        self._traffic = Traffic(network, self._cycles, Crossings(()))
        self._spawner = Spawner(self._rng('traffic'), self._traffic, ground, self._identities)
        self._ego = self._spawner.ego()
        self._spawner.fill()
        crowd.fill(painter.benches)
        self._traffic.crossings = Crossings(crowd.uses)
        self._standing = [replace(item, lights=self._lights, braking=True) if item.attribute == 'stopped'
                          else item for item in roadside.things]
        self._people = crowd.people
        self._painter = painter

    def _rng(self, stream: str) -> np.random.Generator:
        """An independent random stream by name."""
        return np.random.default_rng([self.seed, *stream.encode()])

    @cached_property
    def scenery(self) -> Scenery:
        """The static scenery of the scene."""
        return self._painter.scenery()

    def step(self, seconds: float) -> None:
        """Advance the scene; the number of steps only changes rounding."""
        end = self.time + seconds
        while end - self.time > INSTANT:
            if self._next_look - self.time < INSTANT:
                self._spawner.arrivals(self.time)
                self._traffic.decide(self.time)
                self._next_look += ATTENTION
            following = min(end, self._next_look)
            self._traffic.move(following - self.time)
            self.time = following

    def state(self) -> WorldState:
        """The current state of the world."""
        vehicle = self._ego
        x, y, yaw = vehicle.pose(EGO_FRONT)
        ahead = vehicle.pose(EGO_FRONT - .5)[2]
        yaw_rate = math.remainder(ahead - yaw, math.tau) / .5 * vehicle.speed
        ego = EgoState(x, y, yaw, vehicle.speed, vehicle.acceleration, yaw_rate)
        signals = tuple(Signal(*place, street.yaw(way),
                               self._cycles[junction.index].colour(street.along_x, self.time))
                        for junction, street, way, place in self._painter.signal_posts)

        def is_near(x: float, y: float) -> bool:
            return math.hypot(x - ego.x, y - ego.y) < self._reach

        return WorldState(self.seed, self.conditions, self.time, ego, tuple(self._objects(is_near)),
                          signals, self.scenery)

    def _objects(self, is_near: Callable[[float, float], bool]) -> Iterator[WorldObject]:
        """Standing things, the boxes of vehicles, and people, as far as their place is near."""
        yield from (item for item in self._standing if is_near(item.x, item.y))
        for vehicle in self._traffic.vehicles():
            for index, body in enumerate(vehicle.bodies):
                pose, is_first = vehicle.pose(body.behind), index == 0
                if not is_near(*pose[:2]):
                    continue
                status = 'with rider' if body.kind in CYCLES else \
                    'moving' if vehicle.speed > STANDS else 'stopped'
                sounds_horn = is_first and vehicle.horns[0] <= self.time < vehicle.horns[1]
                yield WorldObject(
                    body.identity, body.kind, status, *pose, body.size, vehicle.speed, 0.0, body.colour,
                    vehicle.travelled / WHEEL_RADIUS % math.tau, body.variant, self._lights,
                    vehicle.acceleration < BRAKING or vehicle.speed < STANDS, vehicle.siren and is_first,
                    sounds_horn)
        people = (person.at(self.time) for person in self._people)
        yield from (item for item in people if is_near(item.x, item.y))


class Tour:
    """Simulates a scene for ``scene_seconds``, then the scene of the next seed.

    conditions: settable at any time; the next step has the same traffic in the new light and weather.
    left_behind: duration of the previous scenes, seconds.
    """

    def __init__(self, seed: int, conditions: Conditions, scene_seconds: float) -> None:
        self.conditions = conditions
        self.left_behind = 0.0
        self._scene_seconds = scene_seconds
        self._world = World(seed, conditions)

    def step(self, seconds: float) -> tuple[WorldState, WorldState]:
        """Advance; returns the states before and after, of the same scene and conditions."""
        world = self._world
        if world.time + seconds > self._scene_seconds:
            self.left_behind += world.time
            self._world = World((world.seed + 1) % (MAX_SEED + 1), self.conditions)
        elif world.conditions != self.conditions:
            self._world = World(world.seed, self.conditions)
            self._world.step(world.time)  # a twin has the same traffic
        before = self._world.state()
        self._world.step(seconds)
        return before, self._world.state()
