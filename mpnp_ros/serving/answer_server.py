"""Answers questions one after the other on a separate thread.

All inference happens on one worker thread, so that a ROS executor stays free to receive tokens and to cancel,
and so that links can be exchanged between two answers.  Questions wait in a bounded queue.  When it is full,
a question is rejected at once with the reason.
"""
from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from mpnp_ros.errors import LinksError, QuestionError
from mpnp_ros.methods.method import Method
from mpnp_ros.questions.past import past_question
from mpnp_ros.serving.answers import Answer, Inquiry, Progress, Responder, Status
from mpnp_ros.serving.events import Event, EventWatch
from mpnp_ros.serving.link_versions import LinkVersion, LinkVersions
from mpnp_ros.serving.memory import TokenMemory
from mpnp_ros.serving.modality_board import ModalityBoard
from mpnp_ros.serving.past import PastInquiry
from mpnp_ros.serving.questions import (
    MOST_NEW_TOKENS,
    Question,
    Standing,
    StandingQuestions,
    together_at_front,
)
from mpnp_ros.tokens import ModalityTokens

LOG = logging.getLogger(__name__)
TOGETHER = 16
"""Most questions of one pass: a change of links, and the first answer, wait for its end."""
PAST_WAITS = 0.5
"""Seconds that a question about the past waits at most for a turn while present ones are asked."""


@dataclass(frozen=True)
class Load:
    """Load of a server.

    waiting, standing: questions.  skipped_frames: frames that standing questions skipped for a newer one.
    expired: standing questions withdrawn because their lease ended.
    """

    waiting: int
    standing: int
    skipped_frames: int
    expired: int


