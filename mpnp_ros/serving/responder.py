"""Computes one answer from a question and the usable tokens; never raises."""
from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from mpnp_ros.errors import CancelledError, LinksError, MpnpError, QuestionError
from mpnp_ros.llm.language_model import interruptible
from mpnp_ros.memory import is_out_of_memory, release_memory
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.questions import AskedQuestion
from mpnp_ros.serving.answer import Answer, Status, UsedModality
from mpnp_ros.serving.coverage import unseen
from mpnp_ros.serving.evidence import not_known
from mpnp_ros.serving.inquiry import Inquiry
from mpnp_ros.serving.link_versions import LinkVersions
from mpnp_ros.serving.modality_board import ModalityBoard
from mpnp_ros.tokens import ModalityTokens

LOG = logging.getLogger(__name__)
LEAST_PROBABILITY = 1e-30
UNKNOWN = 'unknown'

Tokens = Mapping[str, ModalityTokens]


class Responder:
    """Answers from the tokens on the board, one question at a time; used by one thread.

    An answer uses what is usable at its start; later changes do not affect it.  An exception of the method
    becomes a FAILED answer with the reason, and memory is released.
    """

    def __init__(self, method: Method, board: ModalityBoard, links: LinkVersions,
                 without_sensors: Callable[[], bool] = lambda: False) -> None:
        """without_sensors: whether to answer from the text alone if no sensor can help."""
        self._method, self._board, self._links = method, board, links
        self._without_sensors = without_sensors

    def respond(self, inquiry: Inquiry) -> Answer:
        """Return the answer; REJECTED only if the method refuses the question.

        NO_SENSOR if no sensor can be used, or none looks in the direction of the question; UNKNOWN if the
        counts cannot answer it.
        """
        tokens, started = self._board.usable(), time.monotonic()
        missing = tuple(name for name in self._links.modalities if name not in tokens)
        blank = Answer(inquiry.question, Status.OK, inquiry.asked_ns, missing=missing,
                       links_version=self._links.name, method=self._method.name)
        answer = self._attempt(inquiry, tokens, blank)
        return replace(answer, latency=inquiry.waited, compute=time.monotonic() - started)

    def _attempt(self, inquiry: Inquiry, tokens: Tokens, blank: Answer) -> Answer:
        try:
            return self._answer(inquiry, tokens, blank)
        except Exception as error:
            if isinstance(error, CancelledError):
                return _given_up(inquiry, blank)
            answer = replace(blank, status=_status(error), error=_describe(error))
            out_of_memory = is_out_of_memory(error)
            if not isinstance(error, MpnpError):
                LOG.error('question %s: %s', inquiry.question.id, answer.error, exc_info=not out_of_memory)
        if out_of_memory:  # the error, whose traceback holds the tensors, is gone by now
            release_memory()
        return answer

    def _answer(self, inquiry: Inquiry, tokens: Tokens, blank: Answer) -> Answer:
        question = inquiry.question
        heard = {name: one for name, one in tokens.items() if name in self._method.modalities}
        lacking, doubt = self._lacking(question.text, tokens, heard)
        if lacking:
            blank, heard = replace(blank, status=Status.NO_SENSOR, error=lacking), {}
            if not self._without_sensors():
                return blank
        concerns = (*self._board.concerns(heard), *filter(None, [doubt]))
        inquiry.progress('reading')
        with interruptible(lambda: inquiry.cancelled):
            asked = self._method.prepare(question.text, question.choices)
            answer = (self._choose if question.choices else self._generate)(inquiry, asked, heard, blank)
        return replace(self._resting_on(answer, heard), concerns=concerns,
                       confidence=0. if lacking else answer.confidence)

    def _lacking(self, text: str, tokens: Tokens, heard: Tokens) -> tuple[str, str]:
        """Return why no sensor can help with a question, otherwise what lowers the answer's value."""
        if heard:
            return unseen(text, {name: one.sectors_looked_at() for name, one in heard.items()})
        reasons = {**self._board.absences(), **dict.fromkeys(
            tokens, 'its links have no say, all of their gates are closed; load others')}
        if not reasons:
            return 'no sensor can be used: no links are loaded; name some in the parameter links', ''
        each = '; '.join(f'{name}: {why}' for name, why in sorted(reasons.items()))
        return f'no sensor can be used: {each}', ''

    def _choose(self, inquiry: Inquiry, asked: AskedQuestion, tokens: Tokens, blank: Answer) -> Answer:
        reply = self._method.answer(asked, tokens)
        answer = replace(blank, text=reply.text, confidence=_proper(reply.confidence), counted=reply.counted,
                         probabilities=tuple(map(_proper, reply.probabilities)))
        if blank.status == Status.OK and (reason := not_known(reply.counted, reply.answerable)):
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

    def _resting_on(self, answer: Answer, tokens: Tokens) -> Answer:
        used = tuple(UsedModality(name, one.stamp_ns, self._board.age(one.stamp_ns))
                     for name, one in sorted(tokens.items()))
        oldest = min((entry.stamp_ns for entry in used), default=answer.stamp_ns)
        return replace(answer, used=used, stamp_ns=oldest)


def _given_up(inquiry: Inquiry, blank: Answer, tokens: int = 0) -> Answer:
    when = f'after {tokens} tokens' if tokens else 'while it was read'
    return replace(blank, status=Status.FAILED, error=f'{inquiry.reason} {when}')


def _proper(probability: float) -> float:
    if not math.isfinite(probability):
        raise LinksError('the model gave a probability that is not a number; roll the links back')
    return float(probability)


def _status(error: Exception) -> Status:
    return Status.REJECTED if isinstance(error, QuestionError) else Status.FAILED


def _describe(error: Exception) -> str:
    if is_out_of_memory(error):
        return ('OutOfMemory: not enough memory for this question; shorten it, unplug a modality or '
                'lower question_cache_mb')
    return f'{type(error).__name__}: {error}'
