"""Costs of an adaptation by part, in multiply-accumulates (MACs)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from mpnp_ros.errors import BudgetError
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp_eas.method import MpnpEas
from mpnp_ros.methods.questions import AnsweredQuestion
from mpnp_ros.training.batches import BatchPlan, PreparedQuestions
from mpnp_ros.training.budget import ADAMW, measure_macs
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.trainer import calibration_samples

MEASURED_STEPS = 6
FIRST_SHARE = 1 / 64
TERA = 1e12


@dataclass(frozen=True)
class AdaptationCost:
    """MACs of an adaptation.

    encoders: all training frames, once; tokens are kept.  reading: all texts, once, through the blocks below
    the modalities.  calibration: trials of a method before training, e.g. which attentions to skip.  step:
    one forward and backward pass with the head, the mean of a few measured steps.  optimiser: per step.
    """

    encoders: float
    reading: float
    calibration: float
    step: float
    optimiser: float

    @property
    def once(self) -> float:
        """MACs before the first step."""
        return self.encoders + self.reading + self.calibration

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


def measure_cost(method: Method, book: PreparedQuestions, train: TokenDataset, encoding: float, batch: int,
                 seed: int) -> AdaptationCost:
    """The costs of training the links of a method; reads all questions into the book and calibrates.

    book: empty and without a cache on disk.  encoding: MACs of encoding all frames.
    """
    reading = measure_macs(lambda: book.read(train.examples))
    questions = [book[example] for example in train.examples]
    samples = calibration_samples(questions, train, seed)
    calibration = measure_macs(lambda: method.calibrate(*samples))
    step = _step_macs(method, questions, train, batch, seed)
    trained = sum(parameter.numel() for parameter in method.trainable_parameters())
    return AdaptationCost(encoding, reading, calibration, step, ADAMW * trained)


def measure_beforehand(method: Method) -> float:
    """MACs that a method spends once per language model, e.g. the distillation of mpnp_eas."""
    return measure_macs(method.distil) if isinstance(method, MpnpEas) else 0


def curve_steps(steps: int, points: int, avoided: int) -> list[int]:
    """The steps at which a curve is measured, evenly on a logarithmic axis and including the last step.

    avoided: the period of checkpoints; only the last point may be a multiple of it.  A run that is killed
    during a measurement resumes at a checkpoint and must reach the point again.
    """
    shares = [FIRST_SHARE ** (place / max(1, points - 1)) for place in reversed(range(points))]
    placed = [max(1, round(share * steps)) for share in shares]
    return [min(steps, step + (step % avoided == 0)) for step in placed]


def _step_macs(method: Method, questions: Sequence[AnsweredQuestion], train: TokenDataset, batch: int,
               seed: int) -> float:
    """Mean MACs of the first steps of a training; the optimiser does not run."""
    plan = BatchPlan([question.question.prepared.prompt_tokens for question in questions], batch, seed)

    def step(number: int) -> None:
        places = plan[number]
        frames = [train.frames[train.examples[place].frame] for place in places]
        with method.lm.autocast():
            losses = method.answer_losses([questions[place] for place in places], frames)
        losses.mean().backward()

    macs = [measure_macs(lambda number=number: step(number)) for number in range(MEASURED_STEPS)]
    for parameter in method.trainable_parameters():
        parameter.grad = None
    return fmean(macs)
