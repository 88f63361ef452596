"""Matches questions, answers and corrections with tokens of the same time.

Tokens, labelled questions, answers and corrections arrive at any time and in any order.  They are gathered by
moment, and written to the replay buffer when no more data of the moment is expected.
"""
from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mpnp_ros.adaptation.moments import ASKED, FEEDBACK, BufferedQuestion
from mpnp_ros.adaptation.replay_buffer import ReplayBuffer
from mpnp_ros.errors import MpnpError, QuestionError
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.questions.wording import read_question
from mpnp_ros.tokens import SECOND, ModalityTokens
from mpnp_ros.training.dataset import Frame

SECONDS, TOLERANCE = 10., .06
LOG = logging.getLogger(__name__)
NO_TOKENS, NO_ROOM = 'no tokens of their moment', 'too many waited for tokens'
NOT_A_CHOICE, NOT_WRITTEN = 'the answer is not among the choices', 'the buffer could not be written'


def span(tokens: ModalityTokens) -> tuple[int, int]:
    """Return the stamps, nanoseconds, of the oldest and the newest source of tokens."""
    stamps = tokens.stamp_ns, *tokens.source_stamps_ns
    return min(stamps), max(stamps)


def apart(tokens: ModalityTokens, stamp_ns: int) -> int:
    """Return the nanoseconds between a time and the sources of tokens, 0 if it is among them."""
    first, last = span(tokens)
    return max(first - stamp_ns, stamp_ns - last, 0)


