"""Events: when the answers to a standing question begin and cease to meet its condition.

The probability of the wanted answers must reach one limit for an event to begin, and fall below a lower one
for it to end (hysteresis), each for some time (debouncing).  Times are sensor stamps, so a bag gives the same
events at any rate.
"""
from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import IntEnum

from mpnp_ros.serving.answers import Answer, Status
from mpnp_ros.serving.questions import Question
from mpnp_ros.tokens import SECOND

WITHDRAWN = 'the question does not stand any more'


class EventKind(IntEnum):
    """What an event says, numbered as in msg/Event."""

    BEGINS = 0
    ENDS = 1
    LOST = 2


@dataclass(frozen=True)
class Event:
    """The condition of a standing question begins or ceases to be met; fields as in msg/Event.

    stamp_ns: sensor stamp of the answer by which it is known.  since_ns: stamp of the first of the answers
    that led to it.  reason: why nothing is known any more, of LOST.
    """

    question: Question
    kind: EventKind
    stamp_ns: int
    since_ns: int
    answer: str
    probability: float
    used: tuple[str, ...] = ()
    reason: str = ''


class EventWatch:
    """Follows the answers to the standing questions that have a condition.

    An answer that does not tell, such as "unknown", changes nothing and interrupts what was about to begin or
    to end.  If no sensor can be used, or the question is withdrawn, an event that lasts is lost.  Not
    thread-safe; the answer server locks.
    """

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def place(self, question: Question) -> Event | None:
        """Watch a question in place of one of the same id; returns the event that is lost by that."""
        lost = self.withdraw(question.id)
        if question.condition.answers:
            self._watched[question.id] = _Watched(question)
        return lost

    def withdraw(self, name: str) -> Event | None:
        """Stop watching the question of an id; returns the event that is lost by that."""
        watched = self._watched.pop(name, None)
        return watched.lose(WITHDRAWN) if watched else None

    def retain(self, names: Collection[str]) -> list[Event]:
        """Withdraw all questions but those of these ids; returns the events that are lost by that."""
        lost = [self.withdraw(name) for name in self._watched.keys() - set(names)]
        return [event for event in lost if event]

    def interrupt(self, reason: str) -> list[Event]:
        """Go on watching, but nothing is known for now; returns the events that are lost by that."""
        lost = [watched.lose(reason) for watched in self._watched.values()]
        return [event for event in lost if event]

    def see(self, answer: Answer) -> Event | None:
        """Take an answer to a standing question into account; returns the event that it completes."""
        watched = self._watched.get(answer.question.id)
        if watched is None or replace(answer.question, lease=watched.question.lease) != watched.question:
            return None  # answered before the question was withdrawn or replaced
        return watched.see(answer)


@dataclass
class _Watched:
    question: Question
    last: Event | None = None  # the newest event, of kind BEGINS while it lasts
    since: int | None = None   # stamp of the first answer in favour of the next event

    def see(self, answer: Answer) -> Event | None:
        condition, stamp = self.question.condition, answer.stamp_ns
        lasts = self.last is not None and self.last.kind is EventKind.BEGINS
        if answer.status is Status.NO_SENSOR:
            return self.lose(answer.error)
        if answer.status is not Status.OK:
            self.since = None
            return None
        probability = probability_of(condition.answers, answer)
        if not (probability < condition.end if lasts else probability >= condition.begin):
            self.since = None
            return None
        if self.since is None or stamp < self.since:  # a bag that begins anew goes back in time
            self.since = stamp
        if stamp - self.since < condition.hold * SECOND:
            return None
        self.last = Event(self.question, EventKind.ENDS if lasts else EventKind.BEGINS, stamp, self.since,
                          answer.text, probability, tuple(entry.modality for entry in answer.used))
        self.since = None
        return self.last

    def lose(self, reason: str) -> Event | None:
        self.since = None
        if self.last is None or self.last.kind is not EventKind.BEGINS:
            return None
        self.last = replace(self.last, kind=EventKind.LOST, reason=reason)
        return self.last


def probability_of(wanted: Collection[str], answer: Answer) -> float:
    """Return the probability of the wanted answers together, 0..1.

    Of a generated answer: its confidence if its text is a wanted one, apart from case and a full stop, else
    0.
    """
    choices = answer.question.choices
    if choices:
        return sum(probability for choice, probability in zip(choices, answer.probabilities, strict=False)
                   if choice in wanted)
    said = answer.text.rstrip('.').casefold()
    return answer.confidence if said in {text.casefold() for text in wanted} else 0.
