"""Answers: exactly one for every question, computed from the question and the usable tokens."""
from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from mpnp_ros.device import is_out_of_memory, release_memory
from mpnp_ros.errors import CancelledError, LinksError, MpnpError, QuestionError
from mpnp_ros.llm.language_model import interruptible
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.questions import AskedQuestion, Counted, Grounding, Influence, Reply
from mpnp_ros.questions.relations import related_question
from mpnp_ros.serving.coverage import not_known, unseen
from mpnp_ros.serving.link_versions import LinkVersions
from mpnp_ros.serving.modality_board import ModalityBoard
from mpnp_ros.serving.questions import Question
from mpnp_ros.serving.relations import YES_NO, answer_related, placed
from mpnp_ros.serving.requirements import not_met, too_old, unmet
from mpnp_ros.tokens import ModalityTokens

LOG = logging.getLogger(__name__)
CANCELLED = 'cancelled'

LEAST_PROBABILITY = 1e-30
UNKNOWN = 'unknown'

Tokens = Mapping[str, ModalityTokens]


class Status(IntEnum):
    """Outcome of a question, numbered as in msg/Answer."""

    OK = 0
    REJECTED = 1
    FAILED = 2
    NO_SENSOR = 3
    UNKNOWN = 4
    REFUSED = 5


@dataclass(frozen=True)
class UsedModality:
    """A modality used by an answer: sensor stamp in nanoseconds, and age in seconds at the computation."""

    modality: str
    stamp_ns: int
    age: float


@dataclass(frozen=True)
class GroundedToken:
    """A token that an answer rests on; fields as in msg/Grounding.

    box: left, top, right and bottom in pixels of the image of the source; empty: none.
    """

    modality: str
    source: str
    azimuth: float
    distance: float
    sort: str
    expected: float
    weight: float
    box: tuple[float, ...] = ()


@dataclass(frozen=True)
class Answer:
    """Answer to a question; fields as in msg/Answer.

    stamp_ns: oldest sensor stamp used, or the time of the question if none is used.
    probabilities: one per choice.  missing: modalities that have links but no usable tokens.
    concerns: what lowers the value of the answer, in words.  counted: what counting links found.
    latency, compute: seconds; those of a pass over several questions are shared evenly.  influence: None
    where it was not computed, as where several questions share a pass.  grounding: tokens that it rests on.
    frame_id: of their azimuths.
    """

    question: Question
    status: Status
    stamp_ns: int
    error: str = ''
    text: str = ''
    confidence: float = 0.
    probabilities: tuple[float, ...] = ()
    used: tuple[UsedModality, ...] = ()
    missing: tuple[str, ...] = ()
    concerns: tuple[str, ...] = ()
    counted: tuple[Counted, ...] = ()
    links_version: str = ''
    method: str = ''
    latency: float = 0.
    compute: float = 0.
    influence: Influence | None = None
    grounding: tuple[GroundedToken, ...] = ()
    frame_id: str = ''


@dataclass(frozen=True)
class Progress:
    """A partial answer: text so far, stage (waiting, reading or answering) and tokens so far."""

    stage: str
    text: str = ''
    tokens: int = 0