class TokenHistory:
    """Tokens of the last seconds by their stamps.  Thread-safe.

    A stamp older than all held ones, as of a replay that starts again, clears the history.
    """

    def __init__(self, seconds: float = SECONDS, tolerance: float = TOLERANCE) -> None:
        """seconds: time for which tokens are held.  tolerance: between sensor times of a moment, seconds."""
        self.tolerance_ns = round(tolerance * SECOND)
        self._length = round(seconds * SECOND)
        self._held: dict[str, deque[ModalityTokens]] = {}
        self._newest = 0
        self._lock = threading.Lock()

    def add(self, tokens: ModalityTokens) -> None:
        """Add received tokens."""
        with self._lock:
            if tokens.stamp_ns < self._newest - self._length:
                self._held.clear()
                self._newest = tokens.stamp_ns
            self._newest = max(self._newest, tokens.stamp_ns)
            self._held.setdefault(tokens.modality, deque()).append(tokens)
            for name, held in list(self._held.items()):
                while held and held[0].stamp_ns < self._newest - self._length:
                    held.popleft()
                if not held:
                    del self._held[name]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities with tokens, sorted."""
        with self._lock:
            return tuple(sorted(self._held))

    def at(self, stamp_ns: int) -> Frame:
        """Return the tokens of each modality nearest to a time, within the tolerance."""
        with self._lock:
            nearest = {name: min(held, key=lambda tokens: (apart(tokens, stamp_ns),
                                                           abs(tokens.stamp_ns - stamp_ns)))
                       for name, held in self._held.items()}
        return {name: tokens for name, tokens in nearest.items()
                if apart(tokens, stamp_ns) <= self.tolerance_ns}

    def exactly(self, modality: str, stamp_ns: int) -> ModalityTokens | None:
        """Return the tokens of a modality with this stamp, None if they are not held."""
        with self._lock:
            return next((tokens for tokens in self._held.get(modality, ()) if tokens.stamp_ns == stamp_ns),
                        None)

    def passed(self, stamp_ns: int) -> bool:
        """Return whether no nearer tokens can arrive: each modality has tokens of this time or later."""
        with self._lock:
            return all(any(span(tokens)[1] >= stamp_ns for tokens in held) for held in self._held.values())

    def moments(self, modalities: Collection[str]) -> list[Frame]:
        """Return all moments with tokens of each of some modalities, oldest first.

        There is one for each tokens of the least frequent modality, with the nearest tokens of the others.
        """
        with self._lock:
            rarest = min((list(self._held.get(name, ())) for name in modalities), key=len, default=[])
        found = [self.at(stamp) for stamp in sorted(tokens.stamp_ns for tokens in rarest)]
        return [{name: frame[name] for name in modalities} for frame in found
                if set(modalities) <= frame.keys()]


@dataclass(frozen=True)
class SupervisionSettings:
    """Options of gathering moments.

    history: seconds for which tokens are held.  tolerance: between sensor times of one moment, seconds.
    patience: seconds to wait for tokens of a moment.  waiting: maximum number of waiting moments.  answers:
    number of answers remembered for corrections.  period: seconds between stored moments without questions,
    for distillation; infinite for none; they need tokens of two modalities.  asked: whether questions of the
    robot are stored, without answers.
    """

    history: float = SECONDS
    tolerance: float = TOLERANCE
    patience: float = 2.
    waiting: int = 256
    answers: int = 256
    period: float = .5
    asked: bool = True


@dataclass(frozen=True)
class SupervisionCounts:
    """Questions kept by source, questions dropped by reason, moments that wait for tokens."""

    kept: Mapping[str, int]
    dropped: Mapping[str, int]
    waiting: int


@dataclass
class _Waiting:
    """A moment being gathered; since: its start on the clock; tokens: those known to belong to it."""

    since: float
    questions: list[BufferedQuestion] = field(default_factory=list)
    tokens: dict[str, ModalityTokens] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Answered:
    """An answered question with the tokens that the answer used."""

    question: str
    choices: tuple[str, ...]
    stamp_ns: int
    tokens: Frame


class Supervision:
    """Gathers moments and writes them to a buffer.  Thread-safe; call `settle` a few times a second."""

    def __init__(self, buffer: ReplayBuffer, settings: SupervisionSettings | None = None,
                 clock: Callable[[], float] = time.monotonic,
                 unwritten: Callable[[str], None] = LOG.warning) -> None:
        """clock: seconds, for patience; it need not agree with stamps.

        unwritten: called with the reason for every moment that cannot be stored.
        """
        self.buffer, self.settings = buffer, settings or SupervisionSettings()
        self.history = TokenHistory(self.settings.history, self.settings.tolerance)
        self._clock, self._unwritten = clock, unwritten
        self._lock = threading.RLock()
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._answered: OrderedDict[str, _Answered] = OrderedDict()
        self._moments: OrderedDict[int, dict[str, int]] = OrderedDict()
        self._kept: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._last_unasked: int | None = None

    def take_tokens(self, tokens: ModalityTokens) -> None:
        """Add received tokens."""
        with self._lock:
            self.history.add(tokens)
            # a moment without questions is due once in a period
            stamp, last, period = tokens.stamp_ns, self._last_unasked, self.settings.period * 1e9
            due = math.isfinite(period) and (last is None or abs(stamp - last) >= period)
            if due and len(self.history.modalities) > 1:
                self._last_unasked = stamp
                self._gather(stamp, [])
            # late tokens are added to the nearest moment that was written without them
            lacking = [place for place, stamps in self._moments.items() if tokens.modality not in stamps
                       and apart(tokens, place) <= self.history.tolerance_ns]
            nearest = min(lacking, key=lambda place: apart(tokens, place), default=None)
            if nearest is not None and nearest in self.buffer:
                self._moments[nearest][tokens.modality] = stamp
                self._write(nearest, {tokens.modality: tokens}, ())
            self.settle()

    def take_questions(self, stamp_ns: int, questions: Iterable[BufferedQuestion],
                       conditions: tuple[str, ...] = ()) -> None:
        """Add labelled questions about a moment, before or after its tokens."""
        good = []
        with self._lock:
            for question in questions:
                if question.choices and question.answer not in question.choices:
                    self._drop(NOT_A_CHOICE, 1)
                else:
                    good.append(question)
            if good:
                self._gather(stamp_ns, good, conditions=conditions)
            self.settle()

    def take_answer(self, name: str, question: str, choices: Sequence[str], stamp_ns: int,
                    stamps: Mapping[str, int]) -> None:
        """Add an answered question.

        name: its id.  stamp_ns: of the answer.  stamps: of the tokens of each modality that the answer used.
        """
        with self._lock:
            tokens = {modality: used for modality, stamp in stamps.items()
                      if (used := self.history.exactly(modality, stamp)) is not None}
            self._answered.pop(name, None)
            self._answered[name] = _Answered(question, tuple(choices), stamp_ns, tokens)
            if len(self._answered) > self.settings.answers:
                self._answered.popitem(last=False)
            if self.settings.asked and tokens:
                self._gather(stamp_ns, [BufferedQuestion.read(question, '', choices, ASKED)], tokens)
            self.settle()

    def take_feedback(self, answer: str, name: str = '', question: str = '', stamp_ns: int = 0) -> None:
        """Add a correction of the answer to the question of an id, or to a question of a time.

        Raises QuestionError for an unknown id or moment, for a text that is not that of the id, and for an
        answer that the question does not allow.
        """
        with self._lock:
            known = self._corrected(name, question, stamp_ns)
            plain = ' '.join(answer.split())
            if not plain or known.choices and plain not in known.choices:
                raise QuestionError(f'{answer!r} is not an allowed answer to {known.question!r}; '
                                    f'it must be one of {", ".join(known.choices) or "any words"}')
            tokens = {**self.history.at(known.stamp_ns), **known.tokens}
            if not tokens:
                raise QuestionError(f'what {known.question!r} was answered from is not remembered; correct '
                                    f'an answer within {self.settings.history:g} s')
            correction = BufferedQuestion.read(known.question, plain, known.choices, FEEDBACK)
            self._store(known.stamp_ns, tokens, [correction], ())

    def settle(self) -> None:
        """Write the moments that are complete or have waited long enough."""
        with self._lock:
            for stamp, moment in list(self._waiting.items()):
                late = self._clock() - moment.since >= self.settings.patience
                if not late and not self.history.passed(stamp):
                    continue
                tokens = {**self.history.at(stamp), **moment.tokens}
                if not late and not tokens:
                    continue
                del self._waiting[stamp]
                if not tokens:
                    self._drop(NO_TOKENS, len(moment.questions))
                elif moment.questions or len(tokens) > 1:
                    self._store(stamp, tokens, moment.questions, moment.conditions)

    @property
    def counts(self) -> SupervisionCounts:
        """Return the counts so far."""
        with self._lock:
            return SupervisionCounts(dict(self._kept), dict(self._dropped), len(self._waiting))

    def _gather(self, stamp_ns: int, questions: Sequence[BufferedQuestion], tokens: Frame | None = None,
                conditions: tuple[str, ...] = ()) -> None:
        """Add questions and known tokens to a waiting moment; the oldest of too many is dropped."""
        moment = self._waiting.setdefault(stamp_ns, _Waiting(self._clock()))
        moment.questions += questions
        moment.tokens |= tokens or {}
        moment.conditions = conditions or moment.conditions
        if len(self._waiting) > self.settings.waiting:
            _, oldest = self._waiting.popitem(last=False)
            self._drop(NO_ROOM, len(oldest.questions))

    def _store(self, stamp_ns: int, tokens: Frame, questions: Sequence[BufferedQuestion],
               conditions: tuple[str, ...]) -> None:
        """Write to the existing moment that has any of these tokens, or to a new one."""
        stamps = {name: used.stamp_ns for name, used in tokens.items()}
        place = next((place for place, written in reversed(self._moments.items())
                      if stamps.items() & written.items()), stamp_ns)
        written = {**stamps, **self._moments.pop(place, {})}
        own = {name: used for name, used in tokens.items() if written[name] == used.stamp_ns}
        self._write(place, own, questions, conditions)
        self._moments[place] = written
        if len(self._moments) > self.settings.waiting:
            self._moments.popitem(last=False)

    def _write(self, stamp_ns: int, tokens: Frame, questions: Sequence[BufferedQuestion],
               conditions: tuple[str, ...] = ()) -> None:
        try:
            self.buffer.add(tokens, questions, stamp_ns, conditions)
            self._kept.update(question.source for question in questions)
        except (MpnpError, OSError) as error:
            self._unwritten(f'moment not stored:  {error}')
            self._drop(NOT_WRITTEN, len(questions))

    def _corrected(self, name: str, question: str, stamp_ns: int) -> _Answered:
        """Return the question of an id or, without id, of a time.

        A question that is not remembered has the answers of NuScenes-QA as choices if it follows a template.
        """
        if name:
            answered = self._answered.get(name)
            if answered is None:
                raise QuestionError(f'no answer with the id {name!r} among the last '
                                    f'{self.settings.answers}; send its question and stamp, and no id')
            if question and question != answered.question:
                raise QuestionError(f'the question of the id {name!r} was {answered.question!r}, not '
                                    f'{question!r}; send the id alone')
            return answered
        if not question.strip():
            raise QuestionError('a correction needs the id of an answer, or a question and its stamp')
        for known in reversed(self._answered.values()):
            if known.question == question and abs(known.stamp_ns - stamp_ns) <= self.history.tolerance_ns:
                return known
        return _Answered(question, ANSWERS if read_question(question) else (), stamp_ns, {})

    def _drop(self, reason: str, count: int) -> None:
        if count:
            self._dropped[reason] += count
