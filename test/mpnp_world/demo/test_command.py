"""The demo as a command, and once from end to end with real processes, a tiny model and few key frames."""
from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mpnp_ros.cli.doctor import MISSING, CheckResult
from mpnp_ros.cli.main import main
from mpnp_world import checks
from mpnp_world.demo import command as demo
from mpnp_world.demo import drive as demo_drive
from mpnp_world.demo import real_drive as demo_real
from mpnp_world.demo.drive import LABELLED


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path) -> None:
    """A cache of its own, no data of this machine, little to count."""
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('NUSCENES_ROOT', raising=False)
    monkeypatch.setattr(demo_real, 'source_folder', lambda: None)
    monkeypatch.setattr(demo_drive, 'MAJORITY_SEEDS', range(2))
    monkeypatch.setattr(demo_drive, 'MAJORITY_FRAMES', 2)


def without_drawing(monkeypatch) -> None:
    monkeypatch.setattr(checks, 'check_graphics', lambda: iter([CheckResult(
        'EGL', MISSING, 'libEGL.so.1 is not there', 'apt install libegl1 libgl1-mesa-dri')]))


def test_without_egl_the_remedy_is_named(monkeypatch, capsys):
    pytest.importorskip('moderngl')
    without_drawing(monkeypatch)
    assert main(['demo']) == 2
    assert 'libEGL.so.1 is not there; apt install libegl1' in capsys.readouterr().err


def test_real_key_frames_need_no_egl(standin, monkeypatch, capsys):
    without_drawing(monkeypatch)
    shown = []
    monkeypatch.setattr(demo._Demo, 'look_at', lambda self, drive: shown.append(drive.frames[0].scene))
    for options in (['--nuscenes'], []):
        assert main(['demo', *options, '--root', str(standin)]) == 0
    assert shown == ['scene-0001'] * 2
    assert main(['demo', '--nuscenes']) == 2
    assert '--root' in capsys.readouterr().err


def test_a_wrong_root_is_one_line(tmp_path, capsys):
    assert main(['demo', '--nuscenes', '--root', str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_an_unknown_supervision_is_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        main(['demo', '--supervision', 'guessed'])
    assert 'distilled' in capsys.readouterr().err


@pytest.fixture
def alone(monkeypatch) -> None:
    """ROS of this test's own."""
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    for name, value in (('ROS_DOMAIN_ID', os.environ['MPNP_TEST_OTHER_DOMAIN']), ('OMP_NUM_THREADS', '1'),
                        ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')):
        monkeypatch.setenv(name, value)


@pytest.fixture
def quick(tiny_system, tmp_path) -> Path:
    """Parameters of a robot with links to its camera, that soon trains others for a few steps."""
    llm, links = (yaml.safe_load(tiny_system.read_text())['/**/fusion']['ros__parameters'][name]
                  for name in ('llm', 'links'))
    nodes = {'fusion': {'links': links[:1]},
             'adaptation': {'llm': llm, 'dtype': 'float32', 'initial_links': links,
                            'min_healthy_duration': .1, 'min_interval': .1, 'min_trial_questions': 0,
                            'min_labelled_questions': 10, 'steps': 4, 'batch': 4, 'niceness': 0,
                            'max_held_out_questions': 20, 'max_questions': 50}}
    path = tmp_path / 'quick.yaml'
    path.write_text(yaml.safe_dump({f'/**/{name}': {'ros__parameters': values}
                                    for name, values in nodes.items()}))
    return path


def log_of(tmp_path: Path) -> str:
    return (tmp_path / 'cache' / 'demo' / 'nodes.log').read_text()


def cells(told: str, first: str) -> list[str]:
    """The row of a table that begins with something."""
    rows = [re.split(r'\s*│\s*', line)[1:] for line in told.splitlines() if line.startswith('│')]
    found = [row for row in rows if row[0] == first]
    assert found, told
    return found[0]


@pytest.mark.ros
@pytest.mark.timeout(500)
def test_a_drive_on_which_links_are_trained(graphics, alone, tiny_system, quick, tmp_path, monkeypatch,
                                            capsys):
    phases = {phase.name: phase for phase in demo.PHASES[LABELLED]}
    monkeypatch.setitem(demo.PHASES, LABELLED, [phases[name] for name in ('day', 'plugged', 'morning')])
    assert main(['demo', '--questions', '0', '--params-file', str(tiny_system), '--params-file', str(quick),
                 '--pictures', str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert cells(told, 'day, camera')[1] == 'camera'
    assert int(cells(told, 'labelled')[4]) > 0
    for line in ('LiDAR: probing', 'adaptation: training', 'adaptation over: labelled'):
        assert line in told
    with Image.open(tmp_path / 'demo.png') as image:
        assert image.width == 1600
    assert 'Traceback' not in log_of(tmp_path)
    assert not [path for path in Path('/proc').glob('[0-9]*/cmdline') if str(tiny_system) in path.read_text()]


@pytest.mark.ros
@pytest.mark.timeout(200)
def test_a_real_key_frame(alone, tiny_system, standin, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo_real, 'QUESTIONS', 5)
    assert main(['demo', '--nuscenes', '--root', str(standin), '--params-file', str(tiny_system),
                 '--pictures', str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert cells(told, 'all')[1] == '5' and 'key frame  1 of 1' in told
    assert 'nothing was trained on them' in told
    with Image.open(tmp_path / 'demo_nuscenes.png') as image:
        assert image.width == 1600
    assert 'Traceback' not in log_of(tmp_path)
