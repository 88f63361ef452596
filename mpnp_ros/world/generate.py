"""Makes many scenes at once, one process a scene, and goes on where it was stopped.

What a scene becomes follows from the recipe and its identity alone, so any number of workers gives the
same bytes.  Every worker has one thread: processes that each take all cores slow each other down.
"""
from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import count
from pathlib import Path

from mpnp_ros.errors import DatasetError
from mpnp_ros.options import Options, option
from mpnp_ros.progress import progress as shown
from mpnp_ros.world.conditions import Conditions
from mpnp_ros.world.identity import SLOT, SceneIdentity
from mpnp_ros.world.key_frames import scene_key_frames
from mpnp_ros.world.object_lists import objects_file, write_objects
from mpnp_ros.world.root import add_part, merge, part_file, prepare
from mpnp_ros.world.scene import Sensors, scene_frames
from mpnp_ros.world.schema import SENSORS
from mpnp_ros.world.writer import write_scene

ONE_THREAD = dict.fromkeys(
    ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'LP_NUM_THREADS'), '1')
"""For numpy's libraries and for llvmpipe, Mesa's renderer without a GPU."""


@dataclass(frozen=True)
class Recipe(Options):
    """How a scene is made.  Raises OptionError."""

    key_frames: int = option(10, 'key frames of each scene', low=1)
    interval: float = option(2.0, 'time between key frames; nuScenes: 0.5', unit='s', low=1e-30)
    size: tuple[int, int] = option(
        (400, 225), 'width and height of the images; nuScenes: 1600x900', unit='pixel', low=1)
    sensors: tuple[str, ...] = option(
        ('camera', 'lidar', 'radar'), 'sensors whose data is written; none: only true objects are',
        choices=tuple(SENSORS))

    def check(self) -> Iterator[str]:
        """A scene must end before the next seed's begins."""
        if self.key_frames * self.interval > SLOT:
            yield (f'key_frames is {self.key_frames}: every {self.interval:g} s they last longer than the '
                   f'{SLOT} s of a scene; make more scenes instead')


def scene_identities(seeds: Sequence[int], lights: Sequence[str],
                     weathers: Sequence[str]) -> list[SceneIdentity]:
    """Every seed in every light and weather; twins follow each other."""
    return [SceneIdentity(seed, Conditions(light, weather))
            for seed in seeds for weather in weathers for light in lights]


def generate(path: str | Path, identities: Sequence[SceneIdentity], recipe: Recipe, workers: int = 1,
             progress: bool = True) -> Path:
    """Make the scenes that are not complete, then the tables of all, and return the root.

    workers: processes at work at once.  Ctrl-C leaves a folder that the same call goes on with.
    Raises DatasetError where ``path`` holds something else or scenes of another recipe.
    """
    root = Path(path)
    prepare(root, asdict(recipe))
    missing = [identity for identity in identities if not scene_file(root, identity, recipe).is_file()]
    done = count(len(identities) - len(missing))
    with shown(f'generating {root.name}', 'scene', quiet=not progress) as show:
        show(next(done), len(identities))
        run_in_processes(partial(make_scene, root, recipe), missing, workers,
                         lambda: show(next(done), len(identities)))
    if recipe.sensors:
        merge(root)
    return root


def scene_file(root: Path, identity: SceneIdentity, recipe: Recipe) -> Path:
    """The file that is there when a scene is complete."""
    return (part_file if recipe.sensors else objects_file)(root, identity)


def make_scene(root: Path, recipe: Recipe, identity: SceneIdentity) -> None:
    """Write one scene into the root; without sensors, its objects only."""
    if not recipe.sensors:
        write_objects(objects_file(root, identity), scene_key_frames(
            identity.seed, recipe.key_frames, recipe.interval, identity.conditions))
        return
    frames = scene_frames(identity.seed, identity.conditions, recipe.key_frames, recipe.interval,
                          recipe.sensors, sensors_of_process(recipe))
    add_part(root, identity, write_scene(root, identity, frames, recipe.size, recipe.sensors))


@cache
def sensors_of_process(recipe: Recipe) -> Sensors:
    """The sensors that all scenes of this process are perceived with."""
    return Sensors(recipe.sensors, recipe.size)


def run_in_processes(work: Callable[[SceneIdentity], None], items: Sequence[SceneIdentity], workers: int,
                     done: Callable[[], object]) -> None:
    """Call ``work`` for every item, several at a time, each in a process; ``done`` is called after each.

    On an error, or Ctrl-C, the processes are ended at once.  Raises DatasetError where one has died.
    """
    if not items:
        return
    context = multiprocessing.get_context('spawn')
    with _environment(ONE_THREAD), ProcessPoolExecutor(min(workers, len(items)), context, _begin) as pool:
        before = set(multiprocessing.active_children())
        pending = {pool.submit(work, item) for item in items}
        try:
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    done()
        except BrokenProcessPool:
            raise DatasetError('a process that makes scenes has died, mostly for want of memory; run the '
                               'same command again with fewer workers, and it goes on') from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
            raise


def _begin() -> None:
    """Ctrl-C reaches the workers too; let it end them without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for processes started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
