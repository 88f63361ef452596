"""What the benchmark of methods runs: config/methods_*.yaml, and each run that follows from it."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from mpnp_ros.cache import write_file
from mpnp_ros.errors import ConfigurationError

BLIND = 'blind'
"""The row of the method that is compared, on learned constants instead of a sensor."""
RUN = 'run.json'
POSITIVE = ('seeds', 'methods', 'ours', 'budget', 'max_steps', 'test', 'curve', 'curve_scenes', 'points')


@dataclass(frozen=True)
class MethodPlan:
    """How one method is trained.

    link: options of Method.new_link.  batch, learning_rate, gate_learning_rate, checkpoint_every: as in
    TrainerConfig.  points: of its curve; 0: as many as of the others.
    """

    link: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 32
    learning_rate: float = 1e-3
    gate_learning_rate: float = 1e-2
    checkpoint_every: int = 50
    points: int = 0


@dataclass(frozen=True)
class MethodsConfig:
    """The whole benchmark; :meth:`load` reads it from YAML.  Raises ConfigurationError.

    name: of the files that are written.  ours: the methods of this package; the first of them is compared
    with all that are not among them.  without_skipping: method that skips attention -> the same without.
    light, modality: what is adapted to; `objects`: true objects.  budget: MACs of an adaptation, all costs
    counted.  max_steps: more are not made, whatever the budget.  texts: so many most frequent texts of
    questions are trained on; 0: all.  test: questions of the test, drawn evenly by type.  curve: those of
    the curve, from `curve_scenes` of the scenes that are trained on otherwise.  points: of the curve.
    warm_up: share of the steps.
    """

    methods: Mapping[str, MethodPlan]
    name: str = 'methods'
    ours: tuple[str, ...] = ('mpnp',)
    without_skipping: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    light: str = 'night'
    modality: str = 'lidar'
    budget: float = 40e12
    max_steps: int = 6000
    texts: int = 0
    test: int = 1000
    curve: int = 250
    curve_scenes: int = 4
    points: int = 8
    warm_up: float = .1

    def __post_init__(self) -> None:
        for name in POSITIVE:
            if not getattr(self, name):
                raise ConfigurationError(f'{name} of the benchmark is {getattr(self, name)!r}; give some')
        if self.ours[0] not in self.methods:
            raise ConfigurationError(f'{self.ours[0]} is compared but not among the methods '
                                     f'{", ".join(self.methods)}')

    @classmethod
    def load(cls, path: str | Path) -> MethodsConfig:
        """Read a YAML file.  Raises ConfigurationError, naming the file and the key at fault."""
        try:
            entries = dict(yaml.safe_load(Path(path).read_text(encoding='utf-8')))
            made = {name: tuple(value) if isinstance(value, list) else value
                    for name, value in entries.items()}
            plans = {name: MethodPlan(**(plan or {})) for name, plan in entries['methods'].items()}
            return cls(**{**made, 'methods': plans, 'budget': float(entries.get('budget', cls.budget))})
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(f'{path} is no recipe of this benchmark ({error}); its keys are '
                                     f'{", ".join(entry.name for entry in fields(cls))}') from None

    def runs(self, methods: Sequence[str], seeds: Sequence[int], language_model: str,
             data: str) -> Iterator[Run]:
        """One run for each method and seed, a blind one for each seed beside them; seed by seed.

        data: identity of what is trained on.  Raises ConfigurationError for a method without a plan.
        """
        if lost := [name for name in methods if name not in self.methods]:
            raise ConfigurationError(f'the benchmark has no plan for {", ".join(lost)}; there are plans for '
                                     f'{", ".join(self.methods)}')
        for seed in seeds:
            for row in (*methods, BLIND):
                method = self.ours[0] if row == BLIND else row
                plan = self.methods[method]
                points = self.points if row == BLIND else plan.points or self.points
                yield Run(row, method, seed, plan, self.modality, self.budget, self.max_steps, points,
                          self.warm_up, language_model, data)


@dataclass(frozen=True)
class Run:
    """One training of one method, in a process of its own.

    row: of the table: the name of the method, or BLIND.  data: identity of what it is trained on.
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

    @property
    def name(self) -> str:
        """A folder name that no run of other settings has."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f'{self.row}-{self.seed}-{digest[:8]}'

    @property
    def blind(self) -> bool:
        """Whether it sees learned constants instead of a sensor."""
        return self.row == BLIND

    def save(self, folder: Path) -> None:
        """Write what :meth:`load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / RUN, json.dumps(asdict(self)).encode())

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read what :meth:`save` wrote."""
        entries = json.loads((folder / RUN).read_bytes())
        return cls(**{**entries, 'plan': MethodPlan(**entries['plan'])})
