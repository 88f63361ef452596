"""A drive without end: scene after scene, in light and weather that may change on the way."""
from __future__ import annotations

from mpnp_ros.world.conditions import Conditions
from mpnp_ros.world.drive import World
from mpnp_ros.world.identity import MAX_SEED
from mpnp_ros.world.state import WorldState


class Tour:
    """Goes on in the next seed when ``scene_seconds`` of a scene are over: streets have an end.

    conditions: may be set at any time; the next step is the same traffic in the new light and weather.
    left_behind: seconds of the scenes before this one.
    """

    def __init__(self, seed: int, conditions: Conditions, scene_seconds: float) -> None:
        self.conditions = conditions
        self.left_behind = 0.0
        self._scene_seconds = scene_seconds
        self._world = World(seed, conditions)

    def step(self, seconds: float) -> tuple[WorldState, WorldState]:
        """Move on; the states before and after, which are of one scene and of the same conditions."""
        world = self._world
        if world.time + seconds > self._scene_seconds:
            self.left_behind += world.time
            self._world = World((world.seed + 1) % (MAX_SEED + 1), self.conditions)
        elif world.conditions != self.conditions:
            self._world = World(world.seed, self.conditions)
            self._world.step(world.time)  # twins are the same traffic, so this is where the other one was
        before = self._world.state()
        self._world.step(seconds)
        return before, self._world.state()
