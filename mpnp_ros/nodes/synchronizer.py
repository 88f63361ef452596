"""Sets of messages of several sources at one moment, without long waits for absent sources.

A set has at most one message of each source, all within ``slop`` of each other.  Of the sets around one
message the narrowest is chosen, as ApproximateTime of message_filters does, with two differences.  A set is
released when no expected message could be nearer, judged by the intervals of each source.  After ``timeout``
it is released without the missing sources.

Stamps decide what belongs together and a steady clock how long to wait, so simulated time may stand still or
jump. A source whose clock disagrees with the others is left out: the majority decides, and of two sources the
one whose stamps are nearer to this machine's clock.
"""
from __future__ import annotations

import bisect
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar('Item')
MAX_WAITING = 4
"""Maximum waiting messages of one source; limits the memory for images."""
RECENT = 8
"""Messages by which interval and clock of a source are estimated."""
UNPAIRED = 3
"""Unmatched messages after which a slightly different clock counts as wrong."""
GAP = 0.8
"""The next message of a source is not expected before this share of its smallest interval."""


@dataclass(frozen=True)
class Misfit:
    """Why a source matches no others.

    clock: its clock disagrees, by offset_ns (positive: its stamps are behind the others').  Otherwise clocks
    agree, and offset_ns is how far from any other its messages are at best.
    """

    clock: bool
    offset_ns: int


@dataclass(eq=False)
class _Message(Generic[Item]):
    source: str
    stamp_ns: int
    item: Item
    arrived_ns: int


