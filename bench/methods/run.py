"""Train one method in its own process and write the result; started by bench.methods.

    python -m bench.methods.run FOLDER DATA

A stopped or killed process leaves a checkpoint, from which the next process resumes.
"""
from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bench.methods.costs import TERA, AdaptationCost, curve_steps, measure_beforehand, measure_cost
from bench.methods.data import BenchData, distinct_frames
from bench.methods.plan import Run
from bench.methods.processes import RESULT
from mpnp_ros.cli.interruption import CANCELLED, interruptible
from mpnp_ros.errors import MpnpError
from mpnp_ros.files import write_file
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import save_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.budget import peak_memory
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.evaluation import answers_of, evaluate
from mpnp_ros.training.trainer import Trainer, TrainerConfig, TrainingReport, TrainingStep, blind_method

CURVE, CHECKPOINT, LINK = 'curve.json', 'checkpoint', 'link'
CANCELLED_REPORT = 'cancelled'


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and write the result; returns the exit code."""
    folder, data = map(Path, arguments or sys.argv[1:])
    try:
        with interruptible() as stopped:
            run = Run.load(folder)
            training = MethodTraining(run, BenchData.load(data), load_language_model(run.language_model))
            forget_peak()
            result = training.work(folder, stopped)
    except MpnpError as error:
        print(error, file=sys.stderr)
        return 1
    if result is None:
        return CANCELLED
    write_file(folder / RESULT, json.dumps(result).encode())
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
    return 0


class MethodTraining:
    """Training of a method with a new link."""

    def __init__(self, run: Run, data: BenchData, lm: LanguageModel) -> None:
        self.run, self.data = run, data
        self.method = new_method(run, data.train, lm)
        self.book = PreparedQuestions(self.method)

    def work(self, folder: Path, stopped: Callable[[], bool]) -> dict[str, Any] | None:
        """Train within the budget and answer the test; returns the result, or None if stopped."""
        cost = self._cost()
        config = self._trainer(cost.steps_within(self.run.budget, self.run.max_steps))
        points = curve_steps(config.steps, self.run.points, config.checkpoint_every)
        curve = Curve(folder / CURVE, points, lambda: evaluate(self.method, self.data.curve, self.book).value,
                      lambda step, value: self._say(cost, step, value))
        report = Trainer(self.method, config, self.book).fit(
            self.data.train, progress=curve, cancelled=stopped, checkpoint=folder / CHECKPOINT)
        if report.stopped == CANCELLED_REPORT:
            return None
        curve.complete(points[-1])
        peak = peak_memory(self.method.lm.device)
        self._keep_link(folder)
        return {**self._costs(cost, report), 'peak_bytes': peak, 'right': self._right(),
                'curve': [[cost.at(step), curve.values[step]] for step in points]}

    def _cost(self) -> AdaptationCost:
        data, run = self.data, self.run
        encoding = 0 if run.blind else data.encoder_macs * distinct_frames(data.train, run.modality)
        return measure_cost(self.method, self.book, data.train, encoding, run.plan.batch, run.seed)

    def _trainer(self, steps: int) -> TrainerConfig:
        plan = self.run.plan
        return TrainerConfig(steps=steps, batch=plan.batch, learning_rate=plan.learning_rate,
                             gate_learning_rate=plan.gate_learning_rate, seed=self.run.seed,
                             warm_up=round(self.run.warm_up * steps), checkpoint_every=plan.checkpoint_every)

    def _costs(self, cost: AdaptationCost, report: TrainingReport) -> dict[str, Any]:
        macs = {'encoders': cost.encoders, 'reading': cost.reading, 'calibration': cost.calibration,
                'steps': report.steps * cost.step,
                'optimiser': report.steps * cost.optimiser}
        return {'row': self.run.row, 'seed': self.run.seed, 'steps': report.steps,
                'batch': self.run.plan.batch, 'learning_rate': self.run.plan.learning_rate,
                'parameters': report.parameters, 'macs': macs, 'seconds': report.seconds,
                'final_loss': report.final_loss, 'beforehand': measure_beforehand(self.method)}

    def _right(self) -> list[int]:
        return right_answers(self.method, self.data.test, self.book)

    def _keep_link(self, folder: Path) -> None:
        for link in self.method.links().values():
            save_link(link, folder / LINK)

    def _say(self, cost: AdaptationCost, step: TrainingStep, value: float) -> None:
        print(f'{self.run.row}, seed {self.run.seed}: step {step.step} of {step.steps}, '
              f'{cost.at(step.step) / TERA:.2f} TMAC, loss {step.loss:.2f}, '
              f"{100 * value:.1f} % of the curve's questions", flush=True)


class Curve:
    """Measures the accuracy after chosen steps; kept on disk for resumed runs.

    values: step -> share of right answers.
    """

    def __init__(self, path: Path, steps: Sequence[int], measure: Callable[[], float],
                 show: Callable[[TrainingStep, float], None]) -> None:
        self.path, self.steps, self.measure, self.show = path, frozenset(steps), measure, show
        known = json.loads(path.read_bytes()) if path.is_file() else {}
        self.values: dict[int, float] = {int(step): value for step, value in known.items()}

    def __call__(self, step: TrainingStep) -> None:
        """Measure if this step is a point of the curve."""
        if step.step in self.steps:
            self._measure(step.step)
            self.show(step, self.values[step.step])

    def complete(self, last: int) -> None:
        """Measure the last point if a previous process was killed before it."""
        if last not in self.values:
            self._measure(last)

    def _measure(self, step: int) -> None:
        self.values[step] = self.measure()
        write_file(self.path, json.dumps(self.values).encode())


def forget_peak() -> None:
    """Reset the peak memory of this process, if Linux permits it."""
    with suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')


def new_method(run: Run, train: TokenDataset, lm: LanguageModel) -> Method:
    """The method of a run with an untrained link to the tokens of the data or to learned constants."""
    torch.manual_seed(run.seed)
    tokens = train.frames[train.examples[0].frame][run.modality]
    method = create_method(run.method, lm)
    method.plug(method.new_link(run.modality, tokens.encoder, tokens.width, **run.plan.link))
    return blind_method(method) if run.blind else method


def right_answers(method: Method, test: TokenDataset, book: PreparedQuestions) -> list[int]:
    """1 for each question with a right answer, 0 for the others, in order."""
    answers = answers_of(method, test.examples, book, lambda example: test.frames[example.frame])
    return [int(answer == example.answer) for answer, example in zip(answers, test.examples, strict=True)]


if __name__ == '__main__':
    sys.exit(main())