class Inquiry:
    """A question on its way to exactly one answer.

    question: as asked.  asked_ns: time on the board's clock.  max_new_tokens: limit of a generated answer.
    future: resolves to the answer and never to an error.  repeated: asked again about a new frame.
    reason: why it was cancelled, empty if it was not.
    """

    def __init__(self, question: Question, asked_ns: int, max_new_tokens: int,
                 on_progress: Callable[[Progress], None] | None = None,
                 on_cancel: Callable[[Inquiry], None] = lambda inquiry: None,
                 arrived: float | None = None, repeated: bool = False) -> None:
        """on_progress: called at every stage and token.  on_cancel: called on the canceller's thread.

        arrived: seconds of time.monotonic() when the question or its frame came; None: now.
        """
        self.question = question
        self.asked_ns = asked_ns
        self.max_new_tokens = max_new_tokens
        self.future: Future[Answer] = Future()
        self.future.set_running_or_notify_cancel()
        self._on_progress, self._on_cancel = on_progress, on_cancel
        self._arrived = time.monotonic() if arrived is None else arrived
        self.repeated, self.reason = repeated, ''
        self._settled, self._lock = False, threading.Lock()

    @property
    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return bool(self.reason)

    @property
    def waited(self) -> float:
        """Return the seconds since the question, or the frame it is asked about, arrived."""
        return time.monotonic() - self._arrived

    def cancel(self, reason: str = CANCELLED) -> bool:
        """Cancel the question; returns whether that was in time.

        A waiting question ends at once, a running one before the next block of the model.
        """
        with self._lock:
            if self._settled:
                return False
            self.reason = self.reason or reason
        self._on_cancel(self)
        return True

    def settle(self, answer: Answer) -> Answer:
        """Return the final answer: this one, unless the question was cancelled; later cancels are ignored."""
        with self._lock:
            self._settled = True
        if not self.cancelled or answer.status not in (Status.OK, Status.NO_SENSOR):
            return answer
        return replace(answer, status=Status.FAILED, error=self.reason, text='', confidence=0.,
                       probabilities=())

    def rejection(self, reason: str) -> Answer:
        """Return the answer to a question that is refused."""
        return Answer(self.question.clipped(), Status.REJECTED, self.asked_ns, reason, latency=self.waited)

    def progress(self, stage: str, text: str = '', tokens: int = 0) -> None:
        """Report progress to the asker.  An exception of the asker does not affect the answer."""
        if self._on_progress is None:
            return
        try:
            self._on_progress(Progress(stage, text, tokens))
        except Exception:
            LOG.exception('progress of question %s could not be told', self.question.id)
            self._on_progress = None


