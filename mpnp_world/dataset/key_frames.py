"""Key frames of objects without sensor data; generates a hundred thousand in minutes.

Occlusion is estimated (:mod:`~mpnp_world.sensors.occlusion`) instead of ray-cast.  Names and tokens equal
those of the same moments with sensors.
"""
from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache, partial
from itertools import islice

from mpnp_ros.progress import progress as shown
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_world.dataset.annotations import MAX_DISTANCE, annotate, seen
from mpnp_world.scene.conditions import Conditions
from mpnp_world.scene.drive import World
from mpnp_world.scene.identity import SceneIdentity
from mpnp_world.scene.state import WorldState
from mpnp_world.sensors.occlusion import Walls, estimate_occlusion

AHEAD = 4
"""Submitted scenes per process."""


def key_frame(state: WorldState, index: int, walls: Walls | None = None) -> KeyFrame:
    """The objects of a state as the key frame number `index` of its scene.

    walls: of the scene; computed if None.
    """
    identity = SceneIdentity(state.seed, state.conditions)
    occlusion = estimate_occlusion(state, walls or Walls(state))
    boxes = annotate(state, occlusion.shares, occlusion.num_lidar_pts, {})
    return KeyFrame(identity.token('sample', index), identity.name, identity.description,
                    identity.stamp(state.time) * 1000, state.ego.pose, {}, None, {},
                    seen(boxes, state.ego, partial(_instance, identity)))


def scene_key_frames(seed: int, frames: int = 10, interval: float = 2.0,
                     conditions: Conditions | None = None) -> list[KeyFrame]:
    """The key frames of one scene, one every `interval` seconds."""
    world = World(seed, conditions, MAX_DISTANCE)
    walls = Walls(world.state())
    result = []
    for index in range(frames):
        world.step(interval)
        result.append(key_frame(world.state(), index, walls))
    return result


def object_key_frames(seeds: Sequence[int], frames_per_scene: int = 10, interval: float = 2.0,
                      workers: int | None = None, progress: bool = True) -> Iterator[KeyFrame]:
    """The key frames of many scenes, in order of `seeds` and time.

    workers: number of processes, default: number of cores; 1: run in this process.
    """
    make = partial(scene_key_frames, frames=frames_per_scene, interval=interval)
    count = workers or len(os.sched_getaffinity(0))
    scenes = map(make, seeds) if count == 1 else _in_processes(make, seeds, count)
    with shown('driving', 'scene', quiet=not progress) as show:
        for done, scene in enumerate(scenes, 1):
            show(done, len(seeds))
            yield from scene


def _in_processes(make: Callable[[int], list[KeyFrame]], seeds: Sequence[int],
                  count: int) -> Iterator[list[KeyFrame]]:
    """Scenes in order, with a bounded number of submitted ones."""
    rest = iter(seeds)
    with ProcessPoolExecutor(count, multiprocessing.get_context('spawn')) as pool:
        pending: deque[Future[list[KeyFrame]]] = deque(
            pool.submit(make, seed) for seed in islice(rest, AHEAD * count))
        while pending:
            scene = pending.popleft().result()
            pending.extend(pool.submit(make, seed) for seed in islice(rest, 1))
            yield scene


@lru_cache(4096)
def _instance(identity: SceneIdentity, number: int) -> str:
    return identity.token('instance', number)
