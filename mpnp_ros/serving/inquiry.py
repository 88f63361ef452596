"""A question that waits for its answer."""
from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from mpnp_ros.serving.answer import Answer, Progress, Status
from mpnp_ros.serving.questions import Question

LOG = logging.getLogger(__name__)
CANCELLED = 'cancelled'


class Inquiry:
    """One question that waits for, and gets, exactly one answer.

    question: as asked.  asked_ns: time on the board's clock.  max_new_tokens: limit of a generated answer.
    future: resolves to the answer and never to an error.  repeated: asked again about a new frame.
    reason: why it was given up, empty if it was not.
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
        """Return whether it was given up."""
        return bool(self.reason)

    @property
    def waited(self) -> float:
        """Return the seconds since the question, or the frame it is asked about, arrived."""
        return time.monotonic() - self._arrived

    def cancel(self, reason: str = CANCELLED) -> bool:
        """Give the question up; returns whether that was in time.

        A waiting question ends at once, a running one before the next block of the model.
        """
        with self._lock:
            if self._settled:
                return False
            self.reason = self.reason or reason
        self._on_cancel(self)
        return True

    def settle(self, answer: Answer) -> Answer:
        """Set the final answer: this one, unless the question was given up; later cancels are ignored."""
        with self._lock:
            self._settled = True
        if not self.cancelled or answer.status not in (Status.OK, Status.NO_SENSOR):
            return answer
        return replace(answer, status=Status.FAILED, error=self.reason, text='', confidence=0.,
                       probabilities=())

    def rejection(self, reason: str) -> Answer:
        """Return the answer to a question that is not attempted."""
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
