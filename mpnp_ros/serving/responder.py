"""Makes one answer from a question and what can be used now; never raises."""
from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from mpnp_ros.errors import LinksError, MpnpError, QuestionError
from mpnp_ros.memory import is_out_of_memory, release_memory
from mpnp_ros.methods.base import AskedQuestion, Method
from mpnp_ros.serving.answer import Answer, Status, UsedModality
from mpnp_ros.serving.inquiry import Inquiry
from mpnp_ros.serving.link_versions import LinkVersions
from mpnp_ros.serving.modality_board import ModalityBoard
from mpnp_ros.serving.modality_watch import age
from mpnp_ros.tokens import ModalityTokens

LOG = logging.getLogger(__name__)
LEAST_PROBABILITY = 1e-30

Tokens = Mapping[str, ModalityTokens]


class Responder:
    """Answers from the tokens on the board, one question at a time; used by one thread.

    An answer rests on what is usable at its beginning and on nothing that comes or goes while it is
    made.  Whatever the method raises becomes a FAILED answer with the reason, and memory is given back.
    """

    def __init__(self, method: Method, board: ModalityBoard, links: LinkVersions) -> None:
        self._method, self._board, self._links = method, board, links

    def respond(self, inquiry: Inquiry) -> Answer:
        """The answer; REJECTED only where the method finds that the question cannot be asked of it."""
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
            answer = replace(blank, status=_status(error), error=_describe(error))
            out_of_memory = is_out_of_memory(error)
            if not isinstance(error, MpnpError):
                LOG.error('question %s: %s', inquiry.question.id, answer.error, exc_info=not out_of_memory)
        if out_of_memory:  # the error, whose traceback holds the tensors, is gone by now
            release_memory()
        return answer

    def _answer(self, inquiry: Inquiry, tokens: Tokens, blank: Answer) -> Answer:
        inquiry.progress('reading')
        question = inquiry.question
        asked = self._method.prepare(question.text, question.choices)
        if not question.choices:
            return self._generate(inquiry, asked, tokens, blank)
        reply = self._method.answer(asked, tokens)
        return replace(self._resting_on(blank, reply.used, tokens), text=reply.text,
                       confidence=_proper(reply.confidence),
                       probabilities=tuple(map(_proper, reply.probabilities)))

    def _generate(self, inquiry: Inquiry, asked: AskedQuestion, tokens: Tokens,
                  blank: Answer) -> Answer:
        text, logs = '', []
        for fragment in self._method.stream(asked, tokens, inquiry.max_new_tokens):
            if inquiry.cancelled:
                break
            text += fragment.text
            logs.append(math.log(max(_proper(fragment.probability), LEAST_PROBABILITY)))
            inquiry.progress('answering', text, len(logs))
        if inquiry.cancelled:
            blank = replace(blank, status=Status.FAILED, error=f'cancelled after {len(logs)} tokens')
        confidence = math.exp(sum(logs) / len(logs)) if logs else 0.
        return replace(self._resting_on(blank, tokens, tokens), text=text.strip(), confidence=confidence)

    def _resting_on(self, answer: Answer, modalities: Iterable[str], tokens: Tokens) -> Answer:
        now = self._board.now()
        used = tuple(UsedModality(name, tokens[name].stamp_ns, age(tokens[name].stamp_ns, now))
                     for name in sorted(modalities))
        oldest = min((entry.stamp_ns for entry in used), default=answer.stamp_ns)
        return replace(answer, used=used, stamp_ns=oldest)



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
