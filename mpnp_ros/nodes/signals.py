"""Handling of SIGINT, SIGTERM and SIGHUP in the process of a node; imports only the standard library.

The first signal ends the node in order with exit code 0, at any moment, also during imports.  A second one
ends the process at once.
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
"""Seconds within which two signals count as one: a terminal and a launcher both forward the same Ctrl-C."""


class End:
    """The end of a node: requested by a signal or any thread, awaited by the main thread.

    No lock is used, because a signal handler can interrupt the main thread anywhere.  A signal writes to the
    descriptor that the main thread reads: Python runs its handler only when the main thread continues, and a
    signal that arrives just before it waits, or on another thread, does not wake it.
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
        """Return when the end has been requested; signal handlers run meanwhile."""
        while not self.asked:
            os.read(self._out, 1)

    def listen(self) -> int:
        """Let signals wake :meth:`wait`; returns the previous wake-up descriptor."""
        return signal.set_wakeup_fd(self._in, warn_on_full_buffer=False)

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._in)
        os.close(self._out)


_end: End | None = None
_first = float('-inf')


def heed() -> None:
    """End this process with exit code 0 on a signal; SIGHUP stays ignored under nohup."""
    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # mpnp_ros/tie.py may have blocked them until now


@contextlib.contextmanager
def ending(end: End) -> Iterator[None]:
    """Let a signal request ``end`` meanwhile."""
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
            if handler is not None:  # None: it was not set by Python
                signal.signal(number, handler)
        _end = None


def leave(code: int) -> None:
    """Flush the output and end the process at once, without waiting for its threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it may be closed, or in the midst of being written
            stream.flush()
    os._exit(code)


def is_node(command: Sequence[str], package: str) -> bool:
    """Return whether a command line runs a module of ``package`` with ``-m``."""
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
