"""What an adaptation costs from nothing to its last step, every part of it in multiply-accumulates (MACs)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from mpnp_ros.adaptation.batches import BatchPlan, QuestionBook
from mpnp_ros.adaptation.cost import ADAMW, measure_macs
from mpnp_ros.adaptation.dataset import TokenDataset
from mpnp_ros.adaptation.trainer import calibration_samples
from mpnp_ros.errors import BudgetError
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp_eas.method import MpnpEas
from mpnp_ros.methods.questions import AnsweredQuestion

MEASURED_STEPS = 6
FIRST_SHARE = 1 / 64
TERA = 1e12


@dataclass(frozen=True)
class AdaptationCost:
    """MACs of an adaptation.

    encoders: all frames that are trained on, once; tokens are kept.  reading: all texts, once, as far as no
    modality has a say.  calibration: what a method tries before it is trained, such as which attentions can
    go.  step: of one step forward and backward, with the head; mean of a few that were measured.  optimiser:
    of one step.
    """

    encoders: float
    reading: float
    calibration: float
    step: float
    optimiser: float

    @property
    def once(self) -> float:
        """Before the first step."""
        return self.encoders + self.reading + self.calibration

    def at(self, steps: int) -> float:
        """All of it, after so many steps."""
        return self.once + steps * (self.step + self.optimiser)

    def steps_within(self, budget: float, most: int) -> int:
        """How many steps a budget pays, but not more than `most`.  Raises BudgetError where it pays none."""
        steps = min(most, int((budget - self.once) // (self.step + self.optimiser)))
        if steps < 1:
            raise BudgetError(f'{budget / TERA:.2f} TMAC pay for no step: what comes before the first takes '
                              f'{self.once / TERA:.2f}; give a larger budget, or train on fewer texts')
        return steps


def measure_cost(method: Method, book: QuestionBook, train: TokenDataset, encoding: float, batch: int,
                 seed: int) -> AdaptationCost:
    """Measure what training a method's links takes; reads all questions into the book and calibrates.

    book: empty, and not kept on disk, so that everything is read now.  encoding: MACs of encoding all frames.
    """
    reading = measure_macs(lambda: book.read(train.examples))
    questions = [book[example] for example in train.examples]
    samples = calibration_samples(questions, train, seed)
    calibration = measure_macs(lambda: method.calibrate(*samples))
    step = _step_macs(method, questions, train, batch, seed)
    trained = sum(parameter.numel() for parameter in method.trainable_parameters())
    return AdaptationCost(encoding, reading, calibration, step, ADAMW * trained)


def measure_beforehand(method: Method) -> float:
    """MACs of what a method does once for a language model, whatever is adapted to: mpnp_eas distils."""
    return measure_macs(method.distil) if isinstance(method, MpnpEas) else 0


def curve_steps(steps: int, points: int, avoided: int) -> list[int]:
    """The steps after which a curve is measured: evenly on a logarithmic axis, the last step among them.

    avoided: none at multiples of this but the last, as checkpoints are written there: a run that is killed
    while it measures must come past that step again.
    """
    shares = [FIRST_SHARE ** (place / max(1, points - 1)) for place in reversed(range(points))]
    placed = [max(1, round(share * steps)) for share in shares]
    return [min(steps, step + (step % avoided == 0)) for step in placed]


def _step_macs(method: Method, questions: Sequence[AnsweredQuestion], train: TokenDataset, batch: int,
               seed: int) -> float:
    """Of the first steps of a training, without taking them."""
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
