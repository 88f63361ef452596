"""A key frame and its readings."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.key_frame import KeyFrame


def first(root: NuScenes) -> KeyFrame:
    """The first key frame of the first scene."""
    return next(root.key_frames(root.scenes[0]))


def test_readings_are_all_sensors_of_the_moment_in_time_order(small_root: NuScenes) -> None:
    frame = first(small_root)
    readings = frame.readings
    assert {reading.channel for reading in readings} == {*frame.cameras, 'LIDAR_TOP'} and len(readings) == 7
    stamps = [reading.stamp_ns for reading in readings]
    assert stamps == sorted(stamps) and all(reading.is_key_frame for reading in readings)
    later = replace(frame.lidar, stamp_ns=stamps[-1] + 1)
    assert replace(frame, lidar=later).readings[-1] is later
    radar = replace(later, channel='RADAR_FRONT', modality='radar', stamp_ns=stamps[0] - 1)
    assert replace(frame, lidar=None, radars={'RADAR_FRONT': radar}).readings[0] is radar


def test_readings_turn_with_the_frame(small_root: NuScenes) -> None:
    frame = first(small_root)
    assert [reading.path for reading in frame.turned(1.).readings] == [
        reading.path for reading in frame.readings]


def test_earlier_readings_are_those_of_the_last_seconds(small_root: NuScenes) -> None:
    before, frame = small_root.key_frames(small_root.scenes[0])
    assert before.earlier('LIDAR_TOP', 9.) == []
    assert [item.path for item in frame.earlier('LIDAR_TOP', .5)] == [before.lidar.path]
    assert frame.earlier('LIDAR_TOP', .4999) == []
    assert [item.path for item in frame.earlier('CAM_BACK', .5)] == [before.cameras['CAM_BACK'].path]
    assert frame.earlier('RADAR_FRONT', 9.) == [], 'the frame has no reading of it'


@pytest.mark.parametrize('turn', [0., 2.])
def test_earlier_readings_are_placed_with_the_motion_of_the_vehicle(small_root: NuScenes,
                                                                    turn: float) -> None:
    """What stands has one place in the base frame, from whichever reading it is computed."""
    _, frame = (item.turned(turn) for item in small_root.key_frames(small_root.scenes[0]))
    reading, = frame.earlier('LIDAR_TOP', .5)
    thing = frame.ego_pose.apply((7., -2., .5))
    seen = (reading.ego_pose @ reading.extrinsics).inverse().apply(thing)
    np.testing.assert_allclose(frame.to_base(reading).apply(seen), (7., -2., .5), atol=1e-9)
    assert np.linalg.norm(reading.extrinsics.apply(seen) - (7., -2., .5)) > .5, 'the vehicle has moved'
    assert math.isclose(reading.extrinsics.yaw, frame.lidar.extrinsics.yaw), 'it turns with the frame'
    np.testing.assert_allclose(frame.to_base(frame.lidar).translation, frame.lidar.extrinsics.translation,
                               atol=1e-9)
