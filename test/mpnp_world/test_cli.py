"""`mpnp world`: data sets, bags of them, and a picture."""
from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from rosbags.rosbag2 import Reader

pytest.importorskip('moderngl', reason='moderngl is not installed: the world cannot be drawn')
pytest.importorskip('embreex', reason='embreex is not installed: the world has no rays')

from mpnp_ros.bags.player import BagPlayer
from mpnp_ros.cli.main import main
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_world import checks
from mpnp_world.dataset.objects_only import read_objects
from mpnp_world.scene.identity import Conditions, SceneIdentity


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """One seed by day and night, small images."""
    path = tmp_path_factory.mktemp('world') / 'root'
    assert main(['world', 'generate', '--output', str(path), '--seeds', '5', '--key-frames', '1',
                 '--interval', '.5', '--size', '64x36', '--sensors', 'camera', 'lidar', 'imu',
                 '--workers', '1', '--quiet']) == 0
    return path


def test_day_and_night_by_default(root):
    assert [scene['name'] for scene in NuScenes(root).scenes] == ['world-0005-day-clear',
                                                                 'world-0005-night-clear']
    frame = next(NuScenes(root).key_frames('world-0005-night-clear'))
    assert len(frame.cameras) == 6 and frame.radars == {} and frame.is_night
    assert frame.cameras['CAM_BACK'].size == (64, 36)


def test_convert_makes_a_bag_of_it(root, tmp_path):
    bag = tmp_path / 'bag'
    assert main(['convert', str(root), str(bag), '--scenes', 'world-0005-day-clear', '--quiet']) == 0
    topics = set(BagPlayer(bag).topics)
    assert {'/cam_back/camera_info', '/lidar_top', '/imu', '/labelled_questions'} <= topics


def test_sweeps_become_messages_at_their_times(tmp_path):
    """Without names --sweeps is of all sensors that can have them."""
    arguments = ['world', 'generate', '--output', str(tmp_path / 'root'), '--seeds', '5', '--light', 'day',
                 '--key-frames', '1', '--interval', '.5', '--sensors', 'lidar', 'imu', '--sweeps',
                 '--sweep-seconds', '.15', '--workers', '1', '--quiet']
    assert main(arguments) == 0
    assert main(['convert', str(tmp_path / 'root'), str(tmp_path / 'bag'), '--quiet']) == 0
    stamps = {topic: [] for topic in ('/lidar_top', '/tf')}
    start = SceneIdentity(5, Conditions()).start
    with Reader(tmp_path / 'bag') as reader:
        for connection, stamp, _ in reader.messages():
            stamps.setdefault(connection.topic, []).append(stamp / 1e9 - start / 1e6)
    assert stamps['/lidar_top'] == stamps['/tf'] == pytest.approx([.35, .4, .45, .5], abs=1e-6)


def test_one_sweep_half_a_second_before(tmp_path):
    arguments = ['world', 'generate', '--output', str(tmp_path), '--seeds', '5', '--light', 'day',
                 '--key-frames', '1', '--interval', '.6', '--sensors', 'lidar', '--sweeps', 'lidar',
                 '--sweep-rate', '2', '--workers', '1', '--quiet']
    assert main(arguments) == 0
    frame, = NuScenes(tmp_path).key_frames('world-0005-day-clear')
    earlier, = frame.earlier('LIDAR_TOP', 1.)
    assert frame.lidar.stamp_ns - earlier.stamp_ns == pytest.approx(5e8, abs=1e3)


def test_objects_only_by_day_is_enough(tmp_path, capsys):
    arguments = ['world', 'generate', '--output', str(tmp_path / 'objects'), '--seeds', '0:2',
                 '--key-frames', '2', '--objects-only', '--workers', '1', '--quiet']
    assert main(arguments) == 0
    assert 'read_objects' in capsys.readouterr().out
    files = sorted((tmp_path / 'objects/objects').iterdir())
    assert [file.name for file in files] == ['world-0000-day-clear.npz', 'world-0001-day-clear.npz']
    assert sum(len(frame.objects) for file in files for frame in read_objects(file)) > 100


def test_show_draws_the_moment(tmp_path):
    picture = tmp_path / 'picture.png'
    assert main(['world', 'show', '--seed', '3', '--size', '80x45', '--output', str(picture)]) == 0
    image = Image.open(picture)
    assert image.width > 3 * 80 + 2 * 45 and image.height > 2 * 45
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize(('option', 'value', 'words'), [
    ('--seeds', 'many', 'is no seed'), ('--seeds', '5:5', 'contains no seed'),
    ('--size', 'large', 'not a size such as 640x360'), ('--size', '4x4', 'too small'),
    ('--light', 'noon', 'invalid choice')])
def test_wrong_options_are_refused_with_the_reason(tmp_path, capsys, option, value, words):
    with pytest.raises(SystemExit) as ended:
        main(['world', 'generate', '--output', str(tmp_path / 'root'), option, value])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / 'mine').write_text('keep')
    assert main(['world', 'generate', '--output', str(tmp_path)]) == 2
    assert 'contains something else' in capsys.readouterr().err


def test_a_package_that_is_missing_is_named_with_the_remedy(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checks, 'PACKAGES', ('moderngl', 'a_package_of_the_future'))
    assert main(['world', 'show', '--output', str(tmp_path / 'picture.png')]) == 2
    assert 'pip install a_package_of_the_future' in capsys.readouterr().err


@pytest.mark.ros
def test_live_becomes_the_node():
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    environment = {**os.environ, 'ROS_DOMAIN_ID': os.environ['MPNP_TEST_OTHER_DOMAIN'],
                   'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    done = subprocess.run([sys.executable, '-m', 'mpnp_ros.cli.main', 'world', 'live', '--rate', '0'],
                          env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=60)
    assert done.returncode == 2
    assert 'rate is 0; it must be 0.01 to 100' in done.stdout
