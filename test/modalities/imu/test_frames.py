"""Readings are brought to an even rate, kept, and refused where they cannot be read."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.errors import ImuError
from mpnp_ros.modalities.imu.frames import ImuFrame, ReadingBuffer, checked, evened


def wave(stamps, frequency=1.0):
    """A frame whose first axis is a sine."""
    values = np.zeros((len(stamps), 3))
    values[:, 0] = np.sin(2 * np.pi * frequency * stamps / 1e9)
    return ImuFrame('imu', stamps.astype(np.int64), values, values)


@pytest.mark.parametrize('rate', [10, 30, 62.5, 100, 250, 1000])
def test_any_rate_becomes_even_and_at_most_a_hundred(rate):
    stamps = np.arange(int(5 * rate)) * 1e9 / rate
    readings = evened(wave(stamps))
    assert readings.rate == pytest.approx(min(rate, 100), rel=0.01)
    assert readings.there.all()
    ends = stamps[-1] / 1e9 - np.arange(len(readings.rotation))[::-1] / readings.rate
    delay = 0.5 / rate * (int(rate / 100 + 0.01) - 1) if rate > 100 else 0
    assert np.abs(readings.rotation[:, 0] - np.sin(2 * np.pi * (ends - delay))).max() < 0.05


def test_messages_in_bursts_are_spread_evenly():
    random = np.random.default_rng(0)
    even = np.arange(500) * 1e7
    bursts = np.sort(np.maximum.accumulate(even + random.uniform(0, 4e6, 500))) + np.arange(500)
    first, other = evened(wave(even)), evened(replace(wave(even), stamps_ns=bursts.astype(np.int64)))
    count = min(len(first.rotation), len(other.rotation))
    assert np.abs(first.rotation[-count:] - other.rotation[-count:]).max() < 0.1


def test_gaps_are_marked_and_only_they():
    stamps = np.arange(1000) * 1e7
    kept = np.r_[0:400, 600:1000]
    readings = evened(wave(stamps[kept]))
    assert len(readings.there) == 1000
    assert not readings.there[405:595].any() and readings.there[:395].all() and readings.there[605:].all()


def test_what_cannot_be_read_is_refused_with_its_name():
    good = wave(np.arange(100) * 1e7)
    broken = {
        'NaN': {'rotation': np.full((100, 3), np.nan)}, 'shape': {'acceleration': np.zeros((99, 3))},
        'rise': {'stamps_ns': good.stamps_ns[::-1]}, 'orientation': {'orientation': np.zeros((3, 4))}}
    for word, change in broken.items():
        with pytest.raises(ImuError, match=f'imu.*{word}'):
            checked(replace(good, **change))
    with pytest.raises(ImuError, match='too few'):
        checked(wave(np.zeros(1)))
    assert checked(good) is good


def test_the_buffer_keeps_the_last_seconds_in_order():
    buffer, oriented = ReadingBuffer(2.0), np.array([0.] * 6 + [1., 0., 0., 0.])
    for number in range(5000):
        buffer.add(number * 1_000_000, np.append(number, oriented[1:]))
    frame = buffer.frame('imu', None, 'base')
    assert len(frame) == len(buffer) == 2001 and buffer.newest_ns == 4999 * 1_000_000
    assert frame.rotation[:, 0].tolist() == list(range(2999, 5000))
    assert frame.orientation is not None and np.isclose(frame.rate, 1000)
    buffer.add(5_000_000_000, np.append(oriented[:6], [np.nan] * 4))
    assert buffer.frame('imu', None, 'base').orientation is None
    buffer.clear()
    assert not len(buffer)
    with pytest.raises(IndexError):
        _ = buffer.newest_ns
