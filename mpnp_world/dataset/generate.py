"""Generates many scenes in parallel processes into one folder, and resumes after an interruption.

A scene follows from the recipe and its identity only, so any number of workers gives the same bytes.  Every
worker uses one thread, because workers that use all cores slow each other down.  The folder is a nuScenes
root:

    samples/<channel>/         sensor files
    sweeps/<channel>/          sensor files between key frames
    can_bus/<scene>_ms_imu.json
    scenes/<scene>.json        the scene's part of the tables; exists once the scene is complete
    recipe.json                settings of the scenes
    v1.0-world/<table>.json    all parts together, in order of the scenes' names
    maps/world.png

Beyond nuScenes v1.0 there are microphones: samples/MICROPHONES/*.wav (16 kHz, one channel for each of
:data:`~mpnp_world.sensors.rig.MICROPHONES`), and the table ``sound.json``, which lists them by sample
together with the instances whose horn or siren is audible.  They are not sample_data, because nuScenes has no
such modality.
"""
from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from mpnp_ros.errors import DatasetError
from mpnp_ros.files import new_folder, write_file
from mpnp_ros.nuscenes.tables import TABLES
from mpnp_ros.options import Options, option
from mpnp_ros.progress import progress as shown
from mpnp_world.dataset.frames import Sensors, SweepPlan, scene_frames
from mpnp_world.dataset.objects_only import objects_file, scene_key_frames, write_objects
from mpnp_world.dataset.writer import (
    ADDITIONS,
    MAP_FILE,
    SENSORS,
    VERSION,
    Record,
    shared_tables,
    write_scene,
)
from mpnp_world.scene.identity import SLOT, Conditions, SceneIdentity, token
from mpnp_world.sensors.lidar_models import HDL_32E, random_lidar
from mpnp_world.sensors.rig import RATES, SMALL_SIZE

RECIPE_FILE = 'recipe.json'

Tables = Mapping[str, list[Record]]

ONE_THREAD = dict.fromkeys(
    ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'LP_NUM_THREADS'), '1')
"""Thread limits of the numpy libraries and of llvmpipe, the software renderer of Mesa."""


def prepare(root: Path, recipe: Mapping[str, Any]) -> None:
    """Create the folder and record the recipe; all scenes of a folder have the same recipe.

    Raises DatasetError if it has other contents or scenes of another recipe.
    """
    note = root / RECIPE_FILE
    recipe = json.loads(json.dumps(recipe))
    if note.is_file():
        before = _read(note)
        different = ', '.join(f'{name} {before.get(name)} (now {recipe.get(name)})'
                              for name in {**before, **recipe} if before.get(name) != recipe.get(name))
        if different:
            raise DatasetError(f'the scenes in {root} were made with {different}; use the same options or '
                               'another folder')
        return
    if root.exists() and any(root.iterdir()):
        raise DatasetError(f'{root} exists and contains something else; use a new folder or one that '
                           '`mpnp world generate` has begun')
    root.mkdir(parents=True, exist_ok=True)
    write_file(note, json.dumps(recipe, indent=1).encode())


def part_file(root: Path, identity: SceneIdentity) -> Path:
    """The file of the tables of a scene; it exists once the scene is complete."""
    return root / 'scenes' / f'{identity.name}.json'


def add_part(root: Path, identity: SceneIdentity, tables: Tables) -> None:
    """Write the tables of a scene atomically."""
    path = part_file(root, identity)
    path.parent.mkdir(exist_ok=True)
    write_file(path, json.dumps(tables, separators=(',', ':')).encode())


def merge(root: Path) -> Path:
    """Write the tables of all complete scenes; returns their folder."""
    (root / MAP_FILE).parent.mkdir(exist_ok=True)
    Image.new('L', (64, 64), 255).save(root / MAP_FILE)
    with new_folder(root / VERSION) as folder, ExitStack() as files:
        folder.chmod(0o755)
        tables = {name: files.enter_context(_Table(folder / f'{name}.json'))
                  for name in (*TABLES, *ADDITIONS)}
        for name, records in shared_tables().items():
            tables[name].extend(records)
        logs = []
        for path in sorted((root / 'scenes').glob('*.json')):
            part = _read(path)
            for name, records in part.items():
                tables[name].extend(records)
            logs += [record['token'] for record in part['log']]
        tables['map'].extend([{'token': token('map'), 'category': 'semantic_prior', 'filename': MAP_FILE,
                               'log_tokens': logs}])
    return root / VERSION


