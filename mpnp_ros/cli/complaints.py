"""Reports on ``/diagnostics`` that nodes do not log, as lines of `mpnp bringup`."""
from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable

LINES = 100
"""Newest log lines of each node that are searched for a report."""
PERIOD = 10.
"""Minimum seconds between two lines about one node."""
OK = 0


class Complaints:
    """Writes the problems of a node when they change, unless its log already contains them.

    write: called with (node, line).  Numbers in a report may change without a new line.
    """

    def __init__(self, write: Callable[[str, str], None],
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._logged: dict[str, deque[str]] = {}
        self._said: dict[str, str] = {}
        self._when: dict[str, float] = {}

    def log(self, node: str, line: str) -> None:
        """Record a log line of a node; called from any thread."""
        self._logged.setdefault(node, deque(maxlen=LINES)).append(_without_numbers(line))

    def forget(self, node: str) -> None:
        """Forget a node that has ended."""
        for memory in (self._logged, self._said, self._when):
            memory.pop(node, None)

    def report(self, node: str, level: int, text: str) -> None:
        """Write a report if it is new; its parts are separated by ``; ``."""
        known = list(self._logged.get(node, ()))
        parts = [] if level == OK else [part for part in text.split('; ') if part and not any(
            _without_numbers(part) in line for line in known)]
        if level != OK and not parts:
            return
        content, before = _without_numbers('; '.join(parts)), self._said.get(node, '')
        now = self._clock()
        if content == before or now - self._when.get(node, now - PERIOD) < PERIOD:
            return
        self._said[node], self._when[node] = content, now
        self._write(node, '; '.join(parts) or f'recovered: {text}')


def _without_numbers(text: str) -> str:
    return re.sub(r'\d+(\.\d+)?', '#', text)
