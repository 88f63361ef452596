"""A key frame and its readings."""
from __future__ import annotations

from dataclasses import replace

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
