"""The second stage of an adaptation: train with the upper blocks only, and store improved links.

Where labels are missing, trusted modalities teach a new one: their answers are the labels.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

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
from mpnp_ros.adaptation.job_prepare import Cancelled, Preparation, Say, draw, links_beside, starts, untrained
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
FOR_STEPS, LEAST_SECONDS = .85, 1.
"""Share of the remaining budget for steps, the rest is for evaluations; and its minimum in seconds."""
LEAST_CHECK = 50
"""Minimum held-out questions for offering links before training has ended."""


def confident(at_least: float) -> Accept:
    """Return a filter for replies of at least some confidence, 0..1."""
    return lambda example, reply: reply.confidence >= at_least


def distilled(dataset: TokenDataset, method: Method, teachers: Collection[str],
              students: Collection[str] = (), accept: float | Accept = .6,
              book: PreparedQuestions | None = None, cancelled: Callable[[], bool] | None = None,
              by: str = 'type', seed: int = 0) -> TokenDataset:
    """Return the questions of a data set with the answers that the method gives from the teachers' tokens.

    The answers of the data set are ignored.  Frames without tokens of a teacher or of any student, questions
    without choices, and answers without linked teachers are omitted, so the result may be empty.  A turned
    frame is answered separately.
    students: modalities of the result, default: all.  accept: the least confidence of an answer to use, or a
    function that selects answers.  book: questions read before.  cancelled: called before every batch;
    answers until then are used.  by: balancing of the answers, see
    :func:`~mpnp_ros.adaptation.moments.balanced`; empty: none.
    """
    seen = {key: _part(frame, teachers) for key, frame in dataset.frames.items()}
    shown = {key: _part(frame, students) if students else frame for key, frame in dataset.frames.items()}
    asked = [one for one in dataset.examples if one.choices and seen[one.frame] and shown[one.frame]]
    accepted = accept if callable(accept) else confident(accept)
    replies = replies_of(method, asked, book or PreparedQuestions(method), lambda one: seen[one.frame],
                         cancelled=cancelled) if asked else []
    labelled = tuple(replace(example, answer=reply.text)
                     for example, reply in zip(asked, replies, strict=True)
                     if reply is not None and reply.used and accepted(example, reply))
    used = {example.frame for example in labelled}
    result = replace(dataset, frames={key: shown[key] for key in shown if key in used}, examples=labelled)
    return balanced(result, by, seed) if by else result


def _part(frame: Frame, modalities: Collection[str]) -> Frame:
    return {name: tokens for name, tokens in frame.items() if name in modalities}


def train(folder: Path, say: Say, cancelled: Cancelled, before: float = 0.) -> JobResult:
    """Train, and store new links that answer no worse than their start.

    before: seconds of this stage that have passed already.
    Raises TrainingError for NaN or an unread job, and the errors of links and weights.
    """
    reading, spec = Preparation.load(folder), JobSpec.load(folder)
    if reading is None:
        raise TrainingError(f'the questions of {folder} have not been read; run its first stage')
    torch.set_num_threads(spec.threads)
    if find_method(spec.method).trains_whole_model:
        lm = load_language_model(spec.language_model, spec.device, spec.dtype)
    else:
        lm = load_upper_blocks(spec.language_model, reading.first, spec.device, spec.dtype, reading.choices)
    return _Training(folder, spec, reading, create_method(spec.method, lm), say, cancelled, before).work()


class Floor(NamedTuple):
    """An accuracy on held-out questions, 0..1, that new links must reach, and its origin."""

    accuracy: float
    whose: str


class _Training:
    """One run of the second stage."""

    def __init__(self, folder: Path, spec: JobSpec, reading: Preparation, method: Method, say: Say,
                 cancelled: Cancelled, before: float) -> None:
        self.folder, self.spec, self.reading, self.method = folder, spec, reading, method
        self.say, self.cancelled, self.started = say, cancelled, time.monotonic() - before
        self.train, self.held_out = draw(spec, folder)
        for link in links_beside(spec, method.lm):
            method.plug(link)
        self.book = PreparedQuestions(method, QuestionFiles(spec.questions))
        self.store = LinkStore(spec.store)
        self.macs, self.begun_with = reading.macs, dict.fromkeys(spec.modalities, '')
        self.progress = JobProgress('evaluating')

    def work(self) -> JobResult:
        """Run from the choice of a start to versions in the store."""
        if self.spec.supervision == DISTILLED:
            self.held_out = self._labelled(self.held_out, self.spec.teachers)
        before = max(self._begin(new) for new in self.spec.new)
        shared = self._seen_together()
        if self.spec.supervision == DISTILLED and not shared:
            self._label()
        self._tell(accuracy=before, start_accuracy=before)
        if self.spec.only_try:
            return self._tried(before)
        self._offer(before)
        begun = link_tensors(self._own())
        floor = self._floor(before)
        least = max(self.spec.budget.accuracy, floor.accuracy)
        report = self._compare(shared) if shared else self._fit(least)
        self.macs += report.macs_per_step * report.steps
        if report.stopped == 'cancelled':
            return self._result(CANCELLED, 'cancelled; the job can be resumed from its last step', before,
                                math.nan, report.steps)
        after = self._accuracy() if shared else self._settle(begun, least)
        if shared and after < before:  # a sound sensor needs no correction
            restore_links(self._own(), begun)
            after = before
        return self._conclude(before, floor, after, report)

    def _begin(self, new: NewLink) -> float:
        """Plug the start with the best accuracy on held-out questions; returns it, 0..1."""
        if self.reading.begins_anew:
            found = [('', untrained(self.spec, new, self.method, self.reading.linked_blocks))]
        else:
            found = starts(self.spec, new, self.method)
        tried = [(self._accuracy_with(link), source, link) for source, link in found]
        best, self.begun_with[new.modality], link = max(tried, key=lambda one: one[0])
        self.method.replace(link)
        return best

    def _accuracy_with(self, link: Link) -> float:
        self.method.replace(link)
        return self._accuracy()

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

        By type and not by text: a buffer has few streets, where the same question often has the same answer a
        moment later, which is no knowledge about other streets.
        """
        if not self.held_out.examples:
            return math.nan
        return majority(_by_type(self.train), _by_type(self.held_out)).value

    @property
    def _seconds(self) -> float:
        """Return the seconds of both stages so far."""
        return self.reading.seconds + time.monotonic() - self.started

    def _sees(self, accuracy: float) -> bool:
        """Return whether the start is clearly better than the blind baseline."""
        known = len(self.held_out.examples) >= LEAST_CHECK and all(self.begun_with.values())
        return known and accuracy > self.blind + NOISE

    def _offer(self, accuracy: float) -> None:
        """Offer the start for use until training has ended."""
        if self.spec.offer_starts and self._sees(accuracy):
            self._tell(offers=self._save(self._untrained(accuracy)))

    def _tried(self, accuracy: float) -> JobResult:
        """Offer the evaluated start if it is useful."""
        if not self._sees(accuracy):
            return self._result(WORSE, f'what links could begin with answers {accuracy:.1%} of '
                                f'{len(self.held_out.examples)} questions rightly, the most frequent answers '
                                f'{self.blind:.1%}', accuracy, accuracy, 0)
        result = self._result(TRAINED, 'initial links, not trained yet', accuracy, accuracy, 0)
        return replace(result, links=self._save(self._untrained(accuracy)))

    def _untrained(self, accuracy: float) -> AdaptationRecord:
        return AdaptationRecord(self.spec.supervision, accuracy_before=accuracy, accuracy_after=accuracy,
                          accuracy_blind=self.blind, seconds=self._seconds, macs=self.macs)

    def _label(self) -> None:
        """Use confident answers of the trusted modality, combined with those of the start, as labels.

        Together they are right more often than the trusted modality alone.  Held-out questions are judged by
        the trusted modality alone; otherwise links would be compared with their own answers.
        """
        seeing = [name for name, source in self.begun_with.items() if source]
        self.train = self._labelled(self.train, (*self.spec.teachers, *seeing))
        if not self.train.examples:
            raise TrainingError(f'{" and ".join(self.spec.teachers)} answered no question with a confidence '
                                f'of {self.spec.confidence:g}; wait for better answers or lower it')

    def _labelled(self, dataset: TokenDataset, teachers: Sequence[str]) -> TokenDataset:
        found: list[TokenDataset] = []
        self.macs += measure_macs(lambda: found.append(distilled(
            dataset, self.method, teachers, accept=self.spec.confidence, book=self.book,
            cancelled=self.cancelled)))
        return found[0]

    def _seen_together(self) -> list[Frame]:
        """Return frames of trusted and learning sensors, if all links share one reader.

        Empty with supervision by answers, or if there are too few frames.
        """
        own, links = self._own().values(), self.method.links()
        trusted = [links[name] for name in self.spec.teachers] if self.spec.supervision == DISTILLED else []
        alike = trusted and all(self.begun_with.values()) and all(
            link.reads_like(trusted[0]) for link in (*own, *trusted))
        names = {*self.spec.modalities, *self.spec.teachers}
        frames = [frame for frame in self.train.frames.values() if names <= frame.keys()] if alike else []
        return frames if len(frames) >= MIN_FRAMES else []

    def _compare(self, frames: Sequence[Frame]) -> TrainingReport:
        """Learn the worth of counts by comparison with those of trusted sensors in the same frames."""
        links, started, device = self.method.links(), time.monotonic(), self.method.lm.device
        seen = {name: TokenBatch.stack([frame[name] for frame in frames], device)
                for name in (*self.spec.modalities, *self.spec.teachers)}
        with torch.no_grad():
            trusted = [links[name] for name in self.spec.teachers]
            known = fuse([(link.count(seen[link.config.modality]), link.worth, link.gates.max())
                          for link in trusted])
            for name, link in self._own().items():
                fit_worth(link.worth, link.counts_of(seen[name]), known)
        parameters = sum(one.numel() for link in self._own().values() for one in link.worth.parameters())
        return TrainingReport(f'the comparison with {" and ".join(self.spec.teachers)}', 0, (), (),
                              parameters, time.monotonic() - started, 0, peak_memory(device))

    def _fit(self, least: float) -> TrainingReport:
        """Train; `least` is the accuracy at which training may stop and links are offered.

        Counting links with a start learn only the worth of their counts, which needs the fewest questions.
        """
        own = self._own().values()
        worth = all(self.begun_with.values()) and all(getattr(link, 'worth', None) for link in own)
        left = self.spec.budget.seconds_left(Spent(self._seconds))
        rate = self.spec.training.learning_rate if all(self.begun_with.values()) else \
            self.spec.anew_learning_rate
        config = replace(self.spec.training, learning_rate=rate, steps=self.reading.steps,
                         batch=self.reading.batch, part='worth' if worth else 'all',
                         stop_accuracy=least if self.spec.budget.accuracy else 0.,
                         seconds=max(LEAST_SECONDS, left * FOR_STEPS) if math.isfinite(left) else 0.)
        trainer = Trainer(self.method, config, self.book, self.spec.modalities)
        validation = self.held_out.only(self.spec.modalities) if self.held_out.examples else None
        return trainer.fit(self.train, validation, self._stepped, self.cancelled, self.folder / CHECKPOINT)

    def _settle(self, begun: Tensors, least: float) -> float:
        """Take the links half way to the trained ones unless these are clearly better; returns the accuracy.

        least: of the trained ones, which the others must reach too. Held-out questions are from the training
        streets.  Half way between the start and the result of a small training set generalises better
        (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
        """
        trained, accuracy = link_tensors(self._own()), self._accuracy()
        if not all(self.begun_with.values()):
            return accuracy
        restore_links(self._own(), {name: _midway(begun[name], tensor) for name, tensor in trained.items()})
        midway = self._accuracy()
        if midway >= min(accuracy, max(least, accuracy - self._slack(accuracy))):
            return midway
        restore_links(self._own(), trained)
        return accuracy

    def _floor(self, before: float) -> Floor:
        """Return the accuracy that new links must reach to be offered; NaN without held-out questions."""
        return max(Floor(before - self._slack(before), 'the links before'),
                   Floor(self.blind, 'the most frequent answers'))

    def _slack(self, accuracy: float) -> float:
        """Return the noise of an accuracy on held-out questions: at least one standard error."""
        return max(NOISE, math.sqrt(accuracy * (1 - accuracy) / max(1, len(self.held_out.examples))))

    def _own(self) -> dict[str, Link]:
        """Return the trained links."""
        links = self.method.links()
        return {name: links[name] for name in self.spec.modalities}

    def _stepped(self, step: TrainingStep) -> None:
        known = self.progress.accuracy if step.accuracy is None else step.accuracy
        self._tell(stage='training', step=step.step, steps=step.steps, loss=step.loss, accuracy=known)

    def _tell(self, **changes: object) -> None:
        seconds = self._seconds
        left = self.spec.budget.seconds_left(Spent(seconds))
        self.progress = replace(self.progress, seconds=seconds, remaining=left, macs=self.macs,
                                memory=peak_memory(self.method.lm.device), **changes)
        self.say(self.progress)
        self.progress = replace(self.progress, offers={})

    def _conclude(self, before: float, floor: Floor, after: float, report: TrainingReport) -> JobResult:
        """Store links that are not worse than those before."""
        if after < floor.accuracy:
            return self._result(WORSE, f'the new links are not offered: they answer {after:.1%} of the '
                                f'held-out questions rightly; to be as good as {floor.whose} they '
                                f'must answer {floor.accuracy:.1%}', before, after, report.steps)
        result = self._result(TRAINED, f'stopped by {report.stopped}', before, after, report.steps)
        links = self._save(AdaptationRecord(
            self.spec.supervision, questions=len(self.train.examples), steps=report.steps,
            seconds=result.seconds, macs=result.macs, peak_bytes=result.peak_bytes,
            accuracy_before=_known(before), accuracy_after=_known(after), accuracy_blind=_known(self.blind)))
        return replace(result, links=links)

    def _save(self, adaptation: AdaptationRecord) -> dict[str, str]:
        """Store a version of each trained link; returns the folders."""
        saved = {}
        for name in self.spec.modalities:
            own = replace(adaptation, started_from=self.begun_with[name])
            text = f'adapted on a robot: {len(self.train.examples)} questions, {own.steps} steps'
            stored = self.store.save(self.method.links()[name], Provenance(text=text, adaptation=own))
            saved[name] = str(stored.path)
        return saved

    def _result(self, status: str, message: str, before: float, after: float, steps: int) -> JobResult:
        return JobResult(
            status, message, accuracy=after, start_accuracy=before, blind_accuracy=self.blind,
            held_out=len(self.held_out.examples), questions=len(self.train.examples), steps=steps,
            seconds=self._seconds, reading_seconds=self.reading.seconds,
            macs=self.macs, peak_bytes=peak_memory(self.method.lm.device))


def _by_type(dataset: TokenDataset) -> TokenDataset:
    """Return questions with their type in place of the text."""
    return replace(dataset, examples=tuple(replace(one, question=one.type) for one in dataset.examples))


def _midway(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one + other) / 2 if one.is_floating_point() else other


def _known(accuracy: float) -> float | None:
    return accuracy if math.isfinite(accuracy) else None
