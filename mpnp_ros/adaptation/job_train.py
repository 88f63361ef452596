"""The second stage of an adaptation job: train with the upper blocks only, and store improved links.

Without labels, trusted modalities teach a new one: their answers are the labels.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mpnp_ros.adaptation.job import (
    CANCELLED,
    CHECKPOINT,
    TRAINED,
    WORSE,
    JobProgress,
    JobResult,
    JobSpec,
    NewLink,
)
from mpnp_ros.adaptation.job_prepare import (
    Cancelled,
    Preparation,
    ProgressCallback,
    draw,
    initial_links,
    links_beside,
    untrained,
)
from mpnp_ros.adaptation.moments import balanced
from mpnp_ros.adaptation.policy import DISTILLED
from mpnp_ros.errors import TrainingError
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.upper_blocks import load_upper_blocks
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link import Link, TokenBatch
from mpnp_ros.methods.link_files import AdaptationRecord, Provenance
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.link import fuse
from mpnp_ros.methods.questions import Reply
from mpnp_ros.methods.registry import create_method, find_method
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.budget import Spent, measure_macs, peak_memory
from mpnp_ros.training.calibration import MIN_FRAMES, fit_worth
from mpnp_ros.training.checkpoint import Tensors, link_tensors, restore_links
from mpnp_ros.training.dataset import Example, Frame, TokenDataset
from mpnp_ros.training.evaluation import evaluate, majority, replies_of
from mpnp_ros.training.trainer import Trainer, TrainingReport, TrainingStep

Accept = Callable[[Example, Reply], bool]

NOISE = .01
"""Share of additional wrong held-out answers that still counts as equal; at least one standard error."""
SHARE_OF_STEPS, MIN_SECONDS = .85, 1.
"""Share of the remaining time for steps, the rest is for evaluations; and its minimum in seconds."""
CLEAR = 2
"""Multiple of the noise of an accuracy by which a comparison with a trusted sensor must raise it."""
MIN_HELD_OUT = 50
"""Minimum of held-out questions for offering initial links before training has ended."""


def confident(at_least: float) -> Accept:
    """Return a filter for replies of at least a confidence, 0..1."""
    return lambda example, reply: reply.confidence >= at_least


def distilled(dataset: TokenDataset, method: Method, teachers: Collection[str],
              students: Collection[str] = (), accept: float | Accept = .6,
              book: PreparedQuestions | None = None, cancelled: Callable[[], bool] | None = None,
              by: str = 'type', seed: int = 0) -> TokenDataset:
    """Return the questions of a data set with the answers of the method from the tokens of the teachers.

    The answers of the data set are ignored.  Frames without tokens of a teacher or of any student, questions
    without choices, and answers without linked teachers are left out, so the result may be empty.  A turned
    frame is answered separately.

    students: modalities of the result, default: all.  accept: minimum confidence of used answers, or a
    function that selects answers.  book: questions read before.  cancelled: called before every batch;
    answers until then are used.  by: balancing of the answers, see
    :func:`~mpnp_ros.adaptation.moments.balanced`; empty: none.
    """
    def part(frame: Frame, modalities: Collection[str]) -> Frame:
        return {name: tokens for name, tokens in frame.items() if name in modalities}

    seen = {key: part(frame, teachers) for key, frame in dataset.frames.items()}
    shown = {key: part(frame, students) if students else frame for key, frame in dataset.frames.items()}
    asked = [example for example in dataset.examples
             if example.choices and seen[example.frame] and shown[example.frame]]
    accepted = accept if callable(accept) else confident(accept)
    replies = replies_of(method, asked, book or PreparedQuestions(method),
                         lambda example: seen[example.frame], cancelled=cancelled) if asked else []
    labelled = tuple(replace(example, answer=reply.text)
                     for example, reply in zip(asked, replies, strict=True)
                     if reply is not None and reply.used and accepted(example, reply))
    used = {example.frame for example in labelled}
    result = replace(dataset, frames={key: shown[key] for key in shown if key in used}, examples=labelled)
    return balanced(result, by, seed) if by else result


def train(folder: Path, progress: ProgressCallback, cancelled: Cancelled, before: float = 0.) -> JobResult:
    """Train, and store new links that answer no worse than the initial ones.

    before: seconds of this stage that have passed already.  Raises TrainingError for NaN or an unread job,
    and the errors of links and weights.
    """
    prepared, spec = Preparation.load(folder), JobSpec.load(folder)
    if prepared is None:
        raise TrainingError(f'the questions of {folder} have not been read; run its first stage')
    torch.set_num_threads(spec.threads)
    if find_method(spec.method).trains_whole_model:
        lm = load_language_model(spec.language_model, spec.device, spec.dtype)
    else:
        lm = load_upper_blocks(spec.language_model, prepared.first, spec.device, spec.dtype, prepared.choices)
    method = create_method(spec.method, lm)
    return _Training(folder, spec, prepared, method, progress, cancelled, before).work()


class RequiredAccuracy(NamedTuple):
    """An accuracy on held-out questions, 0..1, that new links must reach, and its origin."""

    accuracy: float
    origin: str


class _Training:
    """One run of the second stage.

    sources: modality -> name of its initial links; empty for untrained ones.
    """

    def __init__(self, folder: Path, spec: JobSpec, prepared: Preparation, method: Method,
                 progress: ProgressCallback, cancelled: Cancelled, before: float) -> None:
        self.folder, self.spec, self.prepared, self.method = folder, spec, prepared, method
        self.on_progress, self.cancelled, self.started = progress, cancelled, time.monotonic() - before
        self.train, self.held_out = draw(spec, folder)
        for link in links_beside(spec, method.lm):
            method.plug(link)
        self.book = PreparedQuestions(method, QuestionFiles(spec.questions))
        self.store = LinkStore(spec.store)
        self.macs, self.sources = prepared.macs, dict.fromkeys(spec.modalities, '')
        self.progress = JobProgress('evaluating')

    def work(self) -> JobResult:
        """Run from the choice of initial links to versions in the store."""
        if self.spec.supervision == DISTILLED:
            # by the teachers alone, so that links are not compared with their own answers
            self.held_out = self._labelled(self.held_out, self.spec.teachers)
        before = max(self._choose_initial_link(new) for new in self.spec.new)
        paired = self._paired_frames()
        if self.spec.supervision == DISTILLED and not paired:
            # with the initial links, the answers are right more often than those of the teachers alone
            seeing = [name for name, source in self.sources.items() if source]
            self.train = self._labelled(self.train, (*self.spec.teachers, *seeing))
            if not self.train.examples:
                raise TrainingError(f'{" and ".join(self.spec.teachers)} answered no question with a '
                                    f'confidence of {self.spec.confidence:g}; wait for better answers or '
                                    'lower it')
        self._report(accuracy=before, start_accuracy=before)
        # initial links are worth using if they are clearly better than the most frequent answers
        useful = (len(self.held_out.examples) >= MIN_HELD_OUT and all(self.sources.values())
                  and before > self.blind + NOISE)
        if self.spec.only_try and not useful:
            return self._result(WORSE, f'the initial links answer {before:.1%} of '
                                f'{len(self.held_out.examples)} questions rightly, the most frequent answers '
                                f'{self.blind:.1%}', before, before, 0)
        if self.spec.only_try:
            result = self._result(TRAINED, 'initial links, not trained yet', before, before, 0)
            return replace(result, links=self._save_initial(before))
        if self.spec.offer_starts and useful:
            self._report(offers=self._save_initial(before))
        initial = link_tensors(self._own())
        required = max(RequiredAccuracy(before - self._noise(before), 'the links before'),
                       RequiredAccuracy(self.blind, 'the most frequent answers'))
        least = max(self.spec.budget.accuracy, required.accuracy)
        report = self._fit_worth(paired) if paired else self._fit(least)
        self.macs += report.macs_per_step * report.steps
        if report.stopped == 'cancelled':
            return self._result(CANCELLED, 'cancelled; the job can be resumed from its last step', before,
                                math.nan, report.steps)
        after = self._accuracy() if paired else self._average(initial, max(least, before))
        # A sound sensor needs no correction, least of all one that only makes it agree with another sensor.
        gained = after > before + CLEAR * self._noise(before) if paired else after >= before
        if not gained and (paired or after >= required.accuracy):
            restore_links(self._own(), initial)
            after = before
        self._report(accuracy=after)
        return self._conclude(before, required, after, report)

    def _choose_initial_link(self, new: NewLink) -> float:
        """Plug the initial link with the best accuracy on held-out questions; return it, 0..1."""
        if self.prepared.begins_anew:
            candidates = [('', untrained(self.spec, new, self.method, self.prepared.linked_blocks))]
        else:
            candidates = initial_links(self.spec, new, self.method)
        accuracies = []
        for _, link in candidates:
            self.method.replace(link)
            accuracies.append(self._accuracy())
        best = max(range(len(candidates)), key=accuracies.__getitem__)
        self.sources[new.modality], link = candidates[best]
        self.method.replace(link)
        return accuracies[best]

    def _accuracy(self) -> float:
        """Return the accuracy on held-out questions from the trained modalities alone; NaN without any."""
        if not self.held_out.examples:
            return math.nan
        alone = self.held_out.only(self.spec.modalities)
        found: list[float] = []
        self.macs += measure_macs(lambda: found.append(evaluate(self.method, alone, self.book).value))
        return found[0]

    @property
    def blind(self) -> float:
        """Return the accuracy of the most frequent answer to each type of question on the held-out ones.

        It is by type and not by text: a buffer has few streets, where the same question often has the same
        answer a moment later, which tells nothing about other streets.
        """
        if not self.held_out.examples:
            return math.nan

        def by_type(dataset: TokenDataset) -> TokenDataset:
            return replace(dataset, examples=tuple(replace(example, question=example.type)
                                                   for example in dataset.examples))

        return majority(by_type(self.train), by_type(self.held_out)).value

    @property
    def _seconds(self) -> float:
        """Return the seconds of both stages so far."""
        return self.prepared.seconds + time.monotonic() - self.started

    def _save_initial(self, accuracy: float) -> dict[str, str]:
        """Store the initial links; return the folders."""
        return self._save(AdaptationRecord(
            self.spec.supervision, accuracy_before=accuracy, accuracy_after=accuracy,
            accuracy_blind=self.blind, seconds=self._seconds, macs=self.macs))

    def _labelled(self, dataset: TokenDataset, teachers: Sequence[str]) -> TokenDataset:
        """Return the questions with confident answers of some modalities."""
        found: list[TokenDataset] = []
        self.macs += measure_macs(lambda: found.append(distilled(
            dataset, self.method, teachers, accept=self.spec.confidence, book=self.book,
            cancelled=self.cancelled)))
        return found[0]

    def _paired_frames(self) -> list[Frame]:
        """Return frames with tokens of trusted and learning sensors, if all links share one reader.

        There are none with labelled questions, or if they are too few.
        """
        own, links = self._own().values(), self.method.links()
        trusted = [links[name] for name in self.spec.teachers] if self.spec.supervision == DISTILLED else []
        alike = trusted and all(self.sources.values()) and all(
            link.reads_like(trusted[0]) for link in (*own, *trusted))
        names = {*self.spec.modalities, *self.spec.teachers}
        frames = [frame for frame in self.train.frames.values() if names <= frame.keys()] if alike else []
        return frames if len(frames) >= MIN_FRAMES else []

    def _fit_worth(self, frames: Sequence[Frame]) -> TrainingReport:
        """Fit the worth of counts, in one step, by comparison with trusted sensors in the same frames."""
        links, started, device = self.method.links(), time.monotonic(), self.method.lm.device
        seen = {name: TokenBatch.stack([frame[name] for frame in frames], device)
                for name in (*self.spec.modalities, *self.spec.teachers)}
        with torch.no_grad():
            trusted = [links[name] for name in self.spec.teachers]
            known = fuse([(link.count(seen[link.config.modality]), link.worth, link.gates.max())
                          for link in trusted]).counts
            for name, link in self._own().items():
                fit_worth(link.worth, link.counts_of(seen[name]), known)
        parameters = sum(parameter.numel() for link in self._own().values()
                         for parameter in link.worth.parameters())
        return TrainingReport(f'the comparison with {" and ".join(self.spec.teachers)}', 1, (), (),
                              parameters, time.monotonic() - started, 0, peak_memory(device))

    def _fit(self, least: float) -> TrainingReport:
        """Train; `least` is the accuracy at which training may stop.

        Initial links that count learn only the worth of their counts, which needs the fewest questions.
        """
        from_initial = all(self.sources.values())
        worth = from_initial and all(getattr(link, 'worth', None) for link in self._own().values())
        left = self.spec.budget.seconds_left(Spent(self._seconds))
        rate = self.spec.training.learning_rate if from_initial else self.spec.anew_learning_rate
        config = replace(self.spec.training, learning_rate=rate, steps=self.prepared.steps,
                         batch=self.prepared.batch, part='worth' if worth else 'all',
                         stop_accuracy=least if self.spec.budget.accuracy else 0.,
                         seconds=max(MIN_SECONDS, left * SHARE_OF_STEPS) if math.isfinite(left) else 0.)
        trainer = Trainer(self.method, config, self.book, self.spec.modalities)
        validation = self.held_out.only(self.spec.modalities) if self.held_out.examples else None

        def on_step(step: TrainingStep) -> None:
            known = self.progress.accuracy if step.accuracy is None else step.accuracy
            self._report(stage='training', step=step.step, steps=step.steps, loss=step.loss, accuracy=known)

        return trainer.fit(self.train, validation, on_step, self.cancelled, self.folder / CHECKPOINT)

    def _average(self, initial: Tensors, least: float) -> float:
        """Average the initial and the trained links unless these are clearly better; return the accuracy.

        least: accuracy that the average must reach if the trained links do.  Held-out questions are from the
        streets of the training.  The average of the initial links and the result of a small training set
        generalises better (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
        """
        trained, accuracy = link_tensors(self._own()), self._accuracy()
        if not all(self.sources.values()):
            return accuracy
        restore_links(self._own(), {name: _midway(initial[name], tensor) for name, tensor in trained.items()})
        averaged = self._accuracy()
        if averaged >= min(accuracy, max(least, accuracy - self._noise(accuracy))):
            return averaged
        restore_links(self._own(), trained)
        return accuracy

    def _noise(self, accuracy: float) -> float:
        """Return the noise of an accuracy on held-out questions: at least one standard error."""
        return max(NOISE, math.sqrt(accuracy * (1 - accuracy) / max(1, len(self.held_out.examples))))

    def _own(self) -> dict[str, Link]:
        """Return the trained links."""
        links = self.method.links()
        return {name: links[name] for name in self.spec.modalities}

    def _report(self, **changes: Any) -> None:
        """Report the progress with some changed fields."""
        seconds = self._seconds
        left = self.spec.budget.seconds_left(Spent(seconds))
        self.progress = replace(self.progress, seconds=seconds, remaining=left, macs=self.macs,
                                memory=peak_memory(self.method.lm.device), **changes)
        self.on_progress(self.progress)
        self.progress = replace(self.progress, offers={})

    def _conclude(self, before: float, required: RequiredAccuracy, after: float,
                  report: TrainingReport) -> JobResult:
        """Store the links if they are accurate enough; return the result."""
        def known(accuracy: float) -> float | None:
            return accuracy if math.isfinite(accuracy) else None

        if after < required.accuracy:
            return self._result(WORSE, f'the new links are not offered: they answer {after:.1%} of the '
                                f'held-out questions rightly; to be as good as {required.origin} they '
                                f'must answer {required.accuracy:.1%}', before, after, report.steps)
        result = self._result(TRAINED, f'stopped by {report.stopped}', before, after, report.steps)
        links = self._save(AdaptationRecord(
            self.spec.supervision, questions=len(self.train.examples), steps=report.steps,
            seconds=result.seconds, macs=result.macs, peak_bytes=result.peak_bytes,
            accuracy_before=known(before), accuracy_after=known(after), accuracy_blind=known(self.blind)))
        return replace(result, links=links)

    def _save(self, adaptation: AdaptationRecord) -> dict[str, str]:
        """Store a version of each trained link; return the folders."""
        saved = {}
        for name in self.spec.modalities:
            own = replace(adaptation, started_from=self.sources[name])
            text = f'adapted on a robot: {len(self.train.examples)} questions, {own.steps} steps'
            stored = self.store.save(self.method.links()[name], Provenance(text=text, adaptation=own))
            saved[name] = str(stored.path)
        return saved

    def _result(self, status: str, message: str, before: float, after: float, steps: int) -> JobResult:
        """Return a result with the costs so far."""
        return JobResult(
            status, message, accuracy=after, start_accuracy=before, blind_accuracy=self.blind,
            held_out=len(self.held_out.examples), questions=len(self.train.examples), steps=steps,
            seconds=self._seconds, reading_seconds=self.prepared.seconds,
            macs=self.macs, peak_bytes=peak_memory(self.method.lm.device))


def _midway(initial: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
    return (initial + trained) / 2 if initial.is_floating_point() else trained