class Responder:
    """Answers from the tokens on the board; used by one thread.

    An answer uses what is usable at its start; later changes do not affect it.  An exception of the method
    becomes a FAILED answer with the reason, and memory is released.
    """

    def __init__(self, method: Method, board: ModalityBoard, links: LinkVersions,
                 without_sensors: Callable[[], bool] = lambda: False,
                 influence: Callable[[], bool] = lambda: True) -> None:
        """without_sensors: whether to answer from the text alone if no sensor can help.

        influence: whether answers tell the influence of each modality.
        """
        self._method, self._board, self._links = method, board, links
        self._without_sensors, self._influence = without_sensors, influence

    def respond_together(self, inquiries: Sequence[Inquiry]) -> list[Answer]:
        """Return the answers to questions with choices, computed in one pass about the same tokens.

        Where that fails, each is answered alone, so that every one has the answer of :meth:`respond`.
        """
        tokens = self._board.usable()
        replies: dict[Inquiry, Reply] = {}
        heard = {name: frame for name, frame in tokens.items() if name in self._method.modalities}
        together = [inquiry for inquiry in inquiries if related_question(inquiry.question.text) is None]
        if len(together) > 1 and heard:
            try:
                with interruptible(lambda: all(inquiry.cancelled for inquiry in together)):
                    asked = [self._method.prepare(inquiry.question.text, inquiry.question.choices)
                             for inquiry in together]
                    replies = dict(zip(together, self._method.answer_each(asked, [heard] * len(asked)),
                                       strict=True))
            except Exception as error:
                LOG.debug('%d questions are answered one by one: %s', len(together), error)
        return [self.respond(inquiry, tokens, replies.get(inquiry)) for inquiry in inquiries]

    def respond(self, inquiry: Inquiry, tokens: Tokens | None = None, reply: Reply | None = None) -> Answer:
        """Return the answer; REJECTED only if the method refuses the question.

        NO_SENSOR if no sensor can be used, or none looks in the direction of the question; UNKNOWN if the
        counts cannot answer it; REFUSED if a requirement of the question is not met.  tokens: default: those
        usable now.  reply: of the method from these tokens, where it is known.
        """
        tokens, started = self._board.usable() if tokens is None else tokens, time.monotonic()
        missing = tuple(name for name in self._links.modalities if name not in tokens)
        blank = Answer(inquiry.question, Status.OK, inquiry.asked_ns, missing=missing,
                       links_version=self._links.name, method=self._method.name)
        out_of_memory = False
        try:
            answer = self._answer(inquiry, tokens, blank, reply)
        except CancelledError:
            answer = _given_up(inquiry, blank)
        except Exception as error:
            out_of_memory = is_out_of_memory(error)
            text = ('OutOfMemory: not enough memory for this question; shorten it, unplug a modality or '
                    'lower question_cache_mb') if out_of_memory else f'{type(error).__name__}: {error}'
            status = Status.REJECTED if isinstance(error, QuestionError) else Status.FAILED
            answer = replace(blank, status=status, error=text)
            if not isinstance(error, MpnpError):
                LOG.error('question %s: %s', inquiry.question.id, text, exc_info=not out_of_memory)
        if out_of_memory:  # the error, whose traceback holds the tensors, is gone by now
            release_memory()
        seconds = time.monotonic() - started + (reply.seconds if reply else 0.)
        return replace(answer, latency=inquiry.waited, compute=seconds)

    def _answer(self, inquiry: Inquiry, tokens: Tokens, blank: Answer, reply: Reply | None) -> Answer:
        question = inquiry.question
        related = related_question(question.text) if question.choices else None
        text, choices = (related.whether, YES_NO) if related else (question.text, question.choices)
        heard = {name: frame for name, frame in tokens.items() if name in self._method.modalities}
        if related:
            heard = placed(heard) or heard
        old = too_old(question, {name: self._board.age(frame.stamp_ns) for name, frame in heard.items()})
        heard = {name: frame for name, frame in heard.items() if name not in old}
        reply = None if old else reply
        if reply is not None:
            heard = {name: heard[name] for name in reply.used}
        elif len(heard) > 1:
            with interruptible(lambda: inquiry.cancelled):
                asked = self._method.prepare(text, choices)
                heard = {name: heard[name] for name in self._method.answering(asked, heard)}
        if refusal := unmet(question, tuple(heard), old, {**self._board.absences(), **_closed(tokens)}):
            return replace(blank, status=Status.REFUSED, error=refusal)
        lacking, doubt = self._lacking(text, tokens, heard)
        if lacking:
            blank, heard, reply = replace(blank, status=Status.NO_SENSOR, error=lacking), {}, None
            if not self._without_sensors():
                return blank
        concerns = (*self._board.concerns(heard), *filter(None, [doubt]))
        inquiry.progress('reading')
        with interruptible(lambda: inquiry.cancelled):
            steps, unknown = None, ''
            if related and heard:
                steps = answer_related(self._method, related, question.choices, heard)
            if steps is not None:
                reply, told = steps.reply, (not_known(step.counted, step.answerable) for step in steps.steps)
                unknown = next(filter(None, told), steps.unknown)
            if unknown:
                answer = replace(blank, status=Status.UNKNOWN, text=UNKNOWN, error=unknown)
            elif reply is not None:
                answer = self._chosen(reply, heard, blank)
            else:
                asked = self._method.prepare(question.text, question.choices)
                answer = (self._choose if question.choices else self._generate)(inquiry, asked, heard, blank)
        used = tuple(UsedModality(name, frame.stamp_ns, self._board.age(frame.stamp_ns))
                     for name, frame in sorted(heard.items()))
        oldest = min((entry.stamp_ns for entry in used), default=answer.stamp_ns)
        answer = replace(answer, used=used, stamp_ns=oldest, concerns=concerns,
                         confidence=0. if lacking else answer.confidence,
                         frame_id=next((frame.frame_id for frame in heard.values()), ''))
        if answer.status is Status.OK and not inquiry.cancelled and (
                refusal := not_met(question, answer.confidence, answer.counted)):
            return replace(answer, status=Status.REFUSED, error=refusal, text='', probabilities=())
        return answer

    def _lacking(self, text: str, tokens: Tokens, heard: Tokens) -> tuple[str, str]:
        """Return why no sensor can help with a question, otherwise what lowers the answer's value."""
        if heard:
            return unseen(text, {name: frame.sectors_looked_at() for name, frame in heard.items()})
        reasons = {**self._board.absences(), **_closed(tokens)}
        if not reasons:
            return 'no sensor can be used: no links are loaded; name some in the parameter links', ''
        listed = '; '.join(f'{name}: {reason}' for name, reason in sorted(reasons.items()))
        return f'no sensor can be used: {listed}', ''

    def _choose(self, inquiry: Inquiry, asked: AskedQuestion, tokens: Tokens, blank: Answer) -> Answer:
        return self._chosen(self._method.answer(asked, tokens, self._influence()), tokens, blank)

    @staticmethod
    def _chosen(reply: Reply, tokens: Tokens, blank: Answer) -> Answer:
        answer = replace(blank, text=reply.text, confidence=_proper(reply.confidence), counted=reply.counted,
                         probabilities=tuple(map(_proper, reply.probabilities)), influence=reply.influence,
                         grounding=tuple(_grounded(entry, tokens[entry.modality])
                                         for entry in reply.grounding))
        looked = {name: frame.sectors_looked_at() for name, frame in tokens.items()}
        reason = not_known(reply.counted, reply.answerable, looked)
        if reply.text == UNKNOWN and not reason:
            reason = 'unknown: the sensors in use do not tell this'
        if blank.status == Status.OK and reason:
            return replace(answer, status=Status.UNKNOWN, text=UNKNOWN, error=reason, confidence=0.,
                           probabilities=())
        return answer

    def _generate(self, inquiry: Inquiry, asked: AskedQuestion, tokens: Tokens, blank: Answer) -> Answer:
        text, logs = '', []
        with contextlib.suppress(CancelledError):
            for fragment in self._method.stream(asked, tokens, inquiry.max_new_tokens):
                if inquiry.cancelled:
                    break
                text += fragment.text
                logs.append(math.log(max(_proper(fragment.probability), LEAST_PROBABILITY)))
                inquiry.progress('answering', text, len(logs))
        if inquiry.cancelled:
            blank = _given_up(inquiry, blank, len(logs))
        confidence = math.exp(sum(logs) / len(logs)) if logs else 0.
        return replace(blank, text=text.strip(), confidence=confidence)


