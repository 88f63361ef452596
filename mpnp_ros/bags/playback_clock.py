"""A clock for one waiting thread that other threads can pause, speed up and stop."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mpnp_ros.errors import ConfigurationError

LONGEST_WAIT = 3600.
"""Maximum single wait of a thread, seconds; the system limits waits."""


class PlaybackClock:
    """Counts nanoseconds of playback from zero, ``rate`` times as fast as the wall clock.

    One condition guards all state, so a change of rate, a pause or a stop wakes the waiting thread at once.
    monotonic and wait stand in for the wall clock in tests: ``wait(condition, seconds)`` is called with
    the condition held, ``seconds`` is None for "until notified".
    """

    def __init__(self, rate: float = 1.0, monotonic: Callable[[], float] = time.monotonic,
                 wait: Callable[[threading.Condition, float | None], object] = threading.Condition.wait,
                 ) -> None:
        self._condition = threading.Condition()
        self._monotonic = monotonic
        self._wait = wait
        self._rate = _checked(rate)
        self._position = 0.0
        self._since: float | None = None
        self._paused = False
        self._stopped = False

    @property
    def position_ns(self) -> int:
        """Return the position in nanoseconds; constant before :meth:`start` and while paused."""
        with self._condition:
            return round(self._now())

    @property
    def paused(self) -> bool:
        """Return whether playback is paused."""
        return self._paused

    @property
    def stopped(self) -> bool:
        """Return whether :meth:`stop` has been called."""
        return self._stopped

    @property
    def running(self) -> bool:
        """Return whether the clock is started, not paused and not stopped."""
        return self._since is not None and not self._stopped

    @property
    def rate(self) -> float:
        """Return the seconds of playback per second."""
        return self._rate

    def start(self) -> None:
        """Start the clock; no effect if started or paused."""
        with self._condition:
            if self._since is None and not self._paused:
                self._since = self._monotonic()

    def pause(self) -> None:
        """Pause until :meth:`resume`."""
        with self._condition:
            self._settle()
            self._since, self._paused = None, True
            self._condition.notify_all()

    def resume(self) -> None:
        """Continue after :meth:`pause`."""
        with self._condition:
            if self._paused:
                self._since, self._paused = self._monotonic(), False
            self._condition.notify_all()

    def set_rate(self, rate: float) -> None:
        """Change the speed. Raises ConfigurationError unless ``rate`` is above zero."""
        with self._condition:
            self._settle()
            self._rate = _checked(rate)
            self._condition.notify_all()

    def stop(self) -> None:
        """Stop permanently; all waits return."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def wait_until(self, position_ns: int) -> bool:
        """Wait until ``position_ns``; return False if stopped."""
        with self._condition:
            while not self._stopped:
                remaining = position_ns - self._now()
                if remaining <= 0 and not self._paused:
                    return True
                seconds = remaining / self._rate / 1e9
                self._wait(self._condition, None if self._since is None else min(seconds, LONGEST_WAIT))
            return False

    def _now(self) -> float:
        if self._since is None:
            return self._position
        return self._position + (self._monotonic() - self._since) * self._rate * 1e9

    def _settle(self) -> None:
        """Store the current position, so that the rate can change."""
        self._position = self._now()
        if self._since is not None:
            self._since = self._monotonic()


def _checked(rate: float) -> float:
    """Return a rate.  Raises ConfigurationError unless it is above zero."""
    if not 0 < rate < float('inf'):
        raise ConfigurationError(f'playback rate {rate} is out of range; give a number above 0')
    return rate
