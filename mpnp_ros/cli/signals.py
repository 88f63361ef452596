"""Signals at each stage of a command, and checkpoints from which interrupted work resumes.

Every stage sets its own handlers: background processes of a shell inherit SIGINT as ignored, and Python then
leaves it so.  SIGHUP stays ignored if it is, as with `nohup`.
"""
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPING = (signal.SIGINT, signal.SIGTERM)
CANCELLED = 130
"""Exit code of a stopped command."""
_Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupted(KeyboardInterrupt):
    """The command was interrupted.  number: of the signal.  code: the exit code that shells expect."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.code = number, exit_code(number)


def exit_code(number: int) -> int:
    """Return the exit code of a command ended by a signal."""
    return 128 + number


@contextmanager
def at_once() -> Iterator[None]:
    """End the process silently at a signal: for imports, while there is nothing to shut down."""
    with _handled(_end):
        yield


@contextmanager
def raised() -> Iterator[None]:
    """Raise :class:`Interrupted` in the main thread, as Ctrl-C raises KeyboardInterrupt."""
    def handle(number: int) -> None:
        raise Interrupted(number)

    with _handled(handle):
        yield


@contextmanager
def noted() -> Iterator[Sequence[int]]:
    """Yield a list that grows by each signal; nothing else happens."""
    numbers: list[int] = []
    with _handled(numbers.append):
        yield numbers


@contextmanager
def put_off() -> Iterator[None]:
    """Deliver the first signal of the block at its end: for work that must not be interrupted."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    with noted() as numbers:
        yield
    handler = before[signal.Signals(numbers[0])] if numbers else None
    if callable(handler):
        handler(numbers[0], None)


def end_at_once() -> None:
    """End the process silently at a signal from now on, for the last moments of the interpreter."""
    _set(_end)


def is_command(arguments: Sequence[str], command_line: Sequence[str]) -> bool:
    """Whether a process is the `mpnp` command, started by its name or by ``python -m``."""
    if arguments[:1] == ['-m']:
        return 'mpnp_ros.cli.main' in command_line
    return os.path.basename(''.join(arguments[:1])) == 'mpnp'


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether to stop; a second signal ends the process at once."""
    pressed: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPPING}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: object) -> None:
        pressed.append(number)
        restore()

    for number in STOPPING:
        signal.signal(number, note)
    try:
        yield lambda: bool(pressed)
    finally:
        restore()


def end_encoding(cancelled: Callable[[], bool], done: int, of: int) -> None:
    """Stop between two cached key frames if requested, and print how many are kept."""
    if cancelled():
        print(f'stopped; {done} of {of} key frames are kept in the cache, the same command resumes',
              file=sys.stderr)
        raise KeyboardInterrupt


def checkpoint_folder(output: Path, *what: object) -> Path:
    """Return the folder of unfinished work for ``output``: beside it, named by its inputs.

    what: everything that the result depends on, so that the same command resumes and another one starts anew.
    """
    import hashlib  # late: this module is imported before the first handlers are set

    digest = hashlib.sha256(repr(what).encode()).hexdigest()[:12]
    return output.parent / f'.{output.name}.checkpoint' / digest


def forget_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of finished work."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _end(number: int) -> None:
    os._exit(exit_code(number))


@contextmanager
def _handled(handle: Callable[[int], object]) -> Iterator[None]:
    before = _set(handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _set(handle: Callable[[int], object]) -> dict[signal.Signals, _Handler]:
    """Set the handlers of this process and return those before; only the main thread can do it."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    own = os.getpid()

    def handler(number: int, frame: object) -> None:
        if os.getpid() == own:
            handle(number)
        else:  # a forked child
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    before: dict[signal.Signals, _Handler] = {number: signal.getsignal(number) for number in NUMBERS}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, handler)
    return before
