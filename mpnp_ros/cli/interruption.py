"""Interruption of long work by Ctrl-C or SIGTERM, and the checkpoint to resume from."""
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
"""Exit code of a stopped command."""


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether to stop; a second signal ends the process at once."""
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
    """Stop between two cached key frames if requested, and print what is kept."""
    if cancelled():
        print(f'stopped; {done} of {of} key frames are kept in the cache, the same command resumes',
              file=sys.stderr)
        raise KeyboardInterrupt


def checkpoint_folder(output: Path, *what: object) -> Path:
    """Return the folder of unfinished work for ``output``: beside it, named by its inputs.

    what: everything that the result depends on, so that the same command resumes and another one starts anew.
    """
    digest = hashlib.sha256(repr(what).encode()).hexdigest()[:12]
    return output.parent / f'.{output.name}.checkpoint' / digest


def forget_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of finished work."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
