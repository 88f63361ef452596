"""States that change only for a reason that lasts."""
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.serving.modality_state import BEGINNINGS, State, SteadyState, TokenStream, WatchLimits
from mpnp_ros.tokens import SECOND

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


@pytest.fixture
def send(tokens):
    """Gives a function: stream, seconds of arrival, qualities -> whether it was poor after each."""
    def send(stream, times, qualities=(), **more):
        faults = []
        for number, seconds in enumerate(times):
            now = round(seconds * SECOND)
            quality = qualities[number] if qualities else math.nan
            stream.note(tokens('camera', stamp_ns=now, quality=quality, **more), now)
            faults.append(stream.fault())
        return faults
    return send


def test_one_bad_frame_does_not_degrade_and_one_good_one_does_not_heal(send):
    stream = TokenStream(WatchLimits())
    faults = send(stream, range(9), [1, 1, 0, 1, 0, 0, 0, 1, 1], concerns=('it is dark', 'it is blurred'))
    assert [bool(fault) for fault in faults] == [False] * 5 + [True] * 4
    assert faults[5] == 'quality is 0.39: it is dark and 1 more'
    assert not any(send(stream, range(9, 14), [1] * 5)[3:])


def test_frames_that_nobody_judges_leave_the_quality_as_it_is(send):
    stream = TokenStream(WatchLimits())
    assert not any(send(stream, range(5)))
    assert math.isnan(stream.quality)
    send(stream, (5, 6), (.4, math.nan))
    assert stream.quality == .4


def test_quality_begins_anew_after_a_silence(send):
    stream = TokenStream(WatchLimits(stale_after=1.))
    assert send(stream, (0, 1, 5), (0, 0, 1))[1:] == ['quality is 0.00', '']
    assert stream.count == 1


def test_a_rate_that_drops_is_slow_until_it_has_become_the_usual_one(send):
    stream = TokenStream(WatchLimits(stale_after=9., rate_memory=20.))
    assert not any(send(stream, [number / 10 for number in range(50)]))
    slow = send(stream, range(6, 40))
    assert slow[3] == 'tokens come at 1 Hz instead of 9.1 Hz'
    assert not slow[-1]


def test_a_single_pause_is_not_slow(send):
    stream = TokenStream(WatchLimits(stale_after=9.))
    times = [number / 10 + (5 if number > 30 else 0) for number in range(60)]
    assert not any(send(stream, times))


def test_a_rate_is_not_looked_at_where_that_is_switched_off(send):
    stream = TokenStream(WatchLimits(stale_after=9., lowest_rate=0.))
    assert not any(send(stream, [*(number / 10 for number in range(50)), *range(6, 20)]))


@given(qualities=st.lists(st.floats(0, 1) | st.just(math.nan), max_size=30))
def test_the_smoothed_quality_stays_within_what_has_come(tokens, qualities):
    stream = TokenStream(WatchLimits())
    for number, quality in enumerate(qualities):
        stream.note(tokens('camera', quality=quality), number)
    judged = [quality for quality in qualities if not math.isnan(quality)]
    if judged:
        assert min(judged) - 1e-9 <= stream.quality <= max(judged) + 1e-9
    else:
        assert math.isnan(stream.quality)


@pytest.mark.parametrize(('lag', 'told', 'fault'), [
    (4., {'input_age': .008, 'encode_duration': 3.9}, 'the encoder takes 3.9 s a frame; give it more'),
    (4., {'input_age': 3.9, 'encode_duration': .1}, 'stamps of the sensor are 3.9 s behind the clock'),
    (-4., {'input_age': -4.1, 'encode_duration': .1}, 'stamps of the sensor are 4.1 s ahead of the clock'),
    (4., {'input_age': .1, 'encode_duration': .1}, 'stamps are 4.0 s behind the clock; check use_sim_time'),
    (4., {}, 'stamps are 4.0 s behind the clock; check use_sim_time'),
    (-4., {'input_age': .1, 'encode_duration': 3.9}, 'stamps are 4.0 s ahead of the clock')])
def test_a_slow_encoder_is_told_from_clocks_that_disagree(tokens, lag, told, fault):
    stream, now = TokenStream(WatchLimits()), 100 * SECOND
    stream.note(tokens('camera', stamp_ns=now - round(lag * SECOND), **told), now)
    assert fault in stream.fault()


def test_an_encoder_that_is_slow_is_given_the_time_it_takes(tokens):
    stream = TokenStream(WatchLimits(stale_after=1.))
    stream.note(tokens('camera', stamp_ns=0, encode_duration=1.5), 0)
    assert stream.fresh(3 * SECOND) and not stream.fresh(3 * SECOND + 1)
    stream.note(tokens('camera', stamp_ns=0, encode_duration=100.), 0)
    assert stream.fresh(4 * SECOND) and not stream.fresh(4 * SECOND + 1), 'within a bound'
