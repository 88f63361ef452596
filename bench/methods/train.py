"""Train one method in its own process and write the result; started by bench.methods.

    python -m bench.methods.train FOLDER DATA

A stopped or killed process leaves a checkpoint, from which the next process resumes.
"""
from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from bench.common.accuracy import right_answers
from bench.common.jobs import RESULT
from bench.methods.data import BenchData, distinct_frames
from bench.methods.plan import Run
from mpnp_ros.cli.signals import CANCELLED, interruptible
from mpnp_ros.errors import BudgetError, MpnpError, TrainingError
from mpnp_ros.files import write_file
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import load_link, save_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp_eas.method import MpnpEas
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.rule import parse_question
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.training.batches import BatchPlan, PreparedQuestions
from mpnp_ros.training.budget import ADAMW, measure_macs, peak_memory
from mpnp_ros.training.checkpoint import link_tensors, restore_links
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.evaluation import answers_of, evaluate
from mpnp_ros.training.painted_questions import PaintedDataset
from mpnp_ros.training.reader_trainer import ReaderConfig, ReaderStep, ReaderTraining
from mpnp_ros.training.trainer import Trainer, TrainerConfig, TrainingStep, blind_method, calibration_samples
from mpnp_ros.training.true_objects import counting

CURVE, CHECKPOINT, LINK = 'curve.json', 'checkpoint', 'link'
READER, COST, RATES = 'reader', 'cost.json', 'rates.json'
SHOWN_EVERY = 100
CANCELLED_REPORT = 'cancelled'
MEASURED_STEPS = 6
FIRST_SHARE = 1 / 64
TERA = 1e12


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and write the result; returns the exit code."""
    folder, data = map(Path, arguments or sys.argv[1:])
    try:
        with interruptible() as stopped:
            run = Run.load(folder)
            training = MethodTraining(run, BenchData.load(data), load_language_model(run.language_model))
            with suppress(OSError):  # reset the peak memory of this process, if Linux permits it
                Path('/proc/self/clear_refs').write_text('5')
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
    """Training of a method with a new link to the tokens of the data, or to learned constants.

    lm: the language model, frozen.
    """

    def __init__(self, run: Run, data: BenchData, lm: LanguageModel) -> None:
        self.run, self.data = run, data
        torch.manual_seed(run.seed)
        tokens = data.train.frames[data.train.examples[0].frame][run.modality]
        method = create_method(run.method, lm)
        counts = counting(CHANNELS) if run.plan.reader else {}
        method.plug(method.new_link(run.modality, tokens.encoder, tokens.width, **counts, **run.plan.link))
        self.method = blind_method(method) if run.blind else method
        self.book = PreparedQuestions(self.method)

    def work(self, folder: Path, stopped: Callable[[], bool]) -> dict[str, Any] | None:
        """Train within the budget and answer the test; returns the result, or None if stopped."""
        run, plan, data = self.run, self.run.plan, self.data
        encoding = 0 if run.blind else data.encoder_macs * distinct_frames(data.train, run.modality)
        reader = self.train_reader(folder) if plan.reader and not run.blind else ReaderCost()
        cost = measure_cost(self.method, self.book, data.train, encoding, reader.macs, plan.batch, run.seed)
        rate = self.choose_rate(folder, stopped) if run.rates else plan.learning_rate
        if rate is None:
            return None
        steps = cost.steps_within(run.budget, run.max_steps)
        points = curve_steps(steps, run.points, plan.checkpoint_every)

        def show(step: TrainingStep, value: float) -> None:
            print(f'{run.row}, seed {run.seed}: step {step.step} of {step.steps}, '
                  f'{cost.at(step.step) / TERA:.2f} TMAC, loss {step.loss:.2f}, '
                  f"{100 * value:.1f} % of the curve's questions", flush=True)

        curve = Curve(folder / CURVE, points,
                      lambda: evaluate(self.method, data.curve, self.book).value, show)
        report = Trainer(self.method, self.settings(steps, rate), self.book).fit(
            data.train, progress=curve, cancelled=stopped, checkpoint=folder / CHECKPOINT)
        if report.stopped == CANCELLED_REPORT:
            return None
        curve.complete(points[-1])
        peak = peak_memory(self.method.lm.device)
        for link in self.method.links().values():
            save_link(link, folder / LINK)
        macs = {'encoders': cost.encoders, 'reader': cost.reader, 'reading': cost.reading,
                'calibration': cost.calibration, 'steps': report.steps * cost.step,
                'optimiser': report.steps * cost.optimiser}
        # What a method spends once per language model: the distillation of mpnp_eas.
        beforehand = measure_macs(self.method.distil) if isinstance(self.method, MpnpEas) else 0
        answers = answers_of(self.method, data.test.examples, self.book,
                             lambda example: data.test.frames[example.frame])
        return {'row': run.row, 'seed': run.seed, 'steps': report.steps, 'batch': plan.batch,
                'learning_rate': rate, 'parameters': report.parameters, 'macs': macs,
                'seconds': reader.seconds + report.seconds, 'final_loss': report.final_loss,
                'beforehand': beforehand, 'peak_bytes': peak,
                'right': right_answers(data.test.examples, answers),
                'curve': [[cost.at(step), curve.values[step], reader.questions + step * plan.batch]
                          for step in points]}

    def settings(self, steps: int, rate: float) -> TrainerConfig:
        """A training of so many steps at a learning rate, which LoRA has, too."""
        run, plan = self.run, self.run.plan
        return TrainerConfig(steps=steps, batch=plan.batch, learning_rate=rate, lora_rate=rate,
                             gate_learning_rate=plan.gate_learning_rate, seed=run.seed,
                             warm_up=round(run.warm_up * steps), checkpoint_every=plan.checkpoint_every,
                             part='all' if run.blind else plan.part)

    def choose_rate(self, folder: Path, stopped: Callable[[], bool]) -> float | None:
        """The rate with the lowest loss in the second half of a short training; None if stopped.

        The losses are kept on disk.
        """
        run, path = self.run, folder / RATES
        losses: list[float] = json.loads(path.read_bytes()) if path.is_file() else []
        links = self.method.links()
        initial = link_tensors(links)
        for rate in run.rates[len(losses):]:
            try:
                report = Trainer(self.method, self.settings(run.rate_steps, rate), self.book).fit(
                    self.data.train, cancelled=stopped)
                if report.stopped == CANCELLED_REPORT:
                    return None
                losses.append(fmean(report.losses[run.rate_steps // 2:]))
            except TrainingError:  # the loss was not finite
                losses.append(math.inf)
            restore_links(links, initial)
            print(f'{run.row}, seed {run.seed}: rate {rate:g} tried, loss {losses[-1]:.3f}', flush=True)
            write_file(path, json.dumps(losses).encode())
        return run.rates[losses.index(min(losses))]

    def train_reader(self, folder: Path) -> ReaderCost:
        """Train the reader of the link on the questions of the training; a finished reader is kept."""
        place, modality = folder / READER, self.run.modality
        if not (place / COST).is_file():
            meanings = {text: meaning for text in {example.question for example in self.data.train.examples}
                        if (meaning := parse_question(text))}
            asked = replace(self.data.train, examples=tuple(
                example for example in self.data.train.examples if example.question in meanings))
            training = ReaderTraining(self.method, modality, PaintedDataset(asked, meanings),
                                      ReaderConfig(**self.run.plan.reader, seed=self.run.seed))

            def show(step: ReaderStep) -> None:
                if step.step % SHOWN_EVERY == 0 or step.step == step.steps:
                    print(f'{self.run.row}, seed {self.run.seed}: {step.stage} {step.step} of {step.steps}, '
                          f'loss {step.loss:.2f}', flush=True)

            started = time.perf_counter()
            macs = measure_macs(lambda: training.run(show))
            optimiser = ADAMW * sum(map(torch.Tensor.numel, training.pooling.parameters())) * (
                training.config.word_steps + training.config.number_steps)
            save_link(training.link, place)
            config = training.config
            seen = config.word_steps * config.word_batch + config.number_steps * config.number_batch
            cost = ReaderCost(macs + optimiser, time.perf_counter() - started, seen)
            write_file(place / COST, json.dumps(asdict(cost)).encode())
        self.method.replace(load_link(place, lm=self.method.lm))
        return ReaderCost(**json.loads((place / COST).read_bytes()))


@dataclass(frozen=True)
class ReaderCost:
    """What it takes to train the reader of a counting link, with the optimiser.

    questions: seen in its steps.
    """

    macs: float = 0.
    seconds: float = 0.
    questions: int = 0


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


def curve_steps(steps: int, points: int, avoided: int) -> list[int]:
    """The steps at which a curve is measured, evenly on a logarithmic axis and including the last step.

    avoided: the period of checkpoints; only the last point may be a multiple of it.  A run that is killed
    during a measurement resumes at a checkpoint and must reach the point again.
    """
    shares = [FIRST_SHARE ** (place / max(1, points - 1)) for place in reversed(range(points))]
    placed = [max(1, round(share * steps)) for share in shares]
    return [min(steps, step + (step % avoided == 0)) for step in placed]


@dataclass(frozen=True)
class AdaptationCost:
    """MACs of an adaptation.

    encoders: all training frames, once; tokens are kept.  reader: training of the reader of a counting link,
    with its own reading of all texts.  reading: all texts, once, through the blocks below
    the modalities.  calibration: trials of a method before training, e.g. which attentions to skip.  step:
    one forward and backward pass with the head, the mean of a few measured steps.  optimiser: per step.
    step and optimiser count the gradients of all parameters, also where a part of them is trained.
    """

    encoders: float
    reader: float
    reading: float
    calibration: float
    step: float
    optimiser: float

    @property
    def once(self) -> float:
        """MACs before the first step."""
        return self.encoders + self.reader + self.reading + self.calibration

    def at(self, steps: int) -> float:
        """All MACs after a number of steps."""
        return self.once + steps * (self.step + self.optimiser)

    def steps_within(self, budget: float, most: int) -> int:
        """The number of steps within a budget, at most `most`.  Raises BudgetError if it is 0."""
        steps = min(most, int((budget - self.once) // (self.step + self.optimiser)))
        if steps < 1:
            raise BudgetError(f'a budget of {budget / TERA:.2f} TMAC is too small for one step: '
                              f'{self.once / TERA:.2f} TMAC are spent before the first; '
                              'increase the budget or train on fewer texts')
        return steps


def measure_cost(method: Method, book: PreparedQuestions, train: TokenDataset, encoding: float, reader: float,
                 batch: int, seed: int) -> AdaptationCost:
    """The costs of training the links of a method; reads all questions into the book and calibrates.

    book: empty and without a cache on disk.  encoding: MACs of encoding all frames.  reader: MACs of training
    the reader.  The cost of a step is the mean of a few, without the optimiser.
    """
    reading = measure_macs(lambda: book.read(train.examples))
    questions = [book[example] for example in train.examples]
    samples = calibration_samples(questions, train, seed)
    calibration = measure_macs(lambda: method.calibrate(*samples))
    plan = BatchPlan([question.question.prepared.prompt_tokens for question in questions], batch, seed)

    def step(number: int) -> None:
        places = plan[number]
        frames = [train.frames[train.examples[place].frame] for place in places]
        with method.lm.autocast():
            losses = method.answer_losses([questions[place] for place in places], frames)
        losses.mean().backward()

    steps = fmean(measure_macs(partial(step, number)) for number in range(MEASURED_STEPS))
    for parameter in method.trainable_parameters():
        parameter.grad = None
    trained = sum(parameter.numel() for parameter in method.trainable_parameters())
    return AdaptationCost(encoding, reader, reading, calibration, steps, ADAMW * trained)


if __name__ == '__main__':
    sys.exit(main())
