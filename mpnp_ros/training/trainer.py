"""Training of the plugged links of a method on questions about cached tokens.

The language model stays frozen; only the probability of the answer is trained.  A step depends only on the
seed and its number, so a resumed run equals an uninterrupted one.  Several processes (`distributed.py`) share
the questions of a step.

The blind baseline has equal links to learned constants, trained by the same code on the same questions.
"""
from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import increment_version
from torch.nn.attention import SDPBackend, sdpa_kernel

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.questions import AnsweredQuestion
from mpnp_ros.methods.registry import create_method
from mpnp_ros.options import Options, option
from mpnp_ros.training.batches import BatchPlan, PreparedQuestions, drop_modalities
from mpnp_ros.training.budget import measure_macs, peak_memory, reset_peak_memory
from mpnp_ros.training.checkpoint import (
    TrainingState,
    link_tensors,
    load_checkpoint,
    restore_links,
    save_checkpoint,
)
from mpnp_ros.training.dataset import Frame, TokenDataset
from mpnp_ros.training.distributed import DistributedContext
from mpnp_ros.training.evaluation import evaluate

PARTS = {'all': ('all', 'aligners', 'worth', 'trust', 'lora'), 'aligners': ('aligners',),
         'worth': ('worth', 'trust'), 'trust': ('trust',)}
"""Groups of parameters in each part, beside the gates; MethodSpec assigns parameters to groups."""
RECENT = 20
SAMPLED_QUESTIONS, SAMPLED_FRAMES = 2048, 512
SOFT_TOKENS = 24
"""Learned constants of a blind link."""


