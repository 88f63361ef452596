"""Configuration of the benchmark of methods (bench/methods/methods_*.yaml) and its runs."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.study.study import overlaps
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.files import write_file
from mpnp_ros.options import Options, option
from mpnp_ros.questions.wording import TYPES
from mpnp_ros.training.trainer import PARTS
from mpnp_ros.training.true_objects import OBJECTS

BLIND = 'blind'
"""Row of the compared method with learned constants instead of a sensor."""
RUN = 'run.json'


@dataclass(frozen=True)
class Task(Options):
    """Questions about true objects of scenes that are not rendered, drawn for one benchmark.

    Objects are those of the shipped links: within 30 m and with at least 5 LiDAR points.
    """

    types: tuple[str, ...] = option((), 'types of questions; empty: the benchmark takes those of a study',
                                    choices=TYPES)
    directions: bool = option(True, 'whether questions may name directions')
    most_objects: int = option(0, 'maximum number of objects in a frame; 0: any', low=0)
    train: tuple[int, int] = option(
        (0, 220), 'first seed of the scenes to train on, and the seed after the last', low=0)
    curve: tuple[int, int] = option((10_000, 10_040), 'the same for the curve', low=0)
    test: tuple[int, int] = option((30_000, 30_060), 'the same for the test', low=0)
    key_frames: int = option(8, 'key frames of each scene', low=1)
    interval: float = option(3.0, 'time between key frames', unit='s', low=1e-30)
    turns: int = option(1, 'headings per key frame', low=1)
    per_kind: int = option(6, 'maximum questions of each kind per frame', low=0)
    of_each_type: int = option(10_000, 'maximum training questions of each type', low=0)

    def check(self) -> Iterator[str]:
        """Faults: parts without scenes, or with scenes of another part."""
        parts = {'train': range(*self.train), 'curve': range(*self.curve), 'test': range(*self.test)}
        for name, seeds in parts.items():
            if not seeds:
                yield (f'{name} has no scenes from {seeds.start} to {seeds.stop}; '
                       'give the seed after the last one second')
        yield from overlaps(parts)


@dataclass(frozen=True)
class MethodPlan(Options):
    """How one method is trained, see TrainerConfig."""

    method: str = option('', 'the method; empty: it is named like its row')
    link: Mapping[str, Any] = option({}, 'options of Method.new_link')
    reader: Mapping[str, Any] = option(
        {}, 'options of ReaderConfig: links count, and their readers learn first; empty: they do not count')
    part: str = option('all', 'trained part of the links, after the reader', choices=tuple(PARTS))
    batch: int = option(32, 'questions per step', low=1)
    learning_rate: float = option(1e-3, 'learning rate of aligners and LoRA', low=1e-30)
    gate_learning_rate: float = option(1e-2, 'learning rate of gates', low=1e-30)
    checkpoint_every: int = option(50, 'steps between checkpoints', low=1)
    points: int = option(0, 'points of its curve; 0: those of the benchmark', low=0)
    max_steps: int = option(0, 'maximum number of steps; 0: that of the benchmark', low=0)


@dataclass(frozen=True)
class MethodsConfig(Options):
    """The whole benchmark; :meth:`load` reads it from YAML.  Raises OptionError."""

    methods: Mapping[str, MethodPlan] = option(help='how each method is trained')
    name: str = option('methods', 'name of the written files')
    language_model: str = option('smollm2-135m-instruct', 'language model')
    task: Task = option(Task(), 'questions of its own; without types: those of a study')
    ours: tuple[str, ...] = option(
        ('mpnp',), 'methods of this package; the first is compared with all others')
    without_skipping: Mapping[str, str] = option(
        {}, 'method that skips attention -> the same method without skipping')
    seeds: tuple[int, ...] = option((0, 1, 2), 'seeds')
    once: tuple[str, ...] = option((), 'methods that are trained with the first of the seeds only')
    light: str = option('night', 'light of the adaptation')
    modality: str = option('lidar', 'modality of the adaptation; objects: true objects')
    budget: float = option(40e12, 'MACs of an adaptation, all costs counted', low=1)
    max_steps: int = option(6000, 'maximum number of steps', low=1)
    texts: int = option(0, 'number of the most frequent question texts to train on; 0: all', low=0)
    test: int = option(1000, 'test questions, drawn evenly by type', low=1)
    curve: int = option(250, 'questions of the curve', low=1)
    curve_scenes: int = option(4, 'scenes of the curve, held out from training', low=1)
    points: int = option(8, 'points of the curve', low=1)
    warm_up: float = option(.1, 'share of the steps over which learning rates rise', low=0, high=1)
    rates: tuple[float, ...] = option(
        (), 'learning rates that each method tries; empty: it has that of its plan', low=1e-30)
    rate_steps: int = option(40, 'steps of each of these trials', low=1)
    targets: tuple[float, ...] = option(
        (), 'accuracies in percent, for which the operations that reach them are told', low=0, high=100)

    def check(self) -> Iterator[str]:
        """Faults: no methods or seeds, or no plan for a named method."""
        for name in ('methods', 'seeds', 'ours'):
            if not getattr(self, name):
                yield f'{name} of the benchmark is empty; give some'
        if self.ours and self.ours[0] not in self.methods:
            yield f'ours begins with {self.ours[0]}, which is not among the methods {", ".join(self.methods)}'
        if lost := [name for name in self.once if name not in self.methods]:
            yield f'once has {", ".join(lost)}; there are plans for {", ".join(self.methods)}'
        if self.task.types and self.modality != OBJECTS:
            yield f'a task of its own is about {OBJECTS}; leave modality {self.modality} out'

    def runs(self, methods: Sequence[str], seeds: Sequence[int], data: str) -> Iterator[Run]:
        """One run for each method and seed, and a blind run for each seed, ordered by seed.

        data: identity of the training data.  Raises ConfigurationError for a method without a plan.
        """
        if lost := [name for name in methods if name not in self.methods]:
            raise ConfigurationError(f'the benchmark has no plan for {", ".join(lost)}; there are plans for '
                                     f'{", ".join(self.methods)}')
        for seed in seeds:
            for row in (*methods, BLIND):
                if row in self.once and seed != seeds[0]:
                    continue
                name = self.ours[0] if row == BLIND else row
                plan = self.methods[name]
                points = self.points if row == BLIND else plan.points or self.points
                yield Run(row, plan.method or name, seed, plan, self.modality, self.budget,
                          plan.max_steps or self.max_steps, points, self.warm_up, self.language_model, data,
                          self.rates, self.rate_steps)


@dataclass(frozen=True)
class Run:
    """One training of one method, in its own process.

    row: of the table, the name of a plan or BLIND.  data: identity of the training data.  rates: tried
    before the training, each for rate_steps steps; empty: the rate of the plan is used.
    """

    row: str
    method: str
    seed: int
    plan: MethodPlan
    modality: str
    budget: float
    max_steps: int
    points: int
    warm_up: float
    language_model: str
    data: str
    rates: tuple[float, ...] = ()
    rate_steps: int = 0

    @property
    def name(self) -> str:
        """A folder name, unique for the settings."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f'{self.row}-{self.seed}-{digest[:8]}'

    @property
    def blind(self) -> bool:
        """Whether it uses learned constants instead of a sensor."""
        return self.row == BLIND

    def save(self, folder: Path) -> None:
        """Write the run to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / RUN, json.dumps(asdict(self)).encode())

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read the run from a folder."""
        entries = json.loads((folder / RUN).read_bytes())
        return cls(**{**entries, 'plan': MethodPlan(**entries['plan']),
                      'rates': tuple(entries.get('rates', ()))})
