"""Options of the trainer of links."""
from __future__ import annotations

from dataclasses import dataclass

from mpnp_ros.options import Options, option

PARTS = {'all': ('all', 'aligners', 'worth', 'trust'), 'aligners': ('aligners',), 'worth': ('worth', 'trust'),
         'trust': ('trust',)}
"""Groups of parameters that each part consists of, beside the gates; MethodSpec says which is in which."""


@dataclass(frozen=True)
class TrainerConfig(Options):
    """How to train.  Raises OptionError for values out of range.

    Learning rates rise over `warm_up` steps and fall linearly from there.  With a limit of seconds they fall
    with time where steps are slow, and the result depends on the machine.
    """

    steps: int = option(300, 'training steps, of `batch` questions each', low=1)
    batch: int = option(64, 'questions per step, over all processes', low=1)
    learning_rate: float = option(1e-3, 'highest learning rate of aligners', low=1e-30)
    gate_learning_rate: float = option(1e-2, 'highest learning rate of gates', low=1e-30)
    warm_up: int = option(60, 'steps over which learning rates rise', low=0)
    final_rate: float = option(.03, 'share of the learning rates that is left at the end', low=0, high=1)
    clip: float = option(1., 'largest norm of the gradient', low=1e-30)
    weight_decay: float = option(.01, 'weight decay', low=0)
    modality_dropout: float = option(
        .5, 'share of questions that see only a random non-empty part of their modalities', low=0, high=1)
    evaluate_every: int = option(50, 'steps between evaluations on the validation set', low=1)
    patience: int = option(
        0, 'evaluations without a better one after which training stops and keeps the best links; 0: never',
        low=0)
    stop_loss: float = option(0., 'training stops when the mean loss of the last 20 steps is below', low=0)
    stop_accuracy: float = option(
        0., 'training stops when the validation set is answered that well; 0: never', low=0)
    seconds: float = option(
        0., 'training stops when steps have taken so long; 0: no limit', unit='s', low=0)
    checkpoint_every: int = option(100, 'steps between checkpoints', low=1)
    part: str = option(
        'all', 'what of the links is trained beside their gates; all; aligners: from a reader that counts '
               'already to the language model; worth: what the counts of a sensor are worth; trust: only how '
               'far its word counts beside others', choices=tuple(PARTS))
    worth_rate: float = option(3e-2, 'learning rate of worth and trust', low=1e-30)
    seed: int = option(0, 'random seed')

    def rate(self, step: int, seconds: float = 0.) -> float:
        """Return the learning rate factor of a step, counted from 0, after so many seconds of steps."""
        done = max(step / self.steps, seconds / self.seconds if self.seconds else 0.)
        return min(1., (step + 1) / max(1, self.warm_up)) * max(self.final_rate, 1 - done)