@dataclass(frozen=True)
class TrainerConfig(Options):
    """Options of a training.  Raises OptionError for values out of range.

    Learning rates rise over `warm_up` steps and fall linearly from there.  With a limit of seconds they fall
    with time if steps are slow, and the result depends on the machine.
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
        0, 'evaluations without improvement after which training stops and keeps the best links; 0: never',
        low=0)
    stop_loss: float = option(0., 'mean loss of the last 20 steps below which training stops', low=0)
    stop_accuracy: float = option(0., 'validation accuracy at which training stops; 0: never', low=0)
    seconds: float = option(0., 'duration of all steps at which training stops; 0: no limit', unit='s', low=0)
    checkpoint_every: int = option(100, 'steps between checkpoints', low=1)
    part: str = option(
        'all', 'trained part of the links beside their gates; all; aligners: those between a trained reader '
               'and the language model; worth: the worth of the counts of a sensor; trust: only the weight '
               'of a sensor beside others', choices=tuple(PARTS))
    worth_rate: float = option(3e-2, 'learning rate of worth and trust', low=1e-30)
    lora_rate: float = option(5e-3, 'learning rate of LoRA (mpnp_published)', low=1e-30)
    seed: int = option(0, 'random seed')

    def rate(self, step: int, seconds: float = 0.) -> float:
        """Return the learning rate factor of a step, counted from 0, after so many seconds of steps."""
        done = max(step / self.steps, seconds / self.seconds if self.seconds else 0.)
        return min(1., (step + 1) / max(1, self.warm_up)) * max(self.final_rate, 1 - done)


@dataclass(frozen=True)
class TrainingStep:
    """Progress after one step: its number from 1, number of steps, loss, and newest accuracy or None."""

    step: int
    steps: int
    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class TrainingReport:
    """Result and measured costs of a training run.

    stopped: reason of its end: steps, seconds, loss, accuracy, patience or cancelled.  losses: of each step.
    accuracies: (step, value) on the validation set.  parameters: number of trained ones.  seconds: of steps,
    without evaluation.  macs_per_step: of the matrix products of a step, forward and backward.  peak_bytes:
    of GPU memory, or of this process.
    """

    stopped: str
    steps: int
    losses: tuple[float, ...]
    accuracies: tuple[tuple[int, float], ...]
    parameters: int
    seconds: float
    macs_per_step: int
    peak_bytes: int

    @property
    def seconds_per_step(self) -> float:
        """Return the mean seconds of a step."""
        return self.seconds / max(1, self.steps)

    @property
    def final_loss(self) -> float:
        """Return the mean loss of the last 20 steps; NaN before the first step."""
        recent = self.losses[-RECENT:]
        return sum(recent) / len(recent) if recent else math.nan


class Trainer:
    """Trains links that are plugged into a method; the others stay unchanged and contribute.

    With several processes, each calls :meth:`fit` with the same recipe and data; they stop together, with the
    same links.
    """

    def __init__(self, method: Method, config: TrainerConfig | None = None,
                 book: PreparedQuestions | None = None, trained: Iterable[str] = ()) -> None:
        """book: questions that a method with links to the same blocks has read.

        trained: modalities of the links to train; default: all plugged ones.  Raises TrainingError if a link
        to train is not plugged.
        """
        self.method = method
        self.config = config or TrainerConfig()
        self.book = book or PreparedQuestions(method)
        self.trained = tuple(trained) or tuple(method.links())
        if lost := set(self.trained) - method.links().keys():
            raise TrainingError(f'{", ".join(sorted(lost))} has no plugged link to train; plug one')

    def fit(self, train: TokenDataset, validation: TokenDataset | None = None,
            progress: Callable[[TrainingStep], None] | None = None,
            cancelled: Callable[[], bool] | None = None,
            checkpoint: str | Path | None = None) -> TrainingReport:
        """Train the links.

        progress: called after every step.  cancelled: called before every step and every batch of questions
        that is read or validated; the links stay as trained so far.  checkpoint: folder that is written
        periodically and at the end, and from which a stopped run resumes.  validation: the links end in their
        state at its best evaluation.  After an error, also TrainingError for NaN, the links are as before.
        """
        links = self.method.links()
        own = {name: links[name] for name in self.trained}
        before = link_tensors(own)
        trained = {id(parameter) for group in _groups(self.method, own, self.config)
                   for parameter in group['params']}
        others = {id(parameter): parameter for link in links.values() for parameter in link.parameters()
                  if id(parameter) not in trained}
        for parameter in others.values():
            parameter.requires_grad_(False)
        try:
            run = _Run(self.method, self.config, self.book, train, validation, own)
            return run.work(progress, cancelled or (lambda: False), Path(checkpoint) if checkpoint else None)
        except BaseException:
            restore_links(own, before)
            raise
        finally:
            for parameter in others.values():
                parameter.requires_grad_(True)


class _Run:
    """One call of :meth:`Trainer.fit`."""

    def __init__(self, method: Method, config: TrainerConfig, book: PreparedQuestions, train: TokenDataset,
                 validation: TokenDataset | None, links: Mapping[str, Link]) -> None:
        """links: those to train."""
        self.method, self.config, self.book = method, config, book
        self.processes = DistributedContext.current()
        self.train, self.validation, self.links = train, validation, links
        self.modalities = tuple(name for name, link in method.links().items() if not _is_blind(link))
        if not links:
            raise TrainingError('no link to train; plug the links first')
        if not train.examples:
            raise TrainingError('no questions to train on')
        if not any(_is_blind(link) for link in links.values()):
            for example in train.examples:
                if train.frames[example.frame].keys().isdisjoint(links):
                    raise TrainingError(
                        f'frame {example.frame} has tokens of none of the modalities whose links are trained '
                        f'({", ".join(links)}); encode it, or leave its questions out')
        groups = _groups(method, links, config)
        self.parameters = [parameter for group in groups for parameter in group['params']]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay,
                                           fused=True)
        self.state, self.macs = TrainingState(), 0
        self.folder: Path | None = None
        self.questions: list[AnsweredQuestion] = []

    def work(self, progress: Callable[[TrainingStep], None] | None, cancelled: Callable[[], bool],
             folder: Path | None) -> TrainingReport:
        """Run from reading the questions to the last step."""
        device = self.method.lm.device
        reset_peak_memory(device)
        stopped: str | None = None
        # each process runs a share of the texts through the blocks below the links, then all of them: with
        # questions on disk, no text is read twice
        for examples in (self.processes.share(self.train.examples), self.train.examples):
            if not stopped and self.processes.any(not self.book.read(examples, cancelled)):
                stopped = 'cancelled'
        stopped = stopped or self._begin(folder)
        while stopped is None:
            stopped = 'cancelled' if self.processes.any(cancelled()) else self._advance(progress, cancelled)
        self._save()
        if self.state.best is not None and stopped != 'cancelled':
            restore_links(self.links, self.state.best)
        state, trained = self.state, sum(parameter.numel() for parameter in self.parameters)
        return TrainingReport(stopped, state.step, tuple(state.losses), tuple(state.accuracies), trained,
                              state.seconds, self.macs, peak_memory(device))

    def _begin(self, folder: Path | None) -> str | None:
        """Set the statistics of the links, resume from a checkpoint, and count the MACs of a step.

        Returns why training ends already, None if it does not.
        """
        self.folder = folder
        self.questions = [self.book[example] for example in self.train.examples]
        self.method.calibrate(*calibration_samples(self.questions, self.train, self.config.seed))
        if folder is not None:
            self.state = load_checkpoint(folder, self._identity(), self.links, self.optimiser)
        self.processes.same(tensor for link in self.links.values() for tensor in link.state_dict().values())
        lengths = [answered.question.prepared.prompt_tokens for answered in self.questions]
        self.plan = BatchPlan(lengths, self.config.batch, self.config.seed)
        self.macs = int(self.processes.total(measure_macs(lambda: self._loss(0).backward())))
        self.optimiser.zero_grad()
        return self._finished()

    def _advance(self, progress: Callable[[TrainingStep], None] | None,
                 cancelled: Callable[[], bool]) -> str | None:
        """Run one evaluation or one step; return why training ends, None if it does not."""
        state = self.state
        if self.validation is not None and self._evaluation_is_due():
            self._evaluate(self.validation, cancelled)
            return self._finished()
        loss = self._step()
        if state.step % self.config.checkpoint_every == 0:
            self._save()
        if progress is not None:
            newest = state.accuracies[-1][1] if state.accuracies else None
            progress(TrainingStep(state.step, self.config.steps, loss, newest))
        return self._finished()

    def _step(self) -> float:
        """Train on the questions of one step; return the loss."""
        started, state, config = time.perf_counter(), self.state, self.config
        for group in self.optimiser.param_groups:
            group['lr'] = group['full_rate'] * config.rate(state.step, state.seconds)
        loss = self._loss(state.step)
        self.optimiser.zero_grad()
        loss.backward()
        loss = self.processes.add_gradients(self.parameters, loss)
        norm = nn.utils.clip_grad_norm_(self.parameters, config.clip)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise TrainingError(f'the loss is {value} at step {state.step + 1}; the links are as before '
                                'training: try a lower learning rate, and look at the tokens')
        self.optimiser.step()
        increment_version(self.parameters)  # a fused step does not, and what links keep goes by it
        state.step += 1
        state.losses.append(value)
        state.seconds += time.perf_counter() - started
        return value

    def _loss(self, step: int) -> torch.Tensor:
        """Return this process's part of the mean over all questions of the step."""
        rng = random.Random(f'{self.config.seed}/{step}')
        places = self.plan[step]
        seen = [(place, drop_modalities(self.train.frames[self.train.examples[place].frame], self.modalities,
                                        self.config.modality_dropout, rng, self.links)) for place in places]
        own, lm = self.processes.share(seen), self.method.lm
        if not own:
            return torch.zeros((), device=lm.device, requires_grad=True)
        # For rows as few as those of a question, the backward pass of the fused attention is slow on a CPU.
        plain = sdpa_kernel(SDPBackend.MATH) if lm.device.type == 'cpu' else nullcontext()
        with lm.autocast(), plain:
            losses = self.method.answer_losses([self.questions[place] for place, _ in own],
                                               [tokens for _, tokens in own])
            return losses.mean() * (len(own) / len(places))

    def _evaluation_is_due(self) -> bool:
        state = self.state
        done = state.accuracies[-1][0] if state.accuracies else 0
        return (self.validation is not None and state.step > done
                and state.step % self.config.evaluate_every == 0)

    def _evaluate(self, validation: TokenDataset, cancelled: Callable[[], bool]) -> None:
        """Measure the accuracy, unless it is cancelled, and keep the links if they are the best."""
        state, answered, value = self.state, 0., 0.
        if self.processes.is_first:
            accuracy = evaluate(self.method, validation, self.book, cancelled=cancelled)
            answered, value = accuracy.n, accuracy.value
        answered, value = self.processes.of_first((answered, value))
        if answered < len(validation.examples):
            return
        if value > state.best_accuracy:
            state.best = link_tensors(self.links)
        state.accuracies.append((state.step, value))

    def _finished(self) -> str | None:
        """Return why training ends, None if it does not."""
        state, config = self.state, self.config
        recent = state.losses[-RECENT:]
        if self._evaluation_is_due():
            return None
        if state.step >= config.steps:
            return 'steps'
        if 0 < config.seconds <= state.seconds:
            return 'seconds'
        if 0 < config.stop_accuracy <= state.best_accuracy:
            return 'accuracy'
        if len(recent) == RECENT and sum(recent) / RECENT < config.stop_loss:
            return 'loss'
        return 'patience' if 0 < config.patience <= state.evaluations_since_best else None

    def _save(self) -> None:
        """Write the checkpoint if there is a folder; no process continues before it is written."""
        if self.folder is not None and self.processes.is_first:
            save_checkpoint(self.folder, self._identity(), self.state, self.links, self.optimiser)
        self.processes.any(False)

    def _identity(self) -> str:
        """Return a sha256 of everything that must be equal to resume a run."""
        encoders = sorted({tokens.encoder for frame in self.train.frames.values()
                           for tokens in frame.values()})
        links = {name: link.config.to_dict() for name, link in self.links.items()}
        text = json.dumps([asdict(self.config), encoders, links,
                           [asdict(example) for example in self.train.examples]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def calibration_samples(questions: Iterable[AnsweredQuestion], train: TokenDataset,
                        seed: int) -> tuple[list[AnsweredQuestion], list[Frame]]:
    """Return different questions and frames for Method.calibrate."""
    asked = list({id(answered.question): answered for answered in questions}.values())
    frames = list({tuple(id(tokens.values) for tokens in frame.values()): frame
                   for frame in train.frames.values()}.values())
    rng = random.Random(seed)
    return (rng.sample(asked, min(SAMPLED_QUESTIONS, len(asked))),
            rng.sample(frames, min(SAMPLED_FRAMES, len(frames))))


def _is_blind(link: Link) -> bool:
    return link.config.soft_tokens > 0


def _groups(method: Method, own: Mapping[str, Link], config: TrainerConfig) -> list[dict[str, Any]]:
    """Return the trained parameters of the links in `own` by learning rate.

    Parameters that other plugged links share are not among them.
    """
    kept = {id(parameter) for name, link in method.links().items() if name not in own
            for parameter in link.parameters()}
    rates = {'gates': config.gate_learning_rate, 'worth': config.worth_rate, 'trust': config.worth_rate,
             'lora': config.lora_rate, 'aligners': config.learning_rate, 'all': config.learning_rate}
    groups: dict[str, dict[str, Any]] = {
        kind: {'params': [], 'full_rate': rate} for kind, rate in rates.items()
        if kind in ('gates', *PARTS[config.part])}
    patterns = method.spec.parameter_groups
    for name, parameter in nn.ModuleDict(dict(own)).named_parameters():
        inside = name.partition('.')[2]
        kind = next((group for group, known in patterns.items()
                     if any(fnmatchcase(inside, pattern) for pattern in known)), 'all')
        if kind in groups and id(parameter) not in kept:
            groups[kind]['params'].append(parameter)
    return [group for group in groups.values() if group['params']]


def blind_method(method: Method) -> Method:
    """Return the same method with an equal blind link in place of each link.

    Constants cannot be counted: the twin of a counting link pools by the question.  Raises ConfigurationError
    if a kind of link cannot be blind.
    """
    blind = create_method(method.name, method.lm, template=method.template)
    for modality, link in method.links().items():
        changes: dict[str, Any] = {'modality': f'blind_{modality}', 'encoder': '', 'soft_tokens': SOFT_TOKENS}
        if link.config.pooling == 'counting':
            changes |= {'pooling': 'question', 'channels': ()}
        config = replace(link.config, **changes)
        blind.plug(type(link)(config))
    return blind


def train_blind(method: Method, train: TokenDataset, config: TrainerConfig | None = None,
                validation: TokenDataset | None = None,
                progress: Callable[[TrainingStep], None] | None = None,
                cancelled: Callable[[], bool] | None = None,
                book: PreparedQuestions | None = None) -> tuple[Method, TrainingReport]:
    """Train the blind twin of a method, which answers from the text alone.  book: as in Trainer."""
    blind = blind_method(method)
    return blind, Trainer(blind, config, book).fit(train, validation, progress, cancelled)
