"""Results of a benchmark of methods: accuracies with intervals, costs and comparisons."""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from bench.common.accuracy import Estimate, estimate, percent, right_answers
from bench.methods.answering import FOLDED
from bench.methods.data import BenchData
from bench.methods.plan import BLIND, MethodsConfig
from mpnp_ros.questions.rule import rule_answer
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.evaluation import majority_answers
from mpnp_ros.training.key_frames import scene_of

Result = Mapping[str, Any]
COSTS = ('encoders', 'reader', 'reading', 'calibration', 'steps', 'optimiser')


@dataclass(frozen=True, eq=False)
class MethodRow:
    """One method over all of its seeds.

    right: [seeds, test questions].  points: MACs [points] of the curve, mean over seeds; seen: questions of
    training until then; values: accuracy in percent at them, [seeds, points].  rates: of learning, by seed.
    macs: by part of the costs; these, steps and seconds are means over seeds, peak_bytes is the maximum.
    beforehand: MACs spent once per language model, not part of macs.
    """

    name: str
    seeds: tuple[int, ...]
    right: np.ndarray
    accuracy: Estimate
    points: np.ndarray
    seen: np.ndarray
    values: np.ndarray
    rates: tuple[float, ...]
    steps: float
    batch: int
    parameters: int
    macs: Mapping[str, float]
    seconds: float
    peak_bytes: int
    beforehand: float

    @classmethod
    def of(cls, results: Sequence[Result], scenes: np.ndarray) -> MethodRow:
        """The row of the results of all seeds of one method."""
        first = results[0]
        right = np.array([result['right'] for result in results], float)
        curves = np.array([result['curve'] for result in results])
        macs = {part: fmean(result['macs'][part] for result in results) for part in COSTS}
        return cls(first['row'], tuple(result['seed'] for result in results), right, estimate(right, scenes),
                   curves[:, :, 0].mean(0), curves[:, :, 2].mean(0), 100 * curves[:, :, 1],
                   tuple(result['learning_rate'] for result in results),
                   fmean(result['steps'] for result in results),
                   first['batch'], first['parameters'], macs, fmean(result['seconds'] for result in results),
                   max(result['peak_bytes'] for result in results), first['beforehand'])

    @property
    def total(self) -> float:
        """MACs of the whole adaptation."""
        return sum(self.macs.values())

    @property
    def curve(self) -> np.ndarray:
        """Percent right at each point, mean over seeds."""
        return self.values.mean(0)

    def after_macs(self, macs: float) -> float:
        """Percent right at the last point of the curve until so many MACs; NaN before the first."""
        return _last(self.curve, self.points <= macs)

    def after_questions(self, count: float) -> float:
        """Percent right at the last point until so many questions; NaN before the first."""
        return _last(self.curve, self.seen <= count)

    def macs_to(self, percent: float) -> float | None:
        """MACs at the first point of the curve with such an accuracy; None without one."""
        reached = self.points[self.curve >= percent]
        return float(reached[0]) if len(reached) else None


def _last(values: np.ndarray, reached: np.ndarray) -> float:
    return float(values[reached][-1]) if reached.any() else math.nan


@dataclass(frozen=True)
class Reach:
    """The MACs after which ours stays at least as accurate on the curve as the best peer at its end.

    percent: accuracy of the best peer at its end, after `peer_macs`.  macs: of ours at the first point from
    which it is never worse; None: ours is worse at its last point.  blind: accuracy in percent without a
    sensor; None: not trained.
    """

    peer: str
    percent: float
    peer_macs: float
    macs: float | None
    blind: float | None

    @property
    def share(self) -> float | None:
        """Our MACs as a share of the peer's."""
        return None if self.macs is None else self.macs / self.peer_macs


