"""Ctrl-C as a question that long work asks itself, so that it can end in order."""
from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CANCELLED = 130
"""Exit code of a command that was stopped."""


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ask whether Ctrl-C was pressed, or SIGTERM sent; a second one ends the process at once."""
    pressed: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: object) -> None:
        pressed.append(number)
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield lambda: bool(pressed)
    finally:
        restore()
