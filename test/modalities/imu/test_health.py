"""Faults of an IMU are seen and named; a good one is not blamed."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.modalities.imu.health import ImuLimits


def judged(frame, **limits):
    return ImuLimits(**limits).judge().judge(frame)


def test_a_good_imu_has_full_quality(drive, turned):
    for frame in (drive.frame(60, turned(0)), drive.frame(60, removed=True), drive.frame(3, turned(1)),
                  drive.frame(60, every=10), drive.frame(60, turned(2), mount=turned(2).T),
                  drive.frame(60, sign=-1.0)):
        assert judged(frame) == judged(frame) and judged(frame).quality == 1 and not judged(frame).concerns


@pytest.mark.parametrize(('fault', 'words'), [
    ('seldom', 'sends seldom'), ('gaps', 'has gaps'), ('frozen', 'repeats one reading'),
    ('zeros', 'nothing but zeros'), ('dead axis', 'has stuck values: rotation y'),
    ('saturated', 'at the limit of acceleration z'), ('units of g', 'impossible gravity'),
    ('mounting', 'mounted otherwise than tf says')])
def test_faults_are_named_and_cost_quality(drive, turned, fault, words):
    frame = drive.frame(60)
    rotation, acceleration = frame.rotation.copy(), frame.acceleration.copy()
    seconds = (frame.stamps_ns - frame.stamps_ns[-1]) / 1e9
    if fault == 'seldom':
        frame = drive.frame(60, every=25)
    elif fault == 'gaps':
        kept = (seconds < -7) | (seconds > -2)
        frame = replace(frame, stamps_ns=frame.stamps_ns[kept], rotation=rotation[kept],
                        acceleration=acceleration[kept])
    elif fault in ('frozen', 'zeros'):
        rotation[seconds > -3], acceleration[seconds > -3] = rotation[-1], acceleration[-1]
        factor = np.where(seconds > -3, 0.0 if fault == 'zeros' else 1.0, 1.0)[:, None]
        frame = replace(frame, rotation=rotation * factor, acceleration=acceleration * factor)
    elif fault == 'dead axis':
        rotation[:, 1] = 0.002
        frame = replace(frame, rotation=rotation)
    elif fault == 'saturated':
        strong = acceleration + np.array([0, 0, 25]) * np.sin(40 * seconds)[:, None]
        frame = replace(frame, acceleration=strong.clip(-19.6, 19.6))
    elif fault == 'units of g':
        frame = replace(frame, acceleration=acceleration / 9.80665)
    else:
        frame = replace(frame, mount=np.array([[1., 0, 0], [0, 0, -1], [0, 1, 0]]))
    health = judged(frame)
    assert health.quality < 0.5
    assert len(health.concerns) == 1 and words in health.concerns[0]
    assert health.concerns[0].startswith('imu ')


def test_an_axis_may_be_constant_where_a_limit_says_so(drive):
    frame = drive.frame(60)
    still = replace(frame, rotation=np.zeros_like(frame.rotation) + 0.01)
    assert judged(still).quality < 0.5 and judged(still, stuck_after=0.0).quality == 1
