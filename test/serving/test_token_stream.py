"""Rate, delay and quality of tokens that come."""
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.serving.modality_state import SECOND, TokenStream, WatchLimits


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
