"""An endless drive through successive scenes, with changeable light and weather."""
from __future__ import annotations

from mpnp_world.scene.conditions import Conditions
from mpnp_world.scene.drive import World
from mpnp_world.scene.identity import MAX_SEED
from mpnp_world.scene.state import WorldState


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
