from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.adaptation.sector_targets import sector_targets, twins
from mpnp_ros.adaptation.true_objects import CHANNELS
from mpnp_ros.modalities.geometry import sector_of
from mpnp_ros.nuscenes.geometry import Transform
from mpnp_ros.nuscenes.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.nuscenes.questions import EVERYTHING, Scope

CAR = AnnotatedObject('1', 'car', 'parked', (10.0, 1.0, 0.0), (4, 2, 1.5), 0.0, num_lidar_pts=50)
CONE = AnnotatedObject('2', 'traffic cone', None, (-3.0, 8.0, 0.0), (0.4, 0.4, 1), 0.0, num_lidar_pts=5)


def frame(*objects):
    pose = Transform(np.eye(3), np.zeros(3))
    return KeyFrame('token', 'scene', '', 0, pose, {}, None, {}, objects)


def targets(*objects, scope=EVERYTHING):
    return sector_targets(frame(*objects), scope)


def test_an_object_counts_in_its_sector_and_channel():
    counts = targets(CAR, CONE).counts()
    assert counts.shape == (72, 24) and counts.sum() == 2
    assert counts[sector_of(math.atan2(1, 10)), CHANNELS.index(('car', 'parked'))] == 1
    assert counts[sector_of(math.atan2(8, -3)), CHANNELS.index(('traffic cone', None))] == 1


def test_far_and_hardly_seen_objects_do_not_count():
    others = replace(CAR, centre=(31.0, 0, 0)), replace(CONE, num_lidar_pts=4)
    kept = targets(CAR, CONE, *others, scope=Scope(30, 5))
    assert len(kept.azimuth) == 2


def test_an_unknown_status_is_shared_out():
    counts = targets(replace(CAR, attribute=None)).counts().sum(0)
    assert {channel for channel, count in zip(CHANNELS, counts, strict=True) if count} == {
        ('car', 'moving'), ('car', 'parked'), ('car', 'stopped')}
    assert counts.sum() == pytest.approx(1)


@given(st.floats(-7, 7))
def test_turning_the_targets_is_turning_the_vehicle_the_other_way(angle):
    made = targets(CAR, CONE).counts(angle)
    for item in frame(CAR, CONE).turned(-angle).objects:
        channel = CHANNELS.index((item.category, item.attribute))
        azimuth = math.atan2(item.centre[1], item.centre[0])
        places = {sector_of(azimuth + off).item() for off in (-1e-6, 0, 1e-6)}  # on either side of a border
        assert made[list(places), channel].sum() == 1 == made[:, channel].sum()


def test_mirroring_swaps_left_and_right():
    made = targets(CAR, CONE).counts(mirrored=True)
    assert (made == targets(CAR, CONE).counts()[::-1]).all()


def test_a_frame_without_objects_has_nothing_to_count():
    assert targets().counts().shape == (72, 24) and targets().counts().sum() == 0


def test_scenes_of_a_seed_are_twins():
    assert twins('world-0007-night-clear') == twins('world-0007-day-rain') != twins('world-0008-day-clear')
    assert twins('scene-0061') == 'scene-0061'
