"""Directions of simulated sources."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.modalities.audio.direction import find_direction, spans_plane, steered

RATE, SPEED = 16000, 343.0
SQUARE = np.array([[.1, .1, 1.], [.1, -.1, 1.], [-.1, .1, 1.], [-.1, -.1, 1.]])
ROOF = np.array([[1.5, .6, 1.55], [1.5, -.6, 1.55], [0., .6, 1.55], [0., -.6, 1.55]])


def arriving(sound, azimuth, places, rate=RATE):
    """A plane wave from an azimuth at microphones, [M, N], by exact delays."""
    towards = np.array([np.cos(azimuth), np.sin(azimuth)])
    delay = -(places[:, :2] @ towards) / SPEED
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(len(sound), 1 / rate) * delay[:, None])
    return np.fft.irfft(np.fft.rfft(sound) * turn, len(sound)).astype(np.float32)


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def apart(first, second):
    return abs(np.angle(np.exp(1j * (first - second))))


@settings(max_examples=25, deadline=None)
@given(azimuth=st.floats(-np.pi, np.pi), seed=st.integers(0, 99), places=st.sampled_from([SQUARE, ROOF]))
def test_a_source_is_found_where_it_is(azimuth, seed, places):
    heard = arriving(noise(seed, RATE), azimuth, places) + 0.3 * noise(seed + 1, len(places), RATE)
    found = find_direction(heard, RATE, places, SPEED)
    assert apart(found.azimuth, azimuth) < np.radians(2)
    assert -np.pi <= found.azimuth <= np.pi and 0.5 < found.coherence <= 1


def test_independent_noise_has_no_direction_and_silence_neither():
    for seed in range(5):
        assert find_direction(noise(seed, 4, 2 * RATE), RATE, SQUARE, SPEED).coherence < 0.03
    assert find_direction(np.zeros((4, RATE)), RATE, SQUARE, SPEED).coherence == 0


def test_noise_from_all_around_has_no_direction():
    around = sum(arriving(noise(number, 2 * RATE), azimuth, SQUARE)
                 for number, azimuth in enumerate(np.linspace(-np.pi, np.pi, 48, endpoint=False)))
    assert find_direction(around, RATE, SQUARE, SPEED).coherence < 0.06


def test_turning_the_array_turns_the_direction():
    turn = np.radians(50)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    heard = arriving(noise(3, RATE), 0.4, ROOF)
    turned = find_direction(heard, RATE, ROOF @ rotation.T, SPEED).azimuth
    assert apart(turned, find_direction(heard, RATE, ROOF, SPEED).azimuth + turn) < np.radians(1)


def test_many_microphones_are_compared_in_bounded_time():
    grid = np.array([[x, y, 0.] for x in np.linspace(-.2, .2, 8) for y in np.linspace(-.2, .2, 8)])
    found = find_direction(arriving(noise(7, RATE), 1.1, grid), RATE, grid, SPEED)
    assert apart(found.azimuth, 1.1) < np.radians(1)


def test_loudness_does_not_matter():
    heard = arriving(noise(4, RATE), -2.0, SQUARE)
    one, other = (find_direction(gain * heard, RATE, SQUARE, SPEED) for gain in (1.0, 1e-3))
    assert apart(one.azimuth, other.azimuth) < 1e-6 and one.coherence == pytest.approx(other.coherence)


def test_a_line_of_microphones_does_not_span_a_plane():
    assert spans_plane(SQUARE) and spans_plane(ROOF[:3])
    assert not spans_plane(ROOF[:2])
    assert not spans_plane(np.array([[x, 2 * x, z] for x, z in ((0., 0.), (.1, 1.), (.2, 0.), (.3, 2.))]))


def test_steering_lifts_the_source_out_of_the_noise():
    sound = noise(5, RATE)
    heard = arriving(sound, 1.0, SQUARE) + noise(6, 4, RATE)
    mean = steered(heard, RATE, SQUARE, 1.0, SPEED)
    assert mean.shape == (RATE,) and mean.dtype == np.float32
    like = [np.corrcoef(each[100:-100], sound[100:-100])[0, 1] for each in (mean, heard.mean(0), heard[0])]
    assert like[0] > max(like[1:]) + 0.1
