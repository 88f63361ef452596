"""Cancelling a computation between two blocks of a language model."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mpnp_ros.errors import CancelledError

_cancelled: ContextVar[Callable[[], bool] | None] = ContextVar('cancelled', default=None)


@contextmanager
def interruptible(cancelled: Callable[[], bool]) -> Iterator[None]:
    """Stop the model on this thread before its next block once ``cancelled()`` is true.

    It stops with CancelledError.  cancelled: called for every block, so it must be quick.
    """
    token = _cancelled.set(cancelled)
    try:
        yield
    finally:
        _cancelled.reset(token)


def check_interruption() -> None:
    """Raise CancelledError if the current computation is cancelled."""
    cancelled = _cancelled.get()
    if cancelled is not None and cancelled():
        raise CancelledError('the computation was cancelled')
