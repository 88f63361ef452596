"""Handling of SIGINT, SIGTERM and SIGHUP at each stage of a command.

Every stage sets its own handlers: background processes of a shell inherit SIGINT as ignored, and Python then
leaves it so.  SIGHUP stays ignored if it is, as with `nohup`.
"""
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    """End the process without a word: for imports, while there is nothing to put in order."""
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
    """Yield the list of the signals that have come, which grows; nothing else happens."""
    numbers: list[int] = []
    with _handled(numbers.append):
        yield numbers


@contextmanager
def put_off() -> Iterator[None]:
    """Let the first signal of the meantime come at the end: for what must not be left half done."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    with noted() as numbers:
        yield
    if numbers and callable(before[numbers[0]]):
        before[numbers[0]](numbers[0], None)


def end_at_once() -> None:
    """End the process without a word from now on, for the last moments of the interpreter."""
    _set(_end)


def is_command(arguments: Sequence[str], command_line: Sequence[str]) -> bool:
    """Whether a process is the `mpnp` command, started by its name or by ``python -m``."""
    if arguments[:1] == ['-m']:
        return 'mpnp_ros.cli.main' in command_line
    return os.path.basename(''.join(arguments[:1])) == 'mpnp'


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


def _set(handle: Callable[[int], object]) -> dict[int, object]:
    """Set the handlers of this process, and return those before; Python lets the main thread alone do it."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    own = os.getpid()

    def handler(number: int, frame: object) -> None:
        if os.getpid() == own:
            handle(number)
        else:  # a forked child
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    before = {number: signal.getsignal(number) for number in NUMBERS}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, handler)
    return before