@dataclass(eq=False)
class _Source(Generic[Item]):
    """waiting: by stamp.  gaps: of stamps.  ages: clock minus stamp.  unpaired: messages in no set."""

    waiting: list[_Message[Item]] = field(default_factory=list)
    newest_ns: int | None = None
    seen_ns: int = 0
    gaps: deque[int] = field(default_factory=lambda: deque(maxlen=2 * RECENT))
    ages: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    distances: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    unpaired: int = 0
    since_ns: int = 0

    @property
    def age_ns(self) -> int:
        return sorted(self.ages)[(len(self.ages) - 1) // 2]

    def expected_ns(self) -> int | None:
        """Return the earliest expected stamp of the next message."""
        if self.newest_ns is None or not self.gaps:
            return None
        return self.newest_ns + round(GAP * min(self.gaps))


@dataclass(frozen=True)
class _Given:
    """The last set: its time, stamps and sources."""

    at_ns: int
    first_ns: int
    last_ns: int
    stamps: Mapping[str, int]


class Synchronizer(Generic[Item]):
    """Groups items of ``sources``; every method may be called from any thread.

    slop_ns: largest difference of sensor times within a set.  timeout_ns: how long a set waits for the
    rest.  absent_after_ns: a source missing for that long is not waited for.
    ready: called with each set, source to item, in the order of ``sources``.
    superseded: called with every item that comes into no set.
    Both are called under the lock and must be quick.  Nanoseconds throughout; ``now_ns`` is a steady clock.
    """

    def __init__(self, sources: Iterable[str], slop_ns: int, timeout_ns: int, absent_after_ns: int, *,
                 ready: Callable[[Mapping[str, Item]], object],
                 superseded: Callable[[Item], object] = lambda item: None) -> None:
        self._sources: dict[str, _Source[Item]] = {source: _Source() for source in sources}
        self._slop, self._timeout, self._absent_after = slop_ns, timeout_ns, absent_after_ns
        self._reach = max(timeout_ns + 2 * slop_ns, absent_after_ns // 10)
        self._ready, self._superseded = ready, superseded
        self._lock = threading.Lock()
        self._began: int | None = None
        self._last: _Given | None = None
        self._odd: dict[str, int] = {}
        self._closed = False

    def join(self, source: str) -> None:
        """Add a source."""
        with self._lock:
            self._sources.setdefault(source, _Source())

    def leave(self, source: str) -> None:
        """Remove a source; its waiting messages are superseded."""
        with self._lock:
            gone = self._sources.pop(source, None)
            self._odd.pop(source, None)
            for message in gone.waiting if gone else ():
                self._superseded(message.item)

    def add(self, source: str, stamp_ns: int, item: Item, now_ns: int, clock_ns: int | None = None) -> None:
        """Add an item with the sensor time ``stamp_ns``; this can complete a set.

        clock_ns: current time of the node's clock, by which stamps are judged.
        """
        with self._lock:
            state = self._sources.get(source)
            if self._closed or state is None:
                self._superseded(item)
                return
            self._began = now_ns if self._began is None else self._began
            message = _Message(source, stamp_ns, item, now_ns)
            self._note(state, message, now_ns if clock_ns is None else clock_ns)
            self._odd = self._odd_ones(now_ns)
            for odd in self._odd:
                self._drop(*self._sources[odd].waiting)
            if source in self._odd or self._straggles(message, now_ns):
                self._superseded(item)
            else:
                bisect.insort(state.waiting, message, key=lambda other: other.stamp_ns)
            self._settle(now_ns)

    def poll(self, now_ns: int) -> None:
        """Release sets that have waited long enough; call it at :meth:`deadline`."""
        with self._lock:
            self._settle(now_ns)

    def deadline(self) -> int | None:
        """Return when :meth:`poll` is due; None while nothing waits."""
        with self._lock:
            waiting = self._all()
            return min(message.arrived_ns for message in waiting) + self._timeout if waiting else None

    def misfits(self) -> dict[str, Misfit]:
        """Return the sources that match no others, and why."""
        with self._lock:
            said = {source: Misfit(True, offset) for source, offset in self._odd.items()}
            now = max((state.seen_ns for state in self._sources.values()), default=0)
            for source, state in self._sources.items():
                alone = state.unpaired >= 2 * RECENT and now - state.seen_ns < self._absent_after
                if source not in said and alone and state.distances and min(state.distances) > self._slop:
                    said[source] = Misfit(False, min(state.distances))
            return said

    def close(self) -> None:
        """Supersede all waiting and future items."""
        with self._lock:
            self._closed = True
            self._drop(*self._all())

    def _all(self) -> list[_Message[Item]]:
        return [message for state in self._sources.values() for message in state.waiting]

    def _note(self, state: _Source[Item], message: _Message[Item], clock_ns: int) -> None:
        """Update interval and clock of a source."""
        stamp = message.stamp_ns
        if state.newest_ns is not None and stamp < state.newest_ns - self._reach:  # a bag starts again
            self._drop(*state.waiting)
            for kept in state.gaps, state.ages, state.distances:
                kept.clear()
            state.newest_ns = None
        if state.newest_ns is not None and stamp > state.newest_ns:
            state.gaps.append(stamp - state.newest_ns)
        state.newest_ns = stamp if state.newest_ns is None else max(state.newest_ns, stamp)
        state.seen_ns = message.arrived_ns
        age = clock_ns - stamp
        if state.ages and abs(age - state.age_ns) > 4 * self._reach:  # a clock was set, or a bag begins
            state.ages.clear()
        if not state.ages:
            state.since_ns = message.arrived_ns
        state.ages.append(age)
        others = [abs(stamp - other.newest_ns) for name, other in self._sources.items()
                  if name not in (message.source, *self._odd) and other.newest_ns is not None
                  and state.seen_ns - other.seen_ns < self._absent_after]
        if others:
            state.distances.append(min(others))
            state.unpaired += 1

    def _odd_ones(self, now_ns: int) -> dict[str, int]:
        """Return the sources whose clock differs from the majority, and by how much they are behind."""
        ages = {source: state.age_ns for source, state in self._sources.items()
                if state.ages and now_ns - state.seen_ns < self._absent_after}
        if not ages:
            return {}

        def trust(source: str) -> tuple[int, int]:
            agreeing = sum(abs(age - ages[source]) <= self._reach for age in ages.values())
            return agreeing, -abs(ages[source])

        def is_comparable(source: str) -> bool:
            """Return whether both have sent since the other's clock was last set."""
            state, trusted = self._sources[source], self._sources[true]
            return state.seen_ns >= trusted.since_ns and trusted.seen_ns >= state.since_ns

        true = max(ages, key=trust)
        odd = {source: age - ages[true] for source, age in ages.items()
               if abs(age - ages[true]) > self._reach and is_comparable(source)}
        return {source: offset for source, offset in odd.items()
                if abs(offset) > 4 * self._reach or self._sources[source].unpaired > UNPAIRED}

    def _straggles(self, message: _Message[Item], now_ns: int) -> bool:
        """Return whether a message is too late: the set of its moment, or a later one, was released."""
        last = self._last
        if last is None or len(self._sources) == 1 or now_ns - last.at_ns > self._timeout + self._reach:
            return False
        if message.stamp_ns < last.first_ns - self._reach:
            return False  # its clock is another one
        own = last.stamps.get(message.source)
        return message.stamp_ns <= last.last_ns if own is None else message.stamp_ns < own

    def _awaited(self, now_ns: int) -> set[str]:
        """Return the sources worth waiting for: all at first, later those not missing for long.

        The time is counted up to the last set, so that rare sensors are waited for.
        """
        if now_ns - (now_ns if self._began is None else self._began) < self._absent_after:
            return self._sources.keys() - self._odd
        last = self._last.at_ns if self._last else now_ns
        return {source for source, state in self._sources.items() if state.ages
                and last - state.seen_ns < self._absent_after} - self._odd.keys()

    def _settle(self, now_ns: int) -> None:
        while True:
            if complete := self._complete(now_ns):
                queues = [self._sources[message.source].waiting for message in complete]
                full = any(len(waiting) > MAX_WAITING and waiting[0] in complete for waiting in queues)
                due = min(message.arrived_ns for message in complete) + self._timeout <= now_ns
                if full or due or self._cannot_improve(complete):
                    self._give(complete, now_ns)
                    continue
            waiting = self._all()
            overdue = [message for message in waiting if message.arrived_ns + self._timeout <= now_ns] or [
                state.waiting[0] for state in self._sources.values() if len(state.waiting) > MAX_WAITING]
            if not overdue:
                return
            oldest = min(overdue, key=lambda message: (message.arrived_ns, message.stamp_ns))
            if self._straggles(oldest, now_ns):
                self._drop(oldest)
            else:
                self._give_up_waiting(oldest, now_ns)

    def _complete(self, now_ns: int) -> list[_Message[Item]] | None:
        """Return the narrowest set of all awaited sources around the first message that has one."""
        awaited = self._awaited(now_ns)
        if not awaited or not all(self._sources[source].waiting for source in awaited):
            return None
        latest = max(self._sources[source].waiting[0].stamp_ns for source in awaited)
        waiting = self._all()
        for pivot in sorted(waiting, key=lambda message: message.stamp_ns):
            if pivot.stamp_ns < latest or pivot.source not in awaited:
                continue
            group, narrower = None, self._narrowest(pivot, waiting)
            while awaited <= {message.source for message in narrower} and (
                    group is None or _spread(narrower) < _spread(group)):
                group = narrower
                narrower = self._narrowest(max(group, key=lambda message: message.stamp_ns), waiting)
            if group:
                return group
        return None

    def _narrowest(self, pivot: _Message[Item],
                   messages: Sequence[_Message[Item]]) -> list[_Message[Item]]:
        """Return the narrowest of the largest sets around `pivot`."""
        near = [message for message in messages
                if message.source != pivot.source and abs(message.stamp_ns - pivot.stamp_ns) <= self._slop]
        starts = {pivot.stamp_ns, *(item.stamp_ns for item in near if item.stamp_ns < pivot.stamp_ns)}
        best = min((_chosen(pivot, near, start, start + self._slop) for start in starts),
                   key=lambda group: (-len(group), _spread(group), -min(item.stamp_ns for item in group)))
        first = min(message.stamp_ns for message in best)
        return _chosen(pivot, near, first, first + _spread(best), nearest=True)

    def _cannot_improve(self, group: Sequence[_Message[Item]]) -> bool:
        """Return whether no expected message could make the set narrower."""
        pivot = max(group, key=lambda message: message.stamp_ns)
        coming: list[_Message[Any]] = [_Message(message.source, expected, None, 0) for message in group
                  if (expected := self._sources[message.source].expected_ns()) is not None]
        return _spread(self._narrowest(pivot, [*self._all(), *coming])) >= _spread(group)

    def _give_up_waiting(self, oldest: _Message[Item], now_ns: int) -> None:
        """Release the set of a message that waited long enough, or drop it if others have nearer ones."""
        waiting = self._all()
        group = self._narrowest(oldest, waiting)
        pivot = max(group, key=lambda message: message.stamp_ns)
        nearest = self._narrowest(pivot, waiting)
        if oldest in nearest:
            group = nearest
        elif len(group) > 1:
            self._drop(oldest)
            return
        last = self._last
        if (last is not None and now_ns - last.at_ns < self._timeout and len(last.stamps) >= 2 * len(group)
                and not last.stamps.keys() & {message.source for message in group}):
            self._drop(*group)  # they came too late for it
        else:
            self._give(group, now_ns)

    def _give(self, group: Sequence[_Message[Item]], now_ns: int) -> None:
        stamps = {message.source: message.stamp_ns for message in group}
        first, last = min(stamps.values()), max(stamps.values())
        items = {message.source: message.item for message in group}
        for source, state in self._sources.items():
            own = stamps.get(source, first - 1)
            passed = [message for message in state.waiting if message.stamp_ns <= own and (
                source in stamps or message.stamp_ns >= first - 4 * self._reach)]  # or a bag starts again
            self._drop(*(message for message in passed if message not in group))
            for message in passed:
                if message in group:
                    state.waiting.remove(message)
            if source in stamps and len(stamps) > 1:
                state.unpaired = 0
        self._last = _Given(now_ns, first, last, stamps)
        self._ready({source: items[source] for source in self._sources if source in items})

    def _drop(self, *messages: _Message[Item]) -> None:
        for message in messages:
            self._sources[message.source].waiting.remove(message)
            self._superseded(message.item)


def _chosen(pivot: _Message[Item], near: Sequence[_Message[Item]], first: int, last: int,
            nearest: bool = False) -> list[_Message[Item]]:
    """Return pivot and of each other source one message of first..last, the narrowest or the nearest such."""
    def rank(message: _Message[Item]) -> tuple[bool, int]:
        return (not nearest and message.stamp_ns > pivot.stamp_ns, abs(message.stamp_ns - pivot.stamp_ns))

    chosen = {pivot.source: pivot}
    for message in near:
        if first <= message.stamp_ns <= last and (
                message.source not in chosen or rank(message) < rank(chosen[message.source])):
            chosen[message.source] = message
    return list(chosen.values())


def _spread(group: Sequence[_Message[Item]]) -> int:
    stamps = [message.stamp_ns for message in group]
    return max(stamps) - min(stamps)
