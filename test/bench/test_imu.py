"""Drives, varied windows, training and figures of own motion."""
from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from bench.imu import __main__ as program
from bench.imu.drives import UNTOLD, ImuDrive, classes, cobra_drive, robot_drive
from bench.imu.measuring import GroupResult, live_windows, measured
from bench.imu.training import TrainingPlan, loss_of, trained
from bench.imu.windows import plain_window, random_part, varied_window
from mpnp_ros.bags.messages import MessageFactory, message_types
from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.imu.axes import GRAVITY

pytestmark = pytest.mark.bench


@pytest.fixture(scope='module')
def drive():
    """Half a minute of starting, bends and braking on a shaking road, an IMU on its head."""
    times = np.arange(4000) / 100
    phase = times % 20
    speed = 6 * np.interp(phase, (0, 3, 7, 13, 17, 20), (0, 0, 1, 1, 0, 0))
    turning = 0.3 * np.sin(2 * np.pi * (phase - 7) / 6) * ((phase > 7) & (phase < 13))
    random = np.random.default_rng(0)
    shaking = random.normal(0, 0.3, (4000, 3)) * np.sqrt(speed / 6)[:, None]
    push = np.stack([np.gradient(speed, times), speed * turning, np.full(4000, GRAVITY)], 1) + shaking
    rotation = np.stack([0 * times, 0 * times, turning], 1) + 0.05 * shaking
    mount = np.diag([1.0, -1.0, -1.0])
    return ImuDrive('test', times, rotation @ mount, push @ mount, None, mount, times, speed, turning)


def test_classes_have_the_borders_of_the_channels():
    truth = np.array([[0.1, 0.0, 0.0, 0.0], [2.0, 0.1, 0.6, 1.0], [9.0, -0.1, -0.6, np.nan],
                      [10.0, np.nan, 0.4, 0.0]])
    assert classes(truth).tolist() == [[0, 2, 1, 0], [1, 0, 2, 1], [2, 1, 0, UNTOLD], [3, UNTOLD, 1, 0]]


def test_a_varied_drive_is_still_mechanics(drive):
    """Whatever the mounting and the size: turning is seen, and acceleration is that of the true speed."""
    random = np.random.default_rng(1)
    windows = [varied_window(drive, 0.0, 40.0, random) for _ in range(12)]
    seen = [window for window in windows if window.features.sided and len(window.truth) > 10]
    assert len(seen) > 6
    for window in windows:
        features, truth = window.features, window.truth
        assert len(features.rotation) == len(truth) == len(features.vibrations.power)
        assert all(np.isfinite(values).all() for values in (
            features.rotation, features.ahead, features.left, features.vibrations.power))
    for name, column, least in (('rotation', 1, 0.95), ('ahead', 2, 0.8)):
        alike = [np.corrcoef(getattr(window.features, name), window.truth[:, column])[0, 1]
                 for window in seen]
        assert np.median(alike) > least
    fastest = [window.truth[:, 0].max() for window in windows]
    assert min(fastest) < 3 < max(fastest) < 40


def test_parts_hold_their_windows():
    random = np.random.default_rng(2)
    for _ in range(50):
        start, end = random_part([(10.0, 15.0), (100.0, 300.0)], random)
        assert 4 <= end - start < 120.001 and (10 <= start < end <= 15 or 100 <= start < end <= 300)


def test_training_learns_what_windows_show(drive):
    random = np.random.default_rng(3)
    windows = [varied_window(drive, *random_part([(0.0, 40.0)], random), random) for _ in range(16)]
    plan, said = TrainingPlan(steps=14, batch=8, hidden=8, dropout=0.0, learning_rate=2e-2), []
    network = trained(windows, windows[:4], plan, said.append)
    untrained, *again = (trained(windows, (), replace(plan, steps=steps), said.append) for steps in (1, 3, 3))
    before, after = loss_of(untrained, windows), loss_of(network, windows)
    assert after['speed'].item() < 0.9 * before['speed'].item()
    assert said[0].startswith('step 14') and 'held out: speed' in said[0]
    first, other = (loss_of(each, windows)['speed'].item() for each in again)
    assert first == other
    found = measured(network, list(live_windows(drive, [(0.0, 40.0)])))
    assert found['turn'].accuracy > 80 and len(found['speed'].right) == 18
    assert found['turn'].confusion.sum() == len(found['turn'].right)


def test_figures_of_a_group():
    result = GroupResult(np.array([[.9, .1], [.8, .2], [.3, .7], [.6, .4]]), np.array([0, 0, 1, 1]))
    assert (result.accuracy, result.majority, result.balanced) == (75, 50, 75)
    assert result.confusion.tolist() == [[2, 0], [1, 1]]
    assert result.calibration_error == pytest.approx(100 * (.1 + .2 + .3 + .6) / 4)


