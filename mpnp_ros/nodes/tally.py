"""Accounting of received messages.

``received == encoded + superseded + rejected + waiting`` holds at any moment for every topic, so a message
lost inside the node would show.
"""
from __future__ import annotations

import threading
from collections.abc import Iterable

OUTCOMES = ('encoded', 'superseded', 'rejected')


class Tally:
    """Counters per topic; every method may be called from any thread."""

    def __init__(self, topics: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._counts = {topic: self._zero() for topic in topics}

    def receive(self, topic: str) -> None:
        """Count a message that has come and is waiting for its outcome."""
        with self._lock:
            counts = self._counts.setdefault(topic, self._zero())
            counts['received'] += 1
            counts['waiting'] += 1

    def settle(self, topics: Iterable[str], outcome: str) -> None:
        """Move one waiting message of each of ``topics`` to ``outcome``, one of :data:`OUTCOMES`."""
        with self._lock:
            for topic in topics:
                self._counts[topic]['waiting'] -= 1
                self._counts[topic][outcome] += 1

    def counts(self) -> dict[str, dict[str, int]]:
        """Return a copy of all counters of one moment: topic to received, encoded, ..., waiting."""
        with self._lock:
            return {topic: dict(counts) for topic, counts in self._counts.items()}

    @staticmethod
    def _zero() -> dict[str, int]:
        return dict.fromkeys(('received', *OUTCOMES, 'waiting'), 0)
