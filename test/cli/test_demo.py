"""The demo as a command, and once from end to end with real processes, a tiny model and few key frames."""
from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from PIL import Image

from mpnp_ros.cli import checks, demo, demo_majority, demo_scene
from mpnp_ros.cli.checks import MISSING, Finding
from mpnp_ros.cli.main import main


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path) -> None:
    """A cache of its own, no data of this machine, little to count."""
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('NUSCENES_ROOT', raising=False)
    monkeypatch.setattr(demo_scene, 'source_folder', lambda: None)
    monkeypatch.setattr(demo_majority, 'SEEDS', range(2))
    monkeypatch.setattr(demo_majority, 'KEY_FRAMES', 2)


def without_drawing(monkeypatch) -> None:
    monkeypatch.setattr(checks, 'check_graphics', lambda: iter([Finding(
        'EGL', MISSING, 'libEGL.so.1 is not there', 'apt install libegl1 libgl1-mesa-dri')]))


def test_without_egl_the_remedy_is_named(monkeypatch, capsys):
    pytest.importorskip('moderngl')
    without_drawing(monkeypatch)
    assert 'libEGL.so.1 is not there; apt install libegl1' in demo.drawing_problem()
    assert main(['demo']) == 2
    told = capsys.readouterr()
    assert 'apt install libegl1' in told.out and 'nothing to show' in told.err and '--root' in told.err


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(demo.importlib.util, 'find_spec', lambda name: None)
    assert demo.drawing_problem() == ('the world needs moderngl and embreex: '
                                      'pip install moderngl embreex')


def test_without_egl_only_the_real_key_frame_is_shown(standin, monkeypatch):
    without_drawing(monkeypatch)
    parts = []
    monkeypatch.setattr(demo._Demo, 'show', lambda self, *given: parts.append(given))
    assert main(['demo', '--root', str(standin)]) == 0
    (without_world, scene), = parts
    assert without_world and scene.frame.scene == 'scene-0001'


def test_a_wrong_root_is_one_line(tmp_path, capsys):
    assert main(['demo', '--root', str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_an_unknown_phase_is_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        main(['demo', '--phases', 'noon'])
    assert 'night-both' in capsys.readouterr().err


@pytest.mark.ros
@pytest.mark.timeout(300)
def test_a_drive_and_a_real_key_frame_from_end_to_end(graphics, tiny_system, standin, tmp_path, monkeypatch,
                                                      capsys):
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    for name, value in (('ROS_DOMAIN_ID', str(100 + os.getpid() % 100)), ('OMP_NUM_THREADS', '1'),
                        ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(demo_scene, 'QUESTIONS', 5)
    assert main(['demo', '--seconds', '0', '--phases', 'day', 'night-both', 'night-lidar', '--debug',
                 '--root', str(standin), '--params-file', str(tiny_system), '--pictures', str(tmp_path)]) == 0
    told = capsys.readouterr().out
    rows = [re.split(r'\s*│\s*', line)[1:3] for line in told.splitlines() if line.startswith('│')]
    assert rows[:3] == [['day', 'camera'], ['night', 'camera + LiDAR'], ['night', 'LiDAR']]
    assert re.search(r'all +│ +\d of 5 +│ +\d of 5 +│ +\d of 5', told)
    assert 'never seen nuScenes' in told.replace('\n', ' ')
    for name in ('demo.png', 'demo_nuscenes.png'):
        with Image.open(tmp_path / name) as image:
            assert image.width == 1600
    log = (tmp_path / 'cache' / 'demo' / 'nodes.log').read_text()
    assert 'Traceback' not in log
    assert not [path for path in Path('/proc').glob('[0-9]*/cmdline') if str(tiny_system) in path.read_text()]
