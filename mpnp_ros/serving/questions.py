"""Questions: what may be asked, and those that stand until withdrawn."""
from __future__ import annotations

import math
import unicodedata
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mpnp_ros.errors import QuestionError

MOST_CHARACTERS = 2000
MOST_CHOICES = 256
MOST_CHOICE_CHARACTERS = 200
MOST_ID_CHARACTERS = 200


@dataclass(frozen=True)
class Question:
    """A question as asked; fields as in msg/Question.  It may be anything until it is :meth:`checked`.

    period: seconds, the shortest time between two answers of a standing question.
    """

    text: str
    choices: tuple[str, ...] = ()
    id: str = ''
    standing: bool = False
    period: float = 0.

    @property
    def withdraws(self) -> bool:
        """Whether this ends the standing question of its id."""
        return self.standing and bool(self.id) and not self.text

    def checked(self) -> None:
        """Raises QuestionError, saying what is wrong and what is allowed."""
        _check_text('id', self.id, MOST_ID_CHARACTERS, empty=True)
        _check_text('text', self.text, MOST_CHARACTERS, empty=self.withdraws)
        self._check_choices()
        if not (math.isfinite(self.period) and self.period >= 0):
            raise QuestionError(f'the period of a question is {self.period} s; it must be 0 or more')

    def named(self) -> Question:
        """The same, with an id made up where there is none."""
        return self if self.id else replace(self, id=uuid.uuid4().hex[:12])

    def clipped(self) -> Question:
        """The same, cut to what may be echoed; for the rejection of a question that is too long."""
        return replace(
            self, text=self.text[:MOST_CHARACTERS], id=self.id[:MOST_ID_CHARACTERS],
            choices=tuple(choice[:MOST_CHOICE_CHARACTERS] for choice in self.choices[:MOST_CHOICES]))

    def _check_choices(self) -> None:
        if len(self.choices) == 1 or len(self.choices) > MOST_CHOICES:
            raise QuestionError(f'{len(self.choices)} choices; give 2 to {MOST_CHOICES}, or none at all')
        if len(set(self.choices)) < len(self.choices):
            raise QuestionError('the choices of a question repeat; each may be given once')
        for choice in self.choices:
            _check_text('choice', choice, MOST_CHOICE_CHARACTERS)


class StandingQuestions:
    """Questions that are answered again on every new frame, at most `capacity` of them.

    Not thread-safe; the answer server locks.  Frames are numbered by the server.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.skipped = 0
        self._entries: dict[str, _Standing] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Question]:
        return iter([entry.question for entry in self._entries.values()])

    def place(self, question: Question, frame: int, now: int) -> None:
        """Let a question stand; one of the same id gives way.

        frame: newest frame, which the first answer will rest on.  now: nanoseconds.
        Raises QuestionError where there are too many.
        """
        if question.id not in self._entries and len(self._entries) >= self.capacity:
            raise QuestionError(f'{self.capacity} questions stand already; '
                                f'withdraw one by its id with an empty text')
        self._entries[question.id] = _Standing(question, frame, now)

    def withdraw(self, name: str) -> None:
        """Forget the question of an id.  Raises QuestionError where there is none."""
        if self._entries.pop(name, None) is None:
            raise QuestionError(f'no standing question has the id {name}; nothing is withdrawn')

    def next(self, frame: int, now: int) -> Question | None:
        """The question that has waited longest, now marked as answered; None if none is due."""
        due = [entry for entry in self._entries.values() if entry.due(frame, now)]
        if not due:
            return None
        entry = min(due, key=lambda entry: entry.frame)
        if entry.question.period == 0:
            self.skipped += frame - entry.frame - 1
        entry.frame, entry.answered = frame, now
        return entry.question


@dataclass
class _Standing:
    question: Question
    frame: int
    answered: int

    def due(self, frame: int, now: int) -> bool:
        waited = (now - self.answered) / 1e9
        return frame > self.frame and (waited >= self.question.period or waited < 0)


def _check_text(what: str, text: str, most: int, empty: bool = False) -> None:
    if len(text) > most:
        raise QuestionError(f'the {what} of a question has {len(text)} characters; at most {most} may be')
    if not text.strip() and not (empty and not text):
        raise QuestionError(f'the {what} of a question is empty')
    if any(unicodedata.category(c) in ('Cc', 'Cs') and c not in '\n\t' for c in text):
        raise QuestionError(f'the {what} of a question holds control characters; send plain text')
