"""Threads for slow and for periodic work of a node, apart from the executor; counters of their messages.

The newest item wins: an item that arrives while another one waits replaces it.  A robot needs the current
answer, and a queue would only make every answer older.
"""
from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Item = TypeVar('Item')
LOG = logging.getLogger(__name__)
OUTCOMES = ('encoded', 'superseded', 'rejected')


class Ticker:
    """Calls ``work`` every ``period`` seconds of the steady clock on its own thread, until it is closed.

    If ``work`` returns a number, that many seconds pass until the next call.  A timer of rclpy would cost
    milliseconds each time, because the executor rebuilds its wait set three times.  An exception of ``work``
    is logged if it differs from the previous one.
    """

    def __init__(self, name: str, period: float, work: Callable[[], float | None]) -> None:
        self._period, self._work = period, work
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self, patience: float = 1.) -> None:
        """Stop; waits up to ``patience`` seconds for a running call."""
        self._closed.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(patience)

    def _run(self) -> None:
        failure, pause = '', self._period
        while not self._closed.wait(pause):
            pause = self._period
            try:
                pause = self._work() or self._period
                failure = ''
            except Exception as error:
                if not self._closed.is_set() and str(error) != failure:
                    LOG.exception('%s: %s', self._thread.name, error)
                failure = str(error)


class LatestWorker(Generic[Item]):
    """Runs ``work(item)`` on its own thread, always with the newest item.

    work: called on the worker's thread, one item at a time.
    superseded: called with every item that will not be worked on, on the thread that replaced it.
    failed: called with the item and the exception that ``work`` raised; the worker goes on.
    """

    def __init__(self, name: str, work: Callable[[Item], None], *,
                 superseded: Callable[[Item], None] = lambda item: None,
                 failed: Callable[[Item, Exception], None] = lambda item, error: None) -> None:
        self._work, self._superseded, self._failed = work, superseded, failed
        self._changed = threading.Condition()
        self._waiting: list[Item] = []
        self._busy = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> bool:
        """Pass ``item``, replacing a waiting one; False (item superseded) once stopped."""
        with self._changed:
            accepted = not self._stopping
            replaced = self._waiting if accepted else [item]
            if accepted:
                self._waiting = [item]
                self._changed.notify_all()
        self._drop(replaced)
        return accepted

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until nothing waits or runs; False after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def stop(self, timeout: float | None = None) -> bool:
        """Drop the waiting item and wait for the running one; False after ``timeout`` seconds."""
        with self._changed:
            self._stopping = True
            dropped, self._waiting = self._waiting, []
            self._changed.notify_all()
        self._drop(dropped)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _drop(self, items: list[Item]) -> None:
        for item in items:
            self._superseded(item)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                item, self._busy = self._waiting.pop(), True
            try:
                self._work(item)
            except Exception as error:
                self._failed(item, error)
            del item  # a frame can be 30 MB; do not hold it until the next one comes


class Alarm:
    """Calls ``ring()`` at the times of ``due()``, on its own thread, which sleeps in between.

    due: returns the next time on the monotonic clock in nanoseconds, or None.  failed: as of LatestWorker.
    """

    def __init__(self, name: str, due: Callable[[], int | None], ring: Callable[[], None], *,
                 failed: Callable[[Exception], None] = lambda error: None) -> None:
        self._due, self._ring, self._failed = due, ring, failed
        self._changed = threading.Condition()
        self._next: int | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Evaluate ``due()`` again, because it can be earlier now."""
        due = self._due()
        if due is None or (self._next is not None and self._next <= due):
            return  # the thread asks for a later time by itself
        with self._changed:
            self._next = due
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop; waits for a running call."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and (self._next is None or time.monotonic_ns() < self._next):
                    left = None if self._next is None else (self._next - time.monotonic_ns()) / 1e9
                    self._changed.wait(None if left is None else max(0., left) + 1e-4)
                if self._stopping:
                    return
                self._next = None
            try:
                self._ring()
            except Exception as error:
                self._failed(error)
            self.look()


class MessageCounters:
    """Counters of received messages per topic; every method may be called from any thread.

    ``received == encoded + superseded + rejected + waiting`` holds at any moment for every topic, so a
    message lost inside the node would show.
    """

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
