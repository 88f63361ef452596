"""Chunks of a stream to its newest sound, and resampling."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import AudioError
from mpnp_ros.modalities.audio.frames import FASTEST, AudioChunk, SoundBuffer, resampled
from mpnp_ros.tokens import SECOND

RATE = 8000


def tone(frequency, rate, seconds=1.0):
    return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000, 12345]),
       frequency=st.floats(100, 3000))
def test_a_tone_below_half_of_both_rates_keeps_pitch_and_level(rate, frequency):
    made, expected = resampled(tone(frequency, rate), rate, 16000), tone(frequency, 16000)
    assert abs(len(made) - 16000) <= 1 and made.dtype == np.float32
    middle = slice(2000, 14000)
    # Edges of the filter aside, the samples are those of the tone.
    assert np.abs(made[middle] - expected[middle]).max() < 0.05


def test_what_lies_above_half_of_the_new_rate_is_removed_and_not_folded():
    made = resampled(tone(11_000, 48000), 48000, 16000)
    assert np.sqrt(np.mean(made[1000:-1000] ** 2)) < 0.02


def test_microphones_are_resampled_alike_and_a_rate_out_of_range_is_refused():
    both = np.stack([tone(440, 48000), tone(880, 48000)])
    made = resampled(both, 48000, 16000)
    np.testing.assert_allclose(made[1], resampled(both[1], 48000, 16000), atol=1e-6)
    for rate in (0, -1, FASTEST + 1):
        with pytest.raises(AudioError, match='sample rate'):
            resampled(both, rate, 16000)


def chunk(values, end):
    """A chunk that ends at a time in seconds."""
    return AudioChunk(np.asarray(values, np.float32).reshape(1, -1), RATE, round(end * SECOND))


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, 15_999), max_size=12, unique=True), seconds=st.floats(0.01, 3))
def test_however_a_sound_is_cut_its_newest_seconds_are_the_same(cuts, seconds):
    sound = np.random.default_rng(len(cuts)).uniform(-1, 1, 16_000).astype(np.float32)
    buffer, begin = SoundBuffer(2.0, 0.0), 0
    for end in [*sorted(cuts), len(sound)]:
        buffer.add(chunk(sound[begin:end], end / RATE))
        begin = end
    made, missing = buffer.window(seconds)
    wanted = min(len(sound), max(1, round(seconds * RATE)))
    np.testing.assert_array_equal(made[0], sound[-wanted:])
    assert missing == 0 and buffer.end_ns == 2 * SECOND


def test_what_did_not_come_is_silence_and_its_share_is_told():
    buffer = SoundBuffer(2.0, 0.01)
    buffer.add(chunk(np.ones(RATE // 2), 0.5))
    assert buffer.add(chunk(np.ones(RATE // 2), 1.5))  # half a second was lost
    made, missing = buffer.window(1.5)
    assert missing == pytest.approx(1 / 3) and made.shape == (1, 3 * RATE // 2)
    np.testing.assert_array_equal(made[0, RATE // 2:RATE], 0)


@pytest.mark.parametrize('later', [
    chunk(np.ones(10), 100.), chunk(np.ones(10), -100.),
    AudioChunk(np.ones((1, 10), np.float32), 2 * RATE, SECOND),
    AudioChunk(np.ones((2, 10), np.float32), RATE, SECOND)], ids=['far', 'back', 'rate', 'microphones'])
def test_a_stream_that_jumps_or_changes_begins_anew(later):
    buffer = SoundBuffer(2.0, 0.01)
    assert not buffer.add(chunk(np.zeros(RATE), 1.0))
    assert not buffer.add(later)
    assert buffer.length == 10 and buffer.window(2.0)[0].all()


@pytest.mark.parametrize('samples', [np.zeros(5), np.zeros((1, 0)), np.array([[np.nan]]),
                                     np.array([[np.inf]])])
def test_what_is_no_sound_is_refused_and_changes_nothing(samples):
    buffer = SoundBuffer(2.0, 0.01)
    buffer.add(chunk(np.ones(10), 1.0))
    with pytest.raises(AudioError):
        buffer.add(AudioChunk(samples, RATE, 2 * SECOND))
    assert buffer.length == 10 and buffer.end_ns == SECOND


def test_memory_is_bounded():
    buffer = SoundBuffer(1.0, 0.01)
    for number in range(1, 200):
        buffer.add(chunk(np.zeros(RATE // 10), number / 10))
    assert RATE <= buffer.length <= 1.2 * RATE
