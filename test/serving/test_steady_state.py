"""States that change only for a reason that lasts."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.serving.modality_state import BEGINNINGS, SECOND, State, SteadyState, WatchLimits

SEEN = [state for state in State if state is not State.ADAPTING]
LIMITS = WatchLimits(degrade_after=1., recover_after=3.)


def follow(steady: SteadyState, *seen: tuple[State, float]) -> list[State]:
    """What is shown when these states are seen at these seconds."""
    return [steady.follow(state, round(seconds * SECOND)) for state, seconds in seen]


@pytest.fixture
def healthy() -> SteadyState:
    """Healthy since second 0."""
    steady = SteadyState(LIMITS)
    assert follow(steady, (State.PROBING, 0), (State.HEALTHY, 0)) == [State.PROBING, State.HEALTHY]
    return steady


def test_what_is_wrong_must_last_and_what_is_right_again_longer(healthy):
    assert follow(healthy, (State.DEGRADED, 5), (State.DEGRADED, 5.9), (State.DEGRADED, 6)) == [
        State.HEALTHY, State.HEALTHY, State.DEGRADED]
    assert follow(healthy, (State.HEALTHY, 7), (State.HEALTHY, 9.9), (State.HEALTHY, 10)) == [
        State.DEGRADED, State.DEGRADED, State.HEALTHY]


def test_a_single_good_or_bad_moment_starts_the_wait_again(healthy):
    assert follow(healthy, (State.DEGRADED, 5), (State.HEALTHY, 5.9), (State.DEGRADED, 6),
                  (State.DEGRADED, 6.9)) == [State.HEALTHY] * 4
    follow(healthy, (State.DEGRADED, 7.1))
    assert follow(healthy, (State.HEALTHY, 8), (State.DEGRADED, 10.9), (State.HEALTHY, 11),
                  (State.HEALTHY, 13.9)) == [State.DEGRADED] * 4


def test_silence_is_shown_at_once_and_ends_when_tokens_have_come_long_enough(healthy):
    assert follow(healthy, (State.STALE, 5), (State.PROBING, 6), (State.HEALTHY, 6.1), (State.HEALTHY, 9),
                  (State.HEALTHY, 9.1)) == [State.STALE] * 4 + [State.HEALTHY]


def test_a_sensor_that_comes_and_goes_stays_stale(healthy):
    shown = []
    for second in range(5, 60, 2):
        shown += follow(healthy, (State.STALE, second), (State.HEALTHY, second + 1))
    assert set(shown) == {State.STALE}


def test_after_a_reset_the_first_thing_seen_is_believed_again(healthy):
    healthy.reset()
    assert follow(healthy, (State.DEGRADED, 0)) == [State.DEGRADED]


@given(degrade=st.floats(.1, 5), recover=st.floats(.1, 5),
       steps=st.lists(st.tuples(st.sampled_from(SEEN), st.floats(0, 3)), min_size=1, max_size=60))
def test_whatever_is_seen_changes_are_bounded_by_time(degrade, recover, steps):
    steady = SteadyState(WatchLimits(degrade_after=degrade, recover_after=recover))
    now, changes, shown = 0, 0, steady.shown
    for seen, seconds in steps:
        now += round(seconds * SECOND)
        before, shown = shown, steady.follow(seen, now)
        changes += shown is not before
        assert shown in (before, seen)
    assert changes <= len(BEGINNINGS) + now / round(min(degrade, recover) * SECOND)


def test_qualities_in_the_wrong_order_are_refused():
    with pytest.raises(ConfigurationError, match='quality_low is 0.8; it must be at most quality_high = 0.7'):
        WatchLimits(quality_low=.8)
