"""The readings of a scene before each of its key frames, from the CAN bus expansion of nuScenes."""
from __future__ import annotations

import json

import numpy as np
import pytest

from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.imu.registration import imu_frame, readings
from mpnp_ros.poses import Transform
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading

HERE = Transform(np.eye(3), np.zeros(3))


@pytest.fixture
def can_bus(tmp_path):
    """A file of ten readings, a tenth of a second apart, one of them twice."""
    path = tmp_path / 'scene-0001_ms_imu.json'
    path.write_text(json.dumps([
        {'utime': 1_000_000 + 100_000 * number, 'q': [1, 0, 0, 0], 'rotation_rate': [0, 0, number],
         'linear_accel': [0.5, 0, 9.8]} for number in (*range(10), 9)]))
    return path


def key_frame(path, stamp_ns):
    reading = None if path is None else SensorReading('IMU', 'imu', path, stamp_ns, True, HERE, HERE)
    return KeyFrame('token', 'scene-0001', '', stamp_ns, HERE, {}, None, {}, (), imu=reading)


def test_a_key_frame_has_the_readings_up_to_it(can_bus):
    frame = imu_frame(key_frame(can_bus, 1_520_000_000))
    assert frame.rotation[:, 2].tolist() == [0, 1, 2, 3, 4, 5] and frame.stamps_ns[-1] == 1_500_000_000
    assert frame.mount is not None and np.allclose(frame.acceleration, [0.5, 0, 9.8])
    assert len(imu_frame(key_frame(can_bus, 9_000_000_000))) == 10
    assert [reading.path for reading in readings(key_frame(can_bus, 1))] == [can_bus]


def test_the_first_key_frame_has_two_readings(can_bus):
    assert len(imu_frame(key_frame(can_bus, 1_000_000_000))) == 2


def test_a_key_frame_without_the_expansion_is_refused_with_the_remedy():
    with pytest.raises(DatasetError, match='CAN bus expansion; unpack it'):
        imu_frame(key_frame(None, 0))
    assert not list(readings(key_frame(None, 0)))


@pytest.mark.parametrize('change', [{'utime': 1.5}, {'q': [1, 0, 0]}, {'linear_accel': None},
                                    {'rotation_rate': [0, 0, float('inf')]}])
def test_a_damaged_file_is_refused_by_name(can_bus, change):
    rows = json.loads(can_bus.read_text())
    can_bus.write_text(json.dumps([{**rows[0], **change}, *rows[1:]]))
    with pytest.raises(DatasetError, match='scene-0001_ms_imu.json is damaged'):
        imu_frame(key_frame(can_bus, 2_000_000_000))