class _Table:
    """A JSON list that is written record by record, one per line."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open('w', encoding='utf-8')
        self._between = '['

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.write('\n]\n' if self._between == ',' else '[]\n')
        self._stream.close()

    def extend(self, records: list[Record]) -> None:
        for record in records:
            self._stream.write(f'{self._between}\n{json.dumps(record, separators=(",", ":"))}')
            self._between = ','


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} cannot be read ({error}); remove it and generate '
                           'again') from None


@dataclass(frozen=True)
class Recipe(Options):
    """Settings of scenes.  Raises OptionError for invalid ones."""

    key_frames: int = option(10, 'key frames of each scene', low=1)
    interval: float = option(2.0, 'time between key frames; nuScenes: 0.5', unit='s', low=1e-30)
    size: tuple[int, int] = option(
        SMALL_SIZE, 'width and height of the images; nuScenes: 1600x900', unit='pixel', low=1)
    sensors: tuple[str, ...] = option(
        ('camera', 'lidar', 'radar'), 'sensors whose data is written; none: only true objects are',
        choices=tuple(SENSORS))
    sweeps: tuple[str, ...] = option(
        (), 'sensors with sweeps between key frames, at the rates of nuScenes: LiDAR 20, radars 13, cameras '
        '12 Hz', choices=tuple(RATES))
    sweep_seconds: float = option(0.5, 'time before each key frame that has sweeps', unit='s', low=0.0)
    sweep_rate: float = option(0., 'sweeps per second of each sensor; 0: those of nuScenes', low=0.)
    lidar: str = option(
        'hdl-32e', 'make of the LiDAR; random: another one in each scene, with one sweep 0.35 to 0.6 s '
        'before each key frame if it has sweeps', choices=('hdl-32e', 'random'))

    def check(self) -> Iterator[str]:
        """A scene must end before the next seed's begins; sweeps are of sensors that are written."""
        if absent := [name for name in self.sweeps if name not in self.sensors]:
            yield f'sweeps has {", ".join(absent)}, which sensors has not; add it there'
        if self.key_frames * self.interval > SLOT:
            yield (f'key_frames is {self.key_frames}: every {self.interval:g} s they last longer than the '
                   f'{SLOT} s of a scene; make more scenes instead')


def scene_identities(seeds: Sequence[int], lights: Sequence[str],
                     weathers: Sequence[str]) -> list[SceneIdentity]:
    """All seeds in every light and weather, ordered by seed."""
    return [SceneIdentity(seed, Conditions(light, weather))
            for seed in seeds for weather in weathers for light in lights]


def generate(path: str | Path, identities: Sequence[SceneIdentity], recipe: Recipe, workers: int = 1,
             progress: bool = True) -> Path:
    """Generate incomplete scenes and write the tables of all scenes; returns the root.

    workers: number of parallel processes.  After Ctrl-C the same call resumes.
    Raises DatasetError if ``path`` has other contents or scenes of another recipe.
    """
    root = Path(path)
    newer = {'sweeps', 'sweep_seconds'} if not recipe.sweeps else set()  # older recipes have none of these
    newer |= {name for name in ('lidar', 'sweep_rate') if recipe[name] == getattr(Recipe, name)}
    prepare(root, {name: value for name, value in asdict(recipe).items() if name not in newer})
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
    """The file that exists once a scene is complete."""
    return (part_file if recipe.sensors else objects_file)(root, identity)


def make_scene(root: Path, recipe: Recipe, identity: SceneIdentity) -> None:
    """Write one scene to the root; without sensors, only its objects."""
    if not recipe.sensors:
        write_objects(objects_file(root, identity), scene_key_frames(
            identity.seed, recipe.key_frames, recipe.interval, identity.conditions))
        return
    rates = dict.fromkeys(RATES, recipe.sweep_rate) if recipe.sweep_rate else RATES
    lidar, plan = HDL_32E, SweepPlan(recipe.sweeps, recipe.sweep_seconds, rates)
    if recipe.lidar == 'random':
        lidar = random_lidar(identity.seed)
        plan = SweepPlan(recipe.sweeps, 1 / lidar.rate, {**rates, 'lidar': lidar.rate})
    frames = scene_frames(identity.seed, identity.conditions, recipe.key_frames, recipe.interval,
                          recipe.sensors, sensors_of_process(recipe), plan if recipe.sweeps else None, lidar)
    add_part(root, identity, write_scene(root, identity, frames, recipe.size, recipe.sensors))


@cache
def sensors_of_process(recipe: Recipe) -> Sensors:
    """The sensors for all scenes of this process."""
    return Sensors(recipe.sensors, recipe.size)


def run_in_processes(work: Callable[[SceneIdentity], None], items: Sequence[SceneIdentity], workers: int,
                     done: Callable[[], object]) -> None:
    """Call ``work`` for every item in parallel processes, and ``done`` after each.

    On an error or Ctrl-C the processes are terminated.  Raises DatasetError if a process dies.
    """
    if not items:
        return
    context = multiprocessing.get_context('spawn')
    # Ctrl-C ends a worker without a traceback.
    pool = ProcessPoolExecutor(min(workers, len(items)), context, initializer=signal.signal,
                               initargs=(signal.SIGINT, signal.SIG_DFL))
    with _environment(ONE_THREAD), pool:
        before = set(multiprocessing.active_children())
        pending = {pool.submit(work, item) for item in items}
        try:
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    done()
        except BrokenProcessPool:
            raise DatasetError('a worker process has died, probably out of memory; run the same command '
                               'again with fewer workers to resume') from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
            raise


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes started in the context."""
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
