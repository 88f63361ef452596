from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.adaptation.sector_targets import CHANNELS, sector_targets, twins
from mpnp_ros.modalities.sectors import sector_of
from mpnp_ros.nuscenes.key_frame import AnnotatedObject, turned

CAR = AnnotatedObject('1', 'car', 'parked', (10.0, 1.0, 0.0), (4, 2, 1.5), 0.0, num_lidar_pts=50)
CONE = AnnotatedObject('2', 'traffic cone', None, (-3.0, 8.0, 0.0), (0.4, 0.4, 1), 0.0, num_lidar_pts=5)


def test_an_object_counts_in_its_sector_and_channel():
    counts = sector_targets([CAR, CONE]).counts()
    assert counts.shape == (72, 24) and counts.sum() == 2
    assert counts[sector_of(math.atan2(1, 10)), CHANNELS.index(('car', 'parked'))] == 1
    assert counts[sector_of(math.atan2(8, -3)), CHANNELS.index(('traffic cone', None))] == 1


def test_far_and_hardly_seen_objects_do_not_count():
    others = replace(CAR, centre=(31.0, 0, 0)), replace(CONE, num_lidar_pts=4)
    kept = sector_targets([CAR, CONE, *others], 30, 5)
    assert len(kept.azimuth) == 2


def test_an_unknown_status_is_shared_out():
    counts = sector_targets([replace(CAR, attribute=None)]).counts().sum(0)
    assert {channel for channel, count in zip(CHANNELS, counts, strict=True) if count} == {
        ('car', 'moving'), ('car', 'parked'), ('car', 'stopped')}
    assert counts.sum() == pytest.approx(1)


@given(st.floats(-7, 7))
def test_turning_the_targets_is_turning_the_vehicle_the_other_way(angle):
    made, wanted = sector_targets([CAR, CONE]).counts(angle), sector_targets(turned([CAR, CONE], -angle))
    places = (sector_of(wanted.azimuth + off) for off in (-1e-6, 1e-6))
    assert any(made[place].sum() for place in np.ravel(list(places)))
    assert made.sum() == 2


def test_mirroring_swaps_left_and_right():
    made = sector_targets([CAR, CONE]).counts(mirrored=True)
    assert (made == sector_targets([CAR, CONE]).counts()[::-1]).all()


def test_scenes_of_a_seed_are_twins():
    assert twins('world-0007-night-clear') == twins('world-0007-day-rain') != twins('world-0008-day-clear')
    assert twins('scene-0061') == 'scene-0061'
