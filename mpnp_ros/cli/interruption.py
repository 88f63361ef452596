"""Ctrl-C as a question that long work asks itself, so that it can end in order, and what it goes on from."""
from __future__ import annotations

import hashlib
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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


def end_encoding(cancelled: Callable[[], bool], done: int, of: int) -> None:
    """End where it was asked for, between two key frames that go into the cache, and say what is kept."""
    if cancelled():
        print(f'stopped; {done} of {of} key frames are kept in the cache, the same command resumes',
              file=sys.stderr)
        raise KeyboardInterrupt


def checkpoint_folder(output: Path, *what: object) -> Path:
    """Return where work towards ``output`` is kept until it is finished: beside it, named by what it is.

    what: all that the result depends on, so that the same command goes on and another one begins afresh.
    """
    digest = hashlib.sha256(repr(what).encode()).hexdigest()[:12]
    return output.parent / f'.{output.name}.checkpoint' / digest


def forget_checkpoint(folder: Path) -> None:
    """Remove a checkpoint of work that is finished."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