def _closed(tokens: Tokens) -> dict[str, str]:
    """Return why modalities with usable tokens have no say."""
    return dict.fromkeys(
        tokens, 'all gates of its links are closed, so they have no effect; load other links')


def _grounded(entry: Grounding, frame: ModalityTokens) -> GroundedToken:
    """Return a token that an answer rests on, with what its frame tells of it."""
    token = entry.token
    source = int(frame.source_index[token]) if len(frame.source_index) else len(frame.sources)
    box = frame.boxes[token] if len(frame.boxes) else np.zeros(0)
    return GroundedToken(
        entry.modality, frame.sources[source] if source < len(frame.sources) else '',
        float(frame.azimuth[token]), float(frame.distance[token]) if len(frame.distance) else math.nan,
        entry.sort, entry.expected, entry.weight,
        tuple(box.tolist()) if len(box) and np.isfinite(box).all() else ())


def _given_up(inquiry: Inquiry, blank: Answer, tokens: int = 0) -> Answer:
    when = f'after {tokens} tokens' if tokens else 'while it was read'
    return replace(blank, status=Status.FAILED, error=f'{inquiry.reason} {when}')


def _proper(probability: float) -> float:
    if not math.isfinite(probability):
        raise LinksError('the model gave a probability that is not a number; roll the links back')
    return float(probability)
