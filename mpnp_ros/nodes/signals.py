"""What SIGINT, SIGTERM and SIGHUP do to the process of a node; needs nothing but the standard library.

The first one ends the node in order with the exit code 0, at any moment: also while it imports, before there
is a node.  A second one ends the process at once.
"""
from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE = 0.3
"""Seconds within which two signals are one: a terminal and a launcher both pass on the same Ctrl-C."""


class End:
    """The end of a node: asked for by a signal or any thread, waited for by the main thread.

    No lock is used, since a signal handler may come in the midst of anything that the main thread does.  A
    signal itself writes into what the main thread reads: Python runs its handler there only once the main
    thread goes on, and a signal that comes just before it waits, or on another thread, does not wake it.
    """

    def __init__(self) -> None:
        self.asked = False
        self._out, self._in = os.pipe()
        os.set_blocking(self._in, False)

    def ask(self) -> None:
        """Let :meth:`wait` return, now or later."""
        self.asked = True
        with contextlib.suppress(OSError):  # full of requests, or closed
            os.write(self._in, b'.')

    def wait(self) -> None:
        """Return once the end has been asked for; signal handlers run meanwhile."""
        while not self.asked:
            os.read(self._out, 1)

    def listen(self) -> int:
        """Let signals wake :meth:`wait`; returns the descriptor that they have written to so far."""
        return signal.set_wakeup_fd(self._in, warn_on_full_buffer=False)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._in)
        os.close(self._out)


_end: End | None = None
_first = float('-inf')


def heed() -> None:
    """End this process, with the exit code 0, when a signal comes; SIGHUP stays ignored under nohup."""
    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # which mpnp_ros/tie.py may hold back until now


@contextlib.contextmanager
def ending(end: End) -> Iterator[None]:
    """Let a signal ask for ``end`` meanwhile."""
    global _end, _first
    before = {number: signal.getsignal(number) for number in ENDING}
    _end, _first = end, float('-inf')
    woken = end.listen()
    heed()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            if handler is not None:  # as where it was not Python that set it
                signal.signal(number, handler)
        _end = None


def leave(code: int) -> None:
    """End the process at once, whatever its threads are doing; what was written is not lost."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it may be closed, or in the midst of being written
            stream.flush()
    os._exit(code)


def is_node(command: Sequence[str], package: str) -> bool:
    """Whether a command line runs a module of ``package`` with ``-m``."""
    module = next((after for option, after in zip(command, command[1:], strict=False) if option == '-m'), '')
    return module.startswith(f'{package}.')


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _first
    if _end is None:
        leave(0)
    elif _first < 0:
        _first = time.monotonic()
        _end.ask()
    elif time.monotonic() - _first > ONE:
        leave(128 + number)