class AnswerServer:
    """Gives every question exactly one answer, and every standing question one per new frame.

    Standing questions see the newest frame only; frames that arrive during an answer are skipped and
    counted.  They take turns with single questions.  Up to TOGETHER questions with choices that wait are
    answered in one pass.  Each is told once that no sensor can be used.  A question with a lease is withdrawn
    unless it is sent again in time; that renews it without an extra answer.

    Thread-safe; :meth:`close` ends its threads.
    """

    def __init__(self, method: Method, board: ModalityBoard, *, capacity: int = 16,
                 standing_capacity: int = 16, max_new_tokens: int = 32,
                 read_links: Callable[[str, str], LinkVersion] | None = None,
                 deliver: Callable[[Answer], None] = lambda answer: None,
                 tell: Callable[[Event], None] = lambda event: None,
                 without_sensors: Callable[[], bool] = lambda: False,
                 influence: Callable[[], bool] = lambda: True,
                 memory: TokenMemory | None = None,
                 steady: Callable[[], float] = time.monotonic) -> None:
        """capacity: maximum waiting questions; standing_capacity: maximum standing ones, and of those that
        wait for their first answer.  read_links(path, sha256): reads and checks a link file.
        max_new_tokens: of a generated answer, unless the question has its own.  deliver: called with every
        answer, on the thread that computed it.  tell: called with every event, on any thread.
        without_sensors: whether to answer from the text alone if no sensor can help.  influence: whether
        answers tell the influence of each modality.  memory: of the tokens that the board takes, for
        questions about the past.  steady: seconds of the clock for leases.
        """
        self._method, self.board = method, board
        self._capacity, self._max_new_tokens = capacity, max_new_tokens
        self._read_links, self._deliver, self._tell = read_links, deliver, tell
        self.links = LinkVersions(method)
        board.connect(self.links.fits())
        self._responder = Responder(method, board, self.links, without_sensors, influence)
        self._standing, self._events = StandingQuestions(standing_capacity, steady), EventWatch()
        self._untold: deque[Event] = deque()
        self._telling = threading.RLock()
        self._memory = memory or TokenMemory(0, 0)
        self._queue: deque[Inquiry] = deque()
        self._past: deque[PastInquiry] = deque()
        self._past_asked = 0.
        self._changes: deque[tuple[Callable[[], LinkVersion], Future[LinkVersion]]] = deque()
        self._frame, self._frame_arrived, self._standing_next = 0, 0., False
        self._current: Sequence[Inquiry] = ()
        self._refusal, self._closed = '', False
        self._wake = threading.Condition()
        self._reader = ThreadPoolExecutor(1, 'links')
        self._worker = threading.Thread(target=self._work, name='answers', daemon=True)
        self._worker.start()

    def ask(self, question: Question) -> Future[Answer]:
        """Ask; the future resolves to an answer, REJECTED ones included, and never raises."""
        return self.stream(question).future

    def stream(self, question: Question, on_progress: Callable[[Progress], None] | None = None,
               max_new_tokens: int = 0) -> Inquiry:
        """Ask, with progress for every token; the inquiry can be cancelled.

        on_progress: called on the worker's thread; must not wait.  max_new_tokens: 0 for the server's; more
        than MOST_NEW_TOKENS are refused.
        """
        limit = max_new_tokens or self._max_new_tokens
        question = question.normalised().named()
        inquiry = Inquiry(question, self.board.now(), limit, on_progress, self._drop)
        try:
            question.checked()
            inquiry.question = question = question.awaited()
            if not 0 < limit <= MOST_NEW_TOKENS:
                raise QuestionError(f'max_new_tokens is {limit}; use 1 to {MOST_NEW_TOKENS}, or 0 for '
                                    f'the parameter of the node')
            if question.withdraws:
                with self._wake:
                    self._standing.withdraw(question.id)
                    self._happened(self._events.withdraw(question.id))
                self._finish(inquiry, Answer(question, Status.OK, inquiry.asked_ns))
                self._tell_events()
            else:
                self._enqueue(inquiry)
        except QuestionError as error:
            self._reject(inquiry, str(error))
        return inquiry

    def recall(self, text: str, choices: Sequence[str] = (), window: float = math.inf,
               on_progress: Callable[[int], None] = lambda count: None) -> PastInquiry:
        """Ask about the past, from remembered tokens; the inquiry can be cancelled.

        It is answered in batches of moments between answers about the present.  choices: answers of a
        question other than whether something is there.  window: seconds that are looked at; inf: as the text
        says.  on_progress: called with the number of moments asked so far, on the worker's thread; must not
        wait.  Raises QuestionError if the question is not understood or too many wait.
        """
        Question(text, tuple(choices)).checked()
        if not window > 0:
            raise QuestionError(f'the window of a question about the past is {window} s; it must be above 0 '
                                '(0 in a message: as the question says)')
        inquiry = PastInquiry(past_question(text), choices, self._memory.moments(), on_progress, window)
        with self._wake:
            if self._refusal:
                raise QuestionError(self._refusal)
            if len(self._past) >= self._capacity:
                raise QuestionError(f'{self._capacity} questions about the past are waiting; ask later')
            self._past.append(inquiry)
            self._wake.notify()
        return inquiry

    def offer(self, tokens: ModalityTokens) -> bool:
        """Pass tokens to the board and the memory; if they are usable, standing questions are asked."""
        taken = self.board.offer(tokens)
        if taken:
            self._memory.remember(tokens)
        if taken and tokens.modality in self.board.usable():
            with self._wake:
                self._frame, self._frame_arrived = self._frame + 1, time.monotonic()
                self._wake.notify()
        return taken

    def load_links(self, path: str, sha256: str = '') -> Future[LinkVersion]:
        """Read a link file while answering, and install it between two answers.

        sha256: of the file; empty: as its manifest says.  The future raises the errors of reading and of the
        method; then the links before stay in use.
        """
        def read_and_install() -> LinkVersion:
            assert self._read_links, 'links can be loaded where read_links is given'
            version = self._read_links(path, sha256)
            if version.modality not in self.board.modalities:
                listened = ', '.join(self.board.modalities)
                raise LinksError(f'these are {version.modality} links, but the parameter modalities has only '
                                 f'{listened}; add {version.modality}')
            return self.install(version).result()

        return self._beside_answers(read_and_install)

    def make_links(self, make: Callable[[], LinkVersion]) -> Future[LinkVersion]:
        """Make a link while answering, and install it between two answers; errors as of load_links."""
        return self._beside_answers(lambda: self.install(make()).result())

    def install(self, version: LinkVersion) -> Future[LinkVersion]:
        """Install a link between two answers.  The future raises LinksError if it does not fit."""
        return self._between_answers(partial(self._changed, self.links.install, version))

    def rollback(self, modality: str) -> Future[LinkVersion]:
        """Go back to the previous version.  The future raises LinksError if there is none."""
        return self._between_answers(partial(self._changed, self.links.rollback, modality))

    def load(self) -> Load:
        """Return the current load."""
        with self._wake:
            return Load(len(self._queue), len(self._standing), self._standing.skipped, self._standing.expired)

    def standing(self) -> list[Standing]:
        """Return the standing questions, oldest first."""
        with self._wake:
            return self._standing.listed()

    def look(self) -> None:
        """End leases, and tell standing questions once that no sensor can be used; call it periodically."""
        nothing = not self.board.usable()
        with self._wake:
            for name in self._standing.expire():
                LOG.info('standing question %s withdrawn: its lease was not renewed', name)
            self._happened(*self._events.retain(self._standing.names()))
            if nothing and not self._refusal and self._standing.any_unaware():
                self._frame, self._frame_arrived = self._frame + 1, time.monotonic()
                self._wake.notify()
        self._tell_events()

    def pause(self, reason: str, ended: str = '') -> None:
        """Reject waiting and new questions with the reason until resumed, and give up the running answer.

        ended: reason of the answer that is given up; default: ``reason``.
        """
        with self._wake:
            self._refusal = reason
            rejected, running = list(self._queue), self._current
            for past in self._past:
                past.cancel(reason)
            self._queue.clear()
            self._happened(*self._events.interrupt(ended or reason))
        self._tell_events()
        for inquiry in rejected:
            self._reject(inquiry, reason)
        for inquiry in running:
            inquiry.cancel(ended or reason)

    def resume(self) -> None:
        """Accept questions again; standing questions are kept."""
        with self._wake:
            self._refusal = self._refusal if self._closed else ''

    def close(self) -> None:
        """Reject waiting questions, cancel the running answer and end the threads; may be called twice."""
        self.pause('the server is closed')
        with self._wake:
            self._closed = True
            changes, self._changes = list(self._changes), deque()
            self._wake.notify()
        for _, future in changes:
            future.set_exception(LinksError('the server is closed; the links were not changed'))
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._worker.join()
        for past in self._past:
            past.go_on(self._method)  # it has been cancelled, so this ends it
        self._past.clear()

    def _enqueue(self, inquiry: Inquiry) -> None:
        question = inquiry.question
        inquiry.progress('waiting')
        with self._wake:
            if self._refusal:
                raise QuestionError(self._refusal)
            if question.standing and self._standing.renew(question):
                inquiry.future.set_result(inquiry.settle(Answer(question, Status.OK, inquiry.asked_ns)))
                return
            limit, name = ((self._standing.capacity, 'standing_size') if question.standing
                           else (self._capacity, 'queue_size'))
            if sum(other.question.standing == question.standing for other in self._queue) >= limit > 0:
                raise QuestionError(f'the queue is full ({limit} questions); ask later or more slowly, or '
                                    f'raise {name}')
            if question.standing:
                self._standing.place(question, self._frame, self.board.time())
                self._happened(self._events.place(question))
            self._queue.append(inquiry)
            self._wake.notify()
        self._tell_events()

    def _drop(self, inquiry: Inquiry) -> None:
        """Remove a cancelled inquiry from the queue."""
        with self._wake:
            try:
                self._queue.remove(inquiry)
            except ValueError:
                return
        self._reject(inquiry, 'cancelled before it was started')

    def _reject(self, inquiry: Inquiry, reason: str) -> None:
        self._finish(inquiry, inquiry.rejection(reason))

    def _finish(self, inquiry: Inquiry, answer: Answer, told: bool = True) -> None:
        answer = inquiry.settle(answer)
        try:
            if told:
                self._deliver(answer)
        except Exception:
            LOG.exception('answer %s could not be delivered', answer.question.id)
        inquiry.future.set_result(answer)

    def _happened(self, *events: Event | None) -> None:
        """Note events, in their order; called with the lock held."""
        self._untold.extend(event for event in events if event)

    def _tell_events(self) -> None:
        """Tell what has happened, in its order; called without the lock."""
        with self._telling:
            while self._untold:
                event = self._untold.popleft()
                try:
                    self._tell(event)
                except Exception:
                    LOG.exception('an event of question %s could not be told', event.question.id)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job()

    def _next(self) -> Callable[[], None] | None:
        """Return the next work: a change of links, otherwise a question; None at the end."""
        with self._wake:
            while not self._closed:
                if self._changes:
                    return partial(_resolve, *self._changes.popleft())
                late = time.monotonic() - self._past_asked > PAST_WAITS
                inquiries = [] if self._past and late else self._next_inquiries()
                if inquiries:
                    self._current = inquiries
                    return partial(self._respond, inquiries)
                if self._past:
                    return partial(self._go_on, self._past[0])
                self._wake.wait()
        return None

    def _next_inquiries(self) -> list[Inquiry]:
        """Return the next questions, which are answered in one pass; single and standing ones take turns."""
        if self._queue and not self._standing_next:
            self._standing_next = True
            return self._from_queue()
        self._standing_next = False
        questions = [] if self._refusal else self._standing.next(self._frame, self.board.time(), TOGETHER)
        if questions:
            return [Inquiry(question, self.board.now(), self._max_new_tokens, arrived=self._frame_arrived,
                            repeated=True) for question in questions]
        return self._from_queue()

    def _from_queue(self) -> list[Inquiry]:
        together = together_at_front(self._queue, lambda inquiry: bool(inquiry.question.choices), TOGETHER)
        for _ in together:
            self._queue.popleft()
        return together

    def _respond(self, inquiries: Sequence[Inquiry]) -> None:
        pairs = list(zip(inquiries, self._responder.respond_together(inquiries), strict=True))
        told = [True] * len(pairs)
        with self._wake:
            self._current = ()
            for place, (inquiry, answer) in enumerate(pairs):
                if inquiry.question.standing and not inquiry.cancelled:
                    told[place] = self._standing.note(
                        inquiry.question.id, answer.status is Status.NO_SENSOR, inquiry.repeated,
                        (answer.status, answer.text, *(entry.modality for entry in answer.used)))
                    if not self._refusal:
                        self._happened(self._events.see(answer))
        for pair, shown in zip(pairs, told, strict=True):
            self._finish(*pair, shown)
        self._tell_events()

    def _go_on(self, past: PastInquiry) -> None:
        """Ask a batch of moments; the next question about the past has the next turn."""
        done = past.go_on(self._method)
        with self._wake:
            self._past.popleft()
            if not done:
                self._past.append(past)
            self._past_asked = time.monotonic()

    def _changed(self, change: Callable[[Any], LinkVersion], subject: object) -> LinkVersion:
        version = change(subject)
        self.board.connect(self.links.fits())
        return version

    def _beside_answers(self, work: Callable[[], LinkVersion]) -> Future[LinkVersion]:
        try:
            return self._reader.submit(work)
        except RuntimeError:
            return _refused()

    def _between_answers(self, change: Callable[[], LinkVersion]) -> Future[LinkVersion]:
        with self._wake:
            if self._closed:
                return _refused()
            future: Future[LinkVersion] = Future()
            self._changes.append((change, future))
            self._wake.notify()
            return future


def _resolve(change: Callable[[], LinkVersion], future: Future[LinkVersion]) -> None:
    """Make a change, and resolve its future."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = change()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _refused() -> Future[LinkVersion]:
    future: Future[LinkVersion] = Future()
    future.set_exception(LinksError('the server is closed; the links were not changed'))
    return future
