"""Up and ahead are found however the IMU is mounted and whatever its driver does with gravity."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.modalities.imu.axes import heading, level_motion, rotation_matrices, ups_of
from mpnp_ros.modalities.imu.frames import evened


def seen(frame, gravity='auto'):
    """Rotation about the vertical, acceleration ahead and to the left, by block."""
    motion = level_motion(frame, evened(frame), gravity)
    ahead = heading(frame, motion)
    direction = np.array([np.cos(ahead.angle), np.sin(ahead.angle)])
    return motion.rotation, motion.level @ direction, ahead, motion


def true(drive, blocks):
    """The same of the vehicle, without a moment at the beginning."""
    ends = len(drive.times) - 10 * blocks
    return [values[ends:].reshape(blocks, 10).mean(1) for values in (drive.turning, drive.acceleration)]


@pytest.mark.parametrize('number', range(4))
def test_turns_and_braking_are_seen_in_any_mounting(drive, turned, number):
    rotation, ahead, found, motion = seen(drive.frame(60, turned(number)))
    turning, gain = true(drive, len(rotation))
    assert np.abs(rotation - turning).max() < 0.03
    assert found.certainty > 0.9
    assert np.corrcoef(ahead, gain)[0, 1] > 0.9
    assert motion.gravity == pytest.approx(9.81, abs=0.1) and motion.sided
    assert motion.up[-1] @ turned(number)[:, 2] == pytest.approx(1, abs=0.01)


def test_standing_is_seen_and_gives_the_bias(drive, turned):
    frame = drive.frame(60, turned(1))
    bias = np.array([0.01, -0.02, 0.015])
    motion = level_motion(replace(frame, rotation=frame.rotation + bias), evened(frame))
    assert motion.still[:40].mean() > 0.9 and motion.still[60:240].mean() < 0.05
    rotation, *_, biased = seen(replace(frame, rotation=frame.rotation + bias))
    assert np.abs(rotation - true(drive, len(rotation))[0]).max() < 0.03
    assert biased.bias_error < 0.005


def test_nothing_is_known_about_ahead_while_it_stands(drive):
    *_, found, _ = seen(drive.frame(4.5))
    assert found.certainty < 0.1


@pytest.mark.parametrize('told', ['mount', 'orientation', 'parameter'])
def test_gravity_that_is_measured_downwards(drive, turned, told):
    """Only the mounting, the orientation or a parameter can tell; then everything is as before."""
    turn = turned(2)
    frame = drive.frame(60, turn, sign=-1.0)
    if told == 'mount':
        frame = replace(frame, mount=turn.T)
    if told == 'orientation':
        frame = replace(frame, orientation=np.tile(quaternion(turn.T), (len(frame), 1)))
    rotation, ahead, _, _ = seen(frame, 'down' if told == 'parameter' else 'auto')
    turning, gain = true(drive, len(rotation))
    assert np.abs(rotation - turning).max() < 0.03
    assert np.corrcoef(ahead, gain)[0, 1] > 0.9


def test_inverted_readings_exchange_left_and_right_and_nothing_else(drive, turned):
    """What the module says about mirrored robots."""
    plain, inverted = (seen(drive.frame(60, turned(3), sign=sign)) for sign in (1.0, -1.0))
    assert np.allclose(plain[0], -inverted[0], atol=1e-6)
    assert np.allclose(plain[1], inverted[1], atol=0.05)


@pytest.mark.parametrize('oriented', [True, False])
def test_gravity_that_the_driver_removes(drive, turned, oriented):
    turn = turned(4)
    frame = drive.frame(60, turn, removed=True)
    if oriented:
        frame = replace(frame, orientation=np.tile(quaternion(turn.T), (len(frame), 1)))
    rotation, ahead, _, motion = seen(frame)
    turning, gain = true(drive, len(rotation))
    assert motion.gravity == 0 and motion.sided is oriented
    assert np.abs(np.abs(rotation) - np.abs(turning)).max() < 0.03
    assert (np.corrcoef(rotation, turning)[0, 1] > 0.9) or not oriented
    assert np.corrcoef(ahead, gain)[0, 1] > 0.9


def test_the_mounting_is_used_unless_gravity_contradicts_it(drive, turned):
    turn = turned(5)
    right, wrong = (seen(drive.frame(60, turn, mount=mount))[2] for mount in (turn.T, turned(6)))
    found = seen(drive.frame(60, turn))[2]
    assert right.deviation == 0 and np.cos(right.angle - found.angle) > 0.95
    assert wrong.deviation > 0 and np.cos(wrong.angle - found.angle) > 0.95


def test_slopes_are_followed(drive):
    """Ten degrees uphill within five seconds are no push backwards."""
    angle = np.radians(10) * np.clip((drive.times - 30) / 5, 0, 1)
    tilt = rotation_matrices(np.stack([np.zeros_like(angle), angle, np.zeros_like(angle)], 1))
    pitching = np.gradient(angle, drive.times)
    frame = drive.frame(60)
    part = slice(0, len(frame))
    acceleration = np.einsum('nij,nj->ni', tilt, frame.acceleration)[part]
    rotation = np.einsum('nij,nj->ni', tilt, frame.rotation) + np.outer(pitching, [0, -1, 0])
    _, ahead, _, _ = seen(replace(frame, acceleration=acceleration, rotation=rotation, mount=np.eye(3)))
    assert abs(ahead[300:345]).max() < 0.7 < 9.8 * np.sin(np.radians(10))


def quaternion(matrix):
    """(w, x, y, z) of a rotation."""
    _, vectors = np.linalg.eigh(np.array([
        [matrix[0, 0] - matrix[1, 1] - matrix[2, 2], matrix[1, 0] + matrix[0, 1], matrix[2, 0] + matrix[0, 2],
         matrix[2, 1] - matrix[1, 2]],
        [matrix[1, 0] + matrix[0, 1], matrix[1, 1] - matrix[0, 0] - matrix[2, 2], matrix[2, 1] + matrix[1, 2],
         matrix[0, 2] - matrix[2, 0]],
        [matrix[2, 0] + matrix[0, 2], matrix[2, 1] + matrix[1, 2], matrix[2, 2] - matrix[0, 0] - matrix[1, 1],
         matrix[1, 0] - matrix[0, 1]],
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1],
         matrix.trace()]]) / 3)
    x, y, z, w = vectors[:, -1]
    assert np.allclose(ups_of(np.array([[w, x, y, z]])), matrix[2], atol=1e-6)
    return np.array([w, x, y, z])
