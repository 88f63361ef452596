from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mpnp_ros.bags.playback_clock import PlaybackClock
from mpnp_ros.errors import ConfigurationError


class FakeTime:
    """Time that passes only in waits; things planned for a moment happen in them, as from another thread."""

    def __init__(self) -> None:
        self.now = 100.0
        self.plans: list[tuple[float, Callable[[], None]]] = []

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        self.plans.append((100.0 + seconds, action))
        self.plans.sort(key=lambda plan: plan[0])

    def wait(self, _: threading.Condition, seconds: float | None) -> None:
        end = float('inf') if seconds is None else self.now + seconds
        if self.plans and self.plans[0][0] <= end:
            self.now, action = self.plans.pop(0)
            action()
        else:
            assert seconds is not None, 'waits for ever'
            self.now = end

    def clock(self, rate: float = 1.0) -> PlaybackClock:
        return PlaybackClock(rate, monotonic=lambda: self.now, wait=self.wait)


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def elapsed(time: FakeTime) -> float:
    return time.now - 100.0


@pytest.mark.parametrize(('rate', 'seconds'), [(1, 3.0), (.5, 6.0), (4, .75)])
def test_rate(time: FakeTime, rate: float, seconds: float) -> None:
    clock = time.clock(rate)
    clock.start()
    assert clock.wait_until(3 * 10**9)
    assert elapsed(time) == pytest.approx(seconds)
    assert clock.position_ns == pytest.approx(3e9)


def test_pause_adds_its_length(time: FakeTime) -> None:
    clock = time.clock()
    time.at(1, clock.pause)
    time.at(5, clock.resume)
    clock.start()
    assert clock.wait_until(2 * 10**9)
    assert elapsed(time) == pytest.approx(6)


def test_nothing_is_due_in_a_pause(time: FakeTime) -> None:
    clock = time.clock()
    clock.start()
    clock.pause()
    time.at(2, clock.resume)
    assert clock.wait_until(0)
    assert elapsed(time) == pytest.approx(2)
    assert clock.position_ns == 0


def test_change_of_rate_keeps_what_was_played(time: FakeTime) -> None:
    clock = time.clock()
    time.at(1, lambda: clock.set_rate(10))
    clock.start()
    assert clock.wait_until(11 * 10**9)
    assert elapsed(time) == pytest.approx(2)


def test_rate_changed_in_a_pause_counts_after_it(time: FakeTime) -> None:
    clock = time.clock()
    clock.start()
    clock.pause()
    time.at(3, lambda: clock.set_rate(2))
    time.at(4, clock.resume)
    assert clock.wait_until(2 * 10**9)
    assert elapsed(time) == pytest.approx(5)


def test_stop_ends_waiting_now_and_later(time: FakeTime) -> None:
    clock = time.clock()
    time.at(1, clock.stop)
    clock.start()
    assert not clock.wait_until(5 * 10**9)
    assert elapsed(time) == pytest.approx(1)
    assert not clock.wait_until(0)


def test_stop_ends_a_pause(time: FakeTime) -> None:
    clock = time.clock()
    clock.start()
    clock.pause()
    time.at(1, clock.stop)
    assert not clock.wait_until(0)


@pytest.mark.parametrize('rate', [0, -1, float('inf'), float('nan')])
def test_impossible_rates_are_refused(time: FakeTime, rate: float) -> None:
    with pytest.raises(ConfigurationError, match='out of range'):
        time.clock(rate)
    clock = time.clock()
    with pytest.raises(ConfigurationError):
        clock.set_rate(rate)
    assert clock.rate == 1


def test_even_centuries_are_waited_for_in_pieces(time: FakeTime) -> None:
    """The system refuses to wait for longer than threading.TIMEOUT_MAX."""
    clock = time.clock(.01)
    stretches = []

    def wait(_: threading.Condition, seconds: float | None) -> None:
        stretches.append(seconds)
        clock.stop()

    clock._wait = wait
    clock.start()
    assert clock.running
    assert not clock.wait_until(2 ** 62)
    assert stretches == [3600.] and not clock.running


def test_another_thread_wakes_the_waiting_one() -> None:
    """With the real condition: the wait below would last for an hour."""
    clock = PlaybackClock()
    clock.start()
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(clock.wait_until(3600 * 10**9)))
    waiting.start()
    clock.pause()
    clock.stop()
    waiting.join(timeout=30)
    assert results == [False]
