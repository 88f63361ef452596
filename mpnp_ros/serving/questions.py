"""Questions: validation, and standing questions until they are withdrawn."""
from __future__ import annotations

import math
import re
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import TypeVar

from mpnp_ros.errors import QuestionError

MOST_CHARACTERS = 2000
MOST_CHOICES = 256
MOST_CHOICE_CHARACTERS = 200
MOST_ID_CHARACTERS = 200
MOST_NEW_TOKENS = 1024
MOST_REQUIRED = 32
Item = TypeVar('Item')
FILLERS = frozenset('\u115f\u1160\u2800\u3164\uffa0')
"""Letters and symbols that show nothing, besides Unicode spaces and format characters."""
JOINERS = ('VARIATION SELECTOR', 'MONGOLIAN FREE VARIATION', 'COMBINING GRAPHEME JOINER')
"""Names of characters that only select how the previous one is drawn, or join marks."""
TELL_ME = re.compile(r'(?:please,? )?(?:(?:tell|warn|notify|alert|inform) me|let me know) '
                     r'(?:when(?:ever)?|if|once|as soon as) (.+?)[.!? ]*', re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """When the answers to a standing question are an event; fields as in msg/Condition.

    answers: those during which the event lasts; empty: no events.  begin, end: 0..1, limits of their
    probability together.  hold: seconds.
    """

    answers: tuple[str, ...] = ()
    begin: float = 0.7
    end: float = 0.4
    hold: float = 0.

    def checked(self, choices: tuple[str, ...]) -> None:
        """Raise QuestionError unless it is valid for a question with these choices."""
        if not 0 < self.end <= self.begin <= 1:
            raise QuestionError(
                f'a condition begins at {self.begin} and ends below {self.end}; it must be 0 < '
                'end <= begin <= 1'
            )
        if not (math.isfinite(self.hold) and self.hold >= 0):
            raise QuestionError(f'the hold of a condition is {self.hold} s; it must be 0 or more')
        for answer in self.answers:
            _check_text('answer of the condition', answer, MOST_CHOICE_CHARACTERS)
        if choices and (unknown := [answer for answer in self.answers if answer not in choices]):
            raise QuestionError(
                f'the condition waits for {", ".join(unknown)}, which no choice of the question '
                f'is; there are {", ".join(choices)}'
            )


@dataclass(frozen=True)
class Question:
    """Question as asked; fields as in msg/Question.  It is unvalidated until :meth:`checked`.

    period: seconds, the shortest time between two answers of a standing question.
    lease: seconds after which a standing question is withdrawn unless it is asked again; 0: never.
    condition: of events.  on_change: whether answers that say the same as the one before are left out.
    max_age, require, refuse_below: requirements, without which the question is refused: seconds up to which
    the data of a modality counts (0: any), modalities that the answer must rest on, the least confidence.
    """

    text: str
    choices: tuple[str, ...] = ()
    id: str = ''
    standing: bool = False
    period: float = 0.
    lease: float = 0.
    condition: Condition = Condition()
    on_change: bool = False
    max_age: float = 0.
    require: tuple[str, ...] = ()
    refuse_below: float = 0.

    @property
    def withdraws(self) -> bool:
        """Return whether it withdraws the standing question of its id."""
        return self.standing and bool(self.id) and not self.text

    def checked(self) -> None:
        """Raise QuestionError, with the problem and the allowed values, unless it is valid."""
        _check_text('id', self.id, MOST_ID_CHARACTERS, empty=True)
        _check_text('text', self.text, MOST_CHARACTERS, empty=self.withdraws)
        if len(self.choices) == 1 or len(self.choices) > MOST_CHOICES:
            raise QuestionError(f'{len(self.choices)} choices; give 2 to {MOST_CHOICES}, or none at all')
        for choice in self.choices:
            _check_text('choice', choice, MOST_CHOICE_CHARACTERS)
        if len({_seen(choice) for choice in self.choices}) < len(self.choices):
            raise QuestionError('the choices of a question repeat, or differ only in what cannot be seen; '
                                'each may be given once')
        for name in ('period', 'lease', 'max_age'):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise QuestionError(f'the {name} of a question is {value} s; it must be 0 or more')
        if self.condition.answers and not self.standing:
            raise QuestionError('a question with a condition must be a standing one; set standing')
        self.condition.checked(self.choices)
        if not 0 <= self.refuse_below <= 1:
            raise QuestionError(f'refuse_below of a question is {self.refuse_below}; it must be 0 to 1')
        if len(self.require) > MOST_REQUIRED:
            raise QuestionError(f'a question requires {len(self.require)} modalities; at most '
                                f'{MOST_REQUIRED} are allowed')
        for modality in self.require:
            _check_text('require', modality, MOST_ID_CHARACTERS)

    def normalised(self) -> Question:
        """Return it with all texts composed (NFC), as the language model was trained."""
        return replace(
            self,
            text=_composed(self.text),
            choices=tuple(map(_composed, self.choices)),
            condition=replace(self.condition, answers=tuple(map(_composed, self.condition.answers))),
        )

    def awaited(self) -> Question:
        """Return "tell me when X" as the standing question whether X, with an event while the answer is yes.

        Any other question is returned as it is.  Raises QuestionError if X cannot be made a question, or no
        choice is yes.
        """
        told = TELL_ME.fullmatch(self.text.strip())
        if told is None or self.withdraws:
            return self
        condition = self.condition if self.condition.answers else replace(self.condition, answers=('yes',))
        asked = replace(self, text=_yes_or_no(told[1]), standing=True, condition=condition)
        asked.checked()
        return asked

    def named(self) -> Question:
        """Return it with a generated id if it has none."""
        return self if self.id else replace(self, id=uuid.uuid4().hex[:12])

    def clipped(self) -> Question:
        """Return it cut to the length that is echoed, for the rejection of a long question."""
        return replace(
            self, text=self.text[:MOST_CHARACTERS], id=self.id[:MOST_ID_CHARACTERS],
            choices=tuple(choice[:MOST_CHOICE_CHARACTERS] for choice in self.choices[:MOST_CHOICES]),
            require=tuple(name[:MOST_ID_CHARACTERS] for name in self.require[:MOST_REQUIRED]))


class StandingQuestions:
    """Questions that are answered again on every new frame, at most `capacity` of them.

    Not thread-safe; the answer server locks.  Frames are numbered by the server.
    expired: number of questions whose lease was not renewed.
    """

    def __init__(self, capacity: int, steady: Callable[[], float] = time.monotonic) -> None:
        """steady: seconds of a clock that always runs, for leases."""
        self.capacity = capacity
        self.skipped = self.expired = 0
        self._steady = steady
        self._entries: dict[str, _Standing] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def listed(self) -> list[Standing]:
        """Return the standing questions, oldest first."""
        self.expire()
        now = self._steady()
        return [Standing(entry.question, entry.count, entry.until - now if entry.question.lease else math.nan)
                for entry in self._entries.values()]

    def expire(self) -> list[str]:
        """Withdraw the questions whose lease is over, and return their ids."""
        over = [name for name, entry in self._entries.items()
                if entry.question.lease and entry.until <= self._steady()]
        for name in over:
            del self._entries[name]
        self.expired += len(over)
        return over

    def renew(self, question: Question) -> bool:
        """Renew the lease of an unchanged standing question; returns whether there is one.

        This does not change when it is answered next.
        """
        self.expire()
        entry = self._entries.get(question.id)
        if not question.lease or entry is None or replace(entry.question, lease=question.lease) != question:
            return False
        entry.question, entry.until = question, self._steady() + question.lease
        return True

    def note(self, name: str, bare: bool, repeated: bool, said: tuple[object, ...] = ()) -> bool:
        """Record an answer; returns whether to deliver it.

        bare: it uses no sensor; that is delivered once, until an answer uses one again.
        repeated: about a new frame, so not the first answer.  said: what it says, for questions that want
        changes only.
        """
        entry = self._entries.get(name)
        if entry is None:
            return True
        told = repeated and (bare and entry.bare or entry.question.on_change and said == entry.said)
        entry.bare, entry.said, entry.count = bare, said, entry.count + (not told)
        return not told

    def names(self) -> frozenset[str]:
        """Return the ids of the questions that stand."""
        return frozenset(self._entries)

    def any_unaware(self) -> bool:
        """Return whether some question has not been told that no sensor is used."""
        return any(not entry.bare for entry in self._entries.values())

    def place(self, question: Question, frame: int, now: int) -> None:
        """Add a standing question; it replaces one of the same id.

        frame: newest frame, which the first answer uses.  now: nanoseconds.
        Raises QuestionError if there are too many.
        """
        self.expire()
        if question.id not in self._entries and len(self._entries) >= self.capacity:
            raise QuestionError(f'there are already {self.capacity} standing questions; '
                                'withdraw one by sending its id with an empty text')
        self._entries[question.id] = _Standing(question, frame, now, self._steady() + question.lease)

    def withdraw(self, name: str) -> None:
        """Remove the question of an id.  Raises QuestionError if there is none."""
        if self._entries.pop(name, None) is None:
            raise QuestionError(f'no standing question has the id {name}; nothing is withdrawn')

    def next(self, frame: int, now: int, most: int = 1) -> list[Question]:
        """Return the questions that have waited longest, now marked as answered; empty if none is due.

        most: number of questions with choices; one without is returned alone.
        """
        self.expire()
        due = sorted((entry for entry in self._entries.values() if entry.due(frame, now)),
                     key=lambda entry: entry.frame)
        together = together_at_front(due, lambda entry: bool(entry.question.choices), most)
        for entry in together:
            if entry.question.period == 0:
                self.skipped += frame - entry.frame - 1
            entry.frame, entry.answered = frame, now
        return [entry.question for entry in together]


@dataclass(frozen=True)
class Standing:
    """A standing question, how often it has been answered, and the seconds until its lease ends (or NaN)."""

    question: Question
    answered: int
    remaining: float


@dataclass
class _Standing:
    question: Question
    frame: int
    answered: int
    until: float
    count: int = 0
    bare: bool = True
    said: tuple[object, ...] = ()

    def due(self, frame: int, now: int) -> bool:
        waited = (now - self.answered) / 1e9
        return frame > self.frame and (waited >= self.question.period or waited < 0)


def _yes_or_no(clause: str) -> str:
    """Return a clause such as "a bus is ahead" or "you hear a siren" as a question."""
    clause = re.sub(r"^there's\b", 'there is', clause, flags=re.IGNORECASE)
    if stated := re.fullmatch(r'(.+?) (is|are) (.+)', clause, re.IGNORECASE):
        subject, verb, rest = stated.groups()
        return f'{verb.capitalize()} {subject} {rest}?'
    if sensed := re.fullmatch(r'(you|we) ((?:can )?)(\w+.*)', clause, re.IGNORECASE):
        who, can, rest = sensed.groups()
        return f'{"Can" if can else "Do"} {who.lower()} {rest}?'
    if shown := re.fullmatch(
        r'(.+?) (?:appears?|shows? up|comes? up|turns? up)\b ?(.*)', clause, re.IGNORECASE
    ):
        subject, where = shown.groups()
        return f'Is there {subject}{" " if where else ""}{where}?'
    raise QuestionError(
        f'"tell me when {clause}" cannot be made a question; say it with "is" or "are", as in '
        '"tell me when a pedestrian is ahead", or send a standing question with a condition'
    )


def _composed(text: str) -> str:
    return unicodedata.normalize('NFC', text)


def together_at_front(waiting: Iterable[Item], with_choices: Callable[[Item], bool],
                      most: int) -> list[Item]:
    """Return the first of those that wait, or up to `most` where it and those right behind have choices."""
    first = list(islice(waiting, most))
    return list(takewhile(with_choices, first)) or first[:1]


def _check_text(what: str, text: str, most: int, empty: bool = False) -> None:
    if len(text) > most:
        raise QuestionError(
            f'the {what} of a question has {len(text)} characters; at most {most} are allowed')
    if not _seen(text) and not (empty and not text):
        raise QuestionError(f'the {what} of a question is empty')
    if any(unicodedata.category(c) in ('Cc', 'Cs') and c not in '\n\t' for c in text):
        raise QuestionError(f'the {what} of a question holds control characters; send plain text')


def _seen(text: str) -> str:
    """Return the visible text: single spaces between characters that are not space, format or filler.

    Marks that belong to a character before them count with it, and alone they show nothing.
    """
    shown = ''.join(' ' if c.isspace() else c for c in unicodedata.normalize('NFC', text)
                    if unicodedata.category(c) != 'Cf' and c not in FILLERS
                    and not unicodedata.name(c, '').startswith(JOINERS))
    bare = all(c == ' ' or unicodedata.category(c) in ('Mn', 'Me') for c in shown)
    return '' if bare else ' '.join(shown.split())