def test_a_plain_window_judges_the_second_before_its_end(drive):
    window = plain_window(drive, 0.0, 29.0, mounted=True)
    assert window.truth[-1, 0] == pytest.approx(6.0, abs=0.1) and window.features.certainty == 1
    assert window.truth[-1, 1] == pytest.approx(drive.turning[2800:2900].mean(), abs=0.02)
    assert np.isnan(window.truth[:, 3]).all()


def test_the_bag_of_the_car_is_read(tmp_path):
    """Increments become rates, and the direction of the velocity becomes the rotation."""
    path = tmp_path / 'cobra.db3'
    with sqlite3.connect(path) as database:
        database.execute('create table topics (id integer, name text)')
        database.execute('create table messages (topic_id integer, timestamp integer, data blob)')
        database.executemany('insert into topics values (?, ?)', [
            (1, '/sensor/vn_100/imu'), (2, '/sensor/ins_d/pva')])
        reading = bytes(44) + np.array([0, 0, -.098, 0, 0, .001]).tobytes()
        database.executemany('insert into messages values (1, ?, ?)', [
            (10 ** 9 + number * 10 ** 7, reading) for number in range(100)])
        angles = 0.1 * np.arange(400) / 200
        database.executemany('insert into messages values (2, ?, ?)', [
            (10 ** 9 + number * 5 * 10 ** 6,
             bytes(68) + (5 * np.array([np.cos(angle), np.sin(angle), 0])).tobytes())
            for number, angle in enumerate(angles)])
    drive = cobra_drive(path)
    assert drive.rotation[0, 2] == pytest.approx(0.1) and drive.acceleration[0, 2] == pytest.approx(-9.8)
    assert drive.mount @ drive.acceleration[0] == pytest.approx([0, 0, 9.8])
    assert drive.speed == pytest.approx(5) and drive.turning == pytest.approx(-0.1, abs=1e-6)
    (tmp_path / 'no.db3').write_bytes(b'no bag at all, though long enough to be one' * 50)
    with pytest.raises(DatasetError, match='pntos-cobra-datasets-ros'):
        cobra_drive(tmp_path / 'no.db3')


def test_a_bag_of_a_robot_is_read(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer

    from mpnp_ros.poses import Transform

    types = message_types()
    make = MessageFactory(types)
    here = Transform(np.eye(3), np.zeros(3))
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in (('/imu/data', 'sensor_msgs/msg/Imu'), ('/odom', 'nav_msgs/msg/Odometry')):
            connection = writer.add_connection(topic, kind, typestore=types)
            for number in range(10):
                stamp = 10 ** 9 + number * 10 ** 8
                message = make.imu(stamp, (1., 0., 0., 0.), (0., 0., number), (0., 0., 9.8)) \
                    if topic == '/imu/data' else make.odometry(stamp, here, np.array((-2., 0., 0.)), 0.5)
                writer.write(connection, stamp, types.serialize_cdr(message, kind))
    drive = robot_drive(tmp_path / 'bag', '/imu/data', '/odom', (-np.pi / 2, 0, np.pi / 2))
    assert drive.rotation[:, 2].tolist() == list(range(10)) and np.allclose(drive.orientation, [1, 0, 0, 0])
    assert drive.speed == pytest.approx(2) and drive.turning == pytest.approx(0.5)
    assert drive.mount @ [0, 1, 0] == pytest.approx([0, 0, 1]), 'gravity is on +y, as of the Husky'
    with pytest.raises(DatasetError, match='no messages on /imu'):
        robot_drive(tmp_path / 'bag', '/imu', '/odom')


def test_the_page_has_the_figures_and_the_commands(tmp_path):
    result = GroupResult(np.eye(4)[[0, 1, 1]], np.array([0, 1, 2]))
    program.write(tmp_path / 'imu.md', {'somewhere': {'speed': result}}, {'somewhere': (80., 12.5)})
    text = (tmp_path / 'imu.md').read_text()
    assert '| somewhere | 66.7 | 33.3 | 33.3 | - | - | - | - | - | - |' in text
    assert 'python -m bench.imu train' in text and '| somewhere | 80.0 | 12.5 |' in text
    assert json.loads((tmp_path / 'imu.json').read_text())['groups']['somewhere']['speed']['accuracy'] > 66


def test_parts_do_not_overlap(drive):
    whole = program.parts_of(ImuDrive(**{**drive.__dict__, 'times': np.arange(2600.0)}), range(9))
    assert whole == [(0.0, 2599.0)]
    numbers = [*program.TRAINING, *program.VALIDATION, *program.TEST]
    assert sorted(numbers) == list(range(9))
    assert not set(program.TRAINING_SEEDS) & set(program.TEST_SEEDS)
