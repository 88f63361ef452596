"""What nodes report on ``/diagnostics`` and do not log, as lines of `mpnp bringup`."""
from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable

LINES = 100
"""Newest lines of each node's log in which a report is looked for."""
PERIOD = 10.
"""Shortest time in seconds between two lines about one node."""
OK = 0


class Complaints:
    """Writes what is amiss with a node when that changes, unless the node's own log says it.

    write: gets (node, line).  Numbers in a report may change without a new line.
    """

    def __init__(self, write: Callable[[str, str], None],
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._logged: dict[str, deque[str]] = {}
        self._said: dict[str, str] = {}
        self._when: dict[str, float] = {}

    def log(self, node: str, line: str) -> None:
        """Note a line that the node has logged; called from any thread."""
        self._logged.setdefault(node, deque(maxlen=LINES)).append(_without_numbers(line))

    def forget(self, node: str) -> None:
        """Forget a node that has ended."""
        for memory in (self._logged, self._said, self._when):
            memory.pop(node, None)

    def report(self, node: str, level: int, text: str) -> None:
        """Write a report where it says something new; a text is made of parts with ``; `` between them."""
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
        self._write(node, '; '.join(parts) or f'in order again: {text}')


def _without_numbers(text: str) -> str:
    return re.sub(r'\d+(\.\d+)?', '#', text)
