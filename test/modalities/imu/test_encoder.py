"""Tokens of own motion: probabilities that mounting, rate and gravity convention do not change."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.errors import ImuError, WeightsError
from mpnp_ros.modalities.heads import Head, HeadManifest, save_head
from mpnp_ros.modalities.imu.channels import CHANNELS, GROUPS, SPEED_BORDERS, SPEEDS
from mpnp_ros.modalities.imu.network import MotionNetwork
from mpnp_ros.modalities.registry import create_encoder, find_sensor

CALM, BUMP = CHANNELS.index(('turn', 'none')), CHANNELS.index(('bump', None))


@pytest.fixture(scope='module')
def encoder():
    """The encoder with the head that comes with the package."""
    return create_encoder('imu', {'device': 'cpu'})


def probable(tokens, group):
    """The most probable class of a group."""
    part = GROUPS[group]
    return CHANNELS[part][int(tokens.values[0, part].argmax())][1]


def test_channels_are_probabilities_by_group(encoder, drive, turned):
    assert len(CHANNELS) == 11 and len(set(CHANNELS)) == 11 and CHANNELS[BUMP] == ('bump', None)
    assert len(SPEEDS) == len(SPEED_BORDERS) + 1
    for end in (0.5, 3, 12, 31, 60):
        tokens = encoder.encode(drive.frame(end, turned(1)))
        assert tokens.values.shape == (1, 11) and tokens.values.dtype == np.float32
        assert ((tokens.values >= 0) & (tokens.values <= 1)).all() and np.isnan(tokens.azimuth).all()
        for group in GROUPS.values():
            assert tokens.values[0, group].sum() == pytest.approx(1, abs=1e-5)
        assert tokens.sources == ('imu',) and tokens.looked.all()
        assert tokens.stamp_ns == tokens.source_stamps_ns[0] == drive.frame(end).stamps_ns[-1]


def test_what_the_drive_does_is_what_is_probable(encoder, drive, turned):
    """It stands, speeds up, bends to both sides, brakes, and stands again."""
    said = {end: encoder.encode(drive.frame(end, turned(3))) for end in (34, 39, 43, 48, 53, 59)}
    assert probable(said[34], 'speed') == probable(said[59], 'speed') == 'standing'
    assert probable(said[43], 'speed') == 'driving'
    assert [probable(said[end], 'turn') for end in (34, 43, 48, 59)] == ['none', 'left', 'right', 'none']
    assert [probable(said[end], 'pace') for end in (39, 53, 59)] == ['speeding up', 'braking', 'steady']
    assert all(tokens.known.all() for tokens in said.values())


@pytest.mark.parametrize('change', ['mounting', 'rate', 'gravity down', 'gravity removed', 'jitter',
                                    'a reading'])
def test_what_changes_nothing(encoder, drive, turned, change):
    """About; the vibration of a drive at 20 Hz or without gravity is not exactly that at 100 Hz."""
    for end in (34., 43., 52.):
        turn = turned(4)
        plain = encoder.encode(drive.frame(end, turn))
        other = {'mounting': lambda end=end: drive.frame(end, turned(5)),
                 'rate': lambda end=end: drive.frame(end, turned(4), every=5),
                 'gravity down': lambda end=end: drive.frame(end, turned(4), sign=-1.0, mount=turned(4).T),
                 'gravity removed': lambda end=end: drive.frame(end, turned(4), removed=True,
                                                                mount=turned(4).T),
                 'jitter': lambda end=end: jittered(drive.frame(end, turned(4))),
                 'a reading': lambda end=end: without(drive.frame(end, turned(4)), 100)}[change]()
        tolerance = {'mounting': 0.02, 'jitter': 0.1, 'a reading': 0.1}.get(change, 0.35)
        values = encoder.encode(other).values
        assert np.abs(values - plain.values)[0, :BUMP].max() < tolerance, (end, change)


def jittered(frame):
    """With stamps that are up to four milliseconds late."""
    late = np.random.default_rng(0).integers(0, 4_000_000, len(frame))
    return replace(frame, stamps_ns=frame.stamps_ns + late)


def without(frame, place):
    """Without one reading."""
    return replace(frame, **{name: np.delete(getattr(frame, name), place, 0)
                             for name in ('stamps_ns', 'rotation', 'acceleration')})


def test_a_bump_is_probable_for_two_seconds(encoder, drive):
    frame = drive.frame(48.0)
    seconds = (frame.stamps_ns - frame.stamps_ns[-1]) / 1e9
    said = {}
    for since in (1.0, 4.0):
        inside = (seconds > -since) & (seconds < 0.25 - since)
        push = 6 * inside * np.sin(8 * np.pi * (seconds + since))
        shaken = replace(frame, acceleration=frame.acceleration + push[:, None] * [0, 0, 1])
        said[since] = float(encoder.encode(shaken).values[0, BUMP])
    assert said[1.0] > 0.8 and said[4.0] < 0.3


def test_what_cannot_be_told_is_not_known(encoder, drive, turned):
    pace, left = GROUPS['pace'], CHANNELS.index(('turn', 'left'))
    early = encoder.encode(drive.frame(1.0))
    assert not early.known.any()
    assert early.values[0, pace] == pytest.approx(1 / 3)
    assert early.values[0, GROUPS['speed']] == pytest.approx(1 / 4)
    standing = encoder.encode(drive.frame(4.5, turned(0)))
    assert not standing.known[pace].any() and standing.known[GROUPS['speed']].all() and standing.known[left]
    slow = encoder.encode(drive.frame(60, every=10))
    assert not slow.known[BUMP] and slow.known[:BUMP].all()
    sideless = encoder.encode(drive.frame(43, turned(0), removed=True))
    assert not sideless.known[left] and sideless.known[CALM]
    assert sideless.values[0, left] == pytest.approx(sideless.values[0, left + 1])


def test_readings_that_cannot_be_used_are_refused(encoder, drive):
    frame = drive.frame(10)
    with pytest.raises(ImuError, match='NaN'):
        encoder.encode(replace(frame, acceleration=frame.acceleration * np.nan))
    with pytest.raises(ImuError, match='too few'):
        encoder.encode(replace(frame, **{name: getattr(frame, name)[:1]
                                         for name in ('stamps_ns', 'rotation', 'acceleration')}))


def test_a_head_of_other_channels_is_refused(tmp_path):
    manifest = HeadManifest('imu', CHANNELS[:4], 1.0, 0, '', {}, {'hidden': 8}, form='motion')
    save_head(tmp_path / 'head', Head(manifest, MotionNetwork(hidden=8)))
    with pytest.raises(WeightsError, match='other channels'):
        create_encoder('imu', {'head': str(tmp_path / 'head')})


def test_the_fingerprint_is_that_of_the_head_whatever_the_convention(encoder):
    assert encoder.fingerprint == create_encoder('imu', {'gravity': 'down'}).fingerprint
    assert encoder.fingerprint.startswith('imu-')
    assert find_sensor('imu').networks.keys() == {'motion'}
