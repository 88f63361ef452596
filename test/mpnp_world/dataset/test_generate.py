"""Many scenes at once: the same bytes however they are made, and a stopped run goes on."""
from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip('embreex', reason='embreex is not installed: the world has no rays')

from mpnp_ros.errors import ConfigurationError, DatasetError
from mpnp_ros.nuscenes.sensor_files import read_lidar
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_world.dataset.generate import Recipe, generate, run_in_processes, scene_identities
from mpnp_world.dataset.objects_only import objects_file, read_objects
from mpnp_world.scene.identity import SceneIdentity
from mpnp_world.sensors.lidar_models import random_lidar

LIDAR_ONLY = Recipe(key_frames=1, interval=.5, sensors=('lidar',))
SCENES = scene_identities(range(2), ['day', 'night'], ['clear'])


def digest(folder: Path) -> str:
    """Of all names and bytes in a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        total.update(str(path.relative_to(folder)).encode())
        total.update(path.read_bytes() if path.is_file() else b'')
    return total.hexdigest()


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes by two workers."""
    return generate(tmp_path_factory.mktemp('generated') / 'root', SCENES, LIDAR_ONLY, 2, progress=False)


def test_twins_follow_each_other():
    names = [identity.name for identity in scene_identities([7, 9], ['day', 'night'], ['clear'])]
    assert names == ['world-0007-day-clear', 'world-0007-night-clear', 'world-0009-day-clear',
                     'world-0009-night-clear']


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(root, tmp_path):
    """Scenes that are there are not made again; one worker gives the bytes of two."""
    again = generate(tmp_path / 'root', SCENES[:1], LIDAR_ONLY, progress=False)
    assert len(NuScenes(again).scenes) == 1
    made = next((again / 'samples/LIDAR_TOP').iterdir())
    before = made.stat().st_mtime_ns
    generate(again, SCENES, LIDAR_ONLY, progress=False)
    assert made.stat().st_mtime_ns == before
    assert digest(again) == digest(root)


def test_ctrl_c_ends_all_processes_and_leaves_what_can_be_gone_on_with(root, tmp_path):
    command = [sys.executable, '-m', 'mpnp_ros.cli.main', 'world', 'generate', '--output',
               str(tmp_path / 'root'), '--seeds', '0:2', '--key-frames', '1', '--interval', '.5',
               '--sensors', 'lidar', '--workers', '1', '--quiet']
    process = subprocess.Popen(command, start_new_session=True)
    end = time.monotonic() + 60
    while not list((tmp_path / 'root').glob('scenes/*.json')):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    with pytest.raises(ProcessLookupError):  # the group is empty: its workers have ended too
        for _ in range(200):
            os.killpg(process.pid, 0)
            time.sleep(.05)
    assert subprocess.run(command, timeout=120).returncode == 0
    assert digest(tmp_path / 'root') == digest(root)


def test_a_worker_that_dies_is_reported(tmp_path):
    with pytest.raises(DatasetError, match='has died.*fewer workers'):
        run_in_processes(die, SCENES[:1], 1, lambda: None)


def die(identity: SceneIdentity) -> None:
    """As for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_other_options_are_refused(root):
    with pytest.raises(DatasetError, match='key_frames 1'):
        generate(root, SCENES, Recipe(key_frames=2, interval=.5, sensors=('lidar',)), progress=False)


def test_sweeps_go_into_the_recipe_only_where_they_are_written(root, tmp_path):
    """Folders from before there were sweeps can be gone on with."""
    before = json.loads((root / 'recipe.json').read_bytes())
    assert set(before) == {'key_frames', 'interval', 'size', 'sensors'}
    recipe = Recipe(key_frames=1, interval=.5, sensors=('lidar',), sweeps=('lidar',), sweep_seconds=.1)
    made = generate(tmp_path / 'root', SCENES[:1], recipe, progress=False)
    assert json.loads((made / 'recipe.json').read_bytes())['sweeps'] == ['lidar']
    assert len(list((made / 'sweeps/LIDAR_TOP').iterdir())) == 2
    with pytest.raises(DatasetError, match=r"made with .*sweeps None \(now \['lidar'\]\)"):
        generate(root, SCENES, recipe, progress=False)


def test_random_lidars_have_one_sweep_about_half_a_second_before(root, tmp_path):
    recipe = Recipe(key_frames=1, interval=2., sensors=('lidar',), sweeps=('lidar',), lidar='random')
    made = NuScenes(generate(tmp_path / 'root', SCENES[:3:2], recipe, progress=False))
    for seed, scene in enumerate(made.scenes):
        frame, = made.key_frames(scene)
        reading, = frame.earlier('LIDAR_TOP', 1.)
        assert .35 <= (frame.lidar.stamp_ns - reading.stamp_ns) / 1e9 <= .6
        beams = len(random_lidar(seed).elevations)
        assert beams - 9 < read_lidar(frame.lidar.path)[:, 4].max() < beams
    assert json.loads((tmp_path / 'root/recipe.json').read_text())['lidar'] == 'random'
    assert 'lidar' not in json.loads((root / 'recipe.json').read_text())


def test_true_objects_alone(tmp_path):
    recipe = Recipe(key_frames=3, sensors=())
    generate(tmp_path / 'root', SCENES[:1], recipe, progress=False)
    frames = list(read_objects(objects_file(tmp_path / 'root', SCENES[0])))
    assert len(frames) == 3
    assert all(frame.scene == SCENES[0].name and len(frame.objects) > 20 for frame in frames)


@pytest.mark.parametrize(('options', 'words'), [
    ({'key_frames': 0}, 'key_frames is 0'), ({'interval': -1.}, 'interval is -1'),
    ({'size': (0, 9)}, 'size is 0'), ({'key_frames': 1000, 'interval': 1.}, 'longer than the 600 s'),
    ({'sensors': ('lidar',), 'sweeps': ('radar',)}, 'sweeps has radar, which sensors has not'),
    ({'sweep_seconds': -1.}, 'sweep_seconds is -1'),
    ({'sensors': ('smell',)}, "sensors is 'smell'; it must be one of camera, lidar"),
])
def test_impossible_recipes_are_refused(options, words):
    with pytest.raises(ConfigurationError, match=words):
        Recipe(**options)