@dataclass(frozen=True)
class Yardsticks:
    """Accuracies in percent without training, on the questions of the test and of the curve."""

    majority: Estimate
    rule: Estimate
    majority_curve: float
    rule_curve: float

    @classmethod
    def of(cls, data: BenchData, modality: str) -> Yardsticks:
        """The most frequent answer of each text in training, and the fixed rule on the same tokens."""
        def right(part: TokenDataset) -> tuple[list[int], list[int]]:
            rule = [rule_answer(example.question, part.frames[example.frame][modality], CHANNELS)
                    for example in part.examples]
            majority = majority_answers(data.train.examples, part.examples)
            return right_answers(part.examples, majority), right_answers(part.examples, rule)

        scenes = scenes_of(data.test)
        majority, rule = (estimate(np.array([answers], float), scenes) for answers in right(data.test))
        majority_curve, rule_curve = map(percent, right(data.curve))
        return cls(majority, rule, majority_curve, rule_curve)


@dataclass(frozen=True, eq=False)
class MethodsReport:
    """The content of the page.

    rows: methods, ours first, then by accuracy.  blind: None if it was not trained.  ahead: peer -> lead of
    ours in points at the same budget.  reach: None without peers.  failed: label of a run -> reason.
    """

    rows: tuple[MethodRow, ...]
    blind: MethodRow | None
    yardsticks: Yardsticks
    ahead: Mapping[str, Estimate]
    reach: Reach | None
    answering: Mapping[str, Any]
    failed: Mapping[str, str]
    test_scenes: int
    curve_questions: int
    training_questions: int

    @classmethod
    def of(cls, results: Sequence[Result], data: BenchData, config: MethodsConfig,
           answering: Mapping[str, Any], failed: Mapping[str, str]) -> MethodsReport:
        """The report of all runs.  answering: result of bench.methods.answering; empty if it failed."""
        scenes = scenes_of(data.test)
        rows = {name: MethodRow.of([result for result in results if result['row'] == name], scenes)
                for name in dict.fromkeys(result['row'] for result in results)}
        blind, ours = rows.pop(BLIND, None), rows.get(config.ours[0])
        peers = [row for name, row in rows.items() if name not in config.ours]
        ordered = sorted(rows.values(), key=lambda row: (row is not ours, -row.accuracy.mean))
        return cls(tuple(ordered), blind, Yardsticks.of(data, config.modality),
                   {row.name: ahead_of(ours, row, scenes) for row in peers} if ours else {},
                   reach_of(ours, peers, blind) if ours and peers else None, answering, failed,
                   len(set(scenes)), len(data.curve.examples), len(data.train.examples))

    def form(self, row: str, form: str = '') -> Mapping[str, Any] | None:
        """The answer times of a method; by default in the form in which it is used."""
        wanted = (form,) if form else ('', FOLDED)
        return next((times for times in self.answering.get('forms', ())
                     if times['row'] == row and times['form'] in wanted), None)


def ahead_of(ours: MethodRow, peer: MethodRow, scenes: np.ndarray) -> Estimate:
    """The lead of ours in points, on the same questions and the common seeds."""
    seeds = [seed for seed in ours.seeds if seed in peer.seeds]
    own, others = (row.right[[row.seeds.index(seed) for seed in seeds]] for row in (ours, peer))
    return estimate(own - others, scenes)


def reach_of(ours: MethodRow, peers: Iterable[MethodRow], blind: MethodRow | None) -> Reach:
    """The measured point from which ours is at least as accurate as the best peer; see Reach."""
    best = max(peers, key=lambda row: row.curve[-1])
    place = 1 + max(np.flatnonzero(ours.curve < best.curve[-1]), default=-1)
    return Reach(best.name, float(best.curve[-1]), best.total,
                 float(ours.points[place]) if place < len(ours.points) else None,
                 None if blind is None else float(blind.curve[-1]))


def scenes_of(dataset: TokenDataset) -> np.ndarray:
    """The scene of each question."""
    return np.array([scene_of(example.frame) for example in dataset.examples])
