"""Progress of long work: a bar on a terminal, otherwise lines."""
from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

LINE_PERIOD = 10.0
"""Seconds between two lines without a terminal."""


class ShowProgress(Protocol):
    """Shows how much is done, with a text."""

    def __call__(self, done: int, total: int, text: str = '') -> None:
        """Show it if it is due."""


@contextmanager
def progress(name: str, unit: str = 'step', quiet: bool = False, stream: TextIO | None = None,
             period: float = LINE_PERIOD) -> Iterator[ShowProgress]:
    """Yield a function to report progress: ``show(done, total, text)``.

    On a terminal it moves a bar.  Otherwise, as in a log, it writes a line at the first call, at most one
    every ``period`` seconds, and one at the end.  quiet: show nothing.  stream: stderr by default.
    """
    stream = stream or sys.stderr
    if quiet:
        def show(done: int, total: int, text: str = '') -> None:
            pass
        yield show
    elif stream.isatty():
        from tqdm import tqdm
        with tqdm(desc=name, unit=unit, leave=False, file=stream) as bar:
            def move(done: int, total: int, text: str = '') -> None:
                bar.total = total
                bar.set_postfix_str(text, refresh=False)
                bar.update(done - bar.n)
            yield move
    else:
        lines = _Lines(name, unit, stream, period)
        yield lines.show
        lines.end()


class _Lines:
    """Lines such as ``links: step 120 of 300, 40 s, about 60 s left, loss 0.512``."""

    def __init__(self, name: str, unit: str, stream: TextIO, period: float) -> None:
        self._name, self._unit, self._stream, self._period = name, unit, stream, period
        self._began = time.monotonic()
        self._first: int | None = None
        self._written = -period
        self._newest = self._last = ''

    def show(self, done: int, total: int, text: str = '') -> None:
        """Write a line if one is due."""
        passed = time.monotonic() - self._began
        if self._first is None:  # work that is resumed begins somewhere in the middle
            self._first, self._began = done, time.monotonic()
        made = done - self._first
        left = f', about {passed / made * (total - done):.0f} s left' if made > 0 and done < total else ''
        self._newest = (f'{self._name}: {self._unit} {done} of {total or "?"}, {passed:.0f} s{left}'
                        f'{f", {text}" if text else ""}')
        if passed - self._written >= self._period or self._written < 0:
            self._write(passed)

    def end(self) -> None:
        """Write the final progress."""
        if self._newest != self._last:
            self._write(0.)

    def _write(self, now: float) -> None:
        self._last, self._written = self._newest, now
        print(self._newest, file=self._stream, flush=True)
