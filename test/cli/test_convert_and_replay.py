"""From a nuScenes root to a bag and back onto topics, by the command line."""
from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from mpnp_ros.bags.player import BagPlayer
from mpnp_ros.cli.main import main
from mpnp_ros.cli.replay import add_replay_options, replay_parameters
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_world.standin import write_standin


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated nuScenes root of two scenes with one key frame each."""
    return Path(write_standin(tmp_path_factory.mktemp('nuscenes') / 'root', seed=1, key_frames=1))


@pytest.fixture(scope='module')
def scene(root: Path) -> str:
    """The first of them."""
    return NuScenes(root).scenes[0]['name']


@pytest.fixture(scope='module')
def bag(root: Path, scene: str) -> Path:
    """The bag of that scene."""
    path = root.with_name('bag')
    assert main(['convert', str(root), str(path), '--scenes', scene, '--quiet']) == 0
    return path


def test_the_bag_holds_sensors_and_questions(bag):
    topics = BagPlayer(bag).topics
    expected = {'/cam_front/image_rect/compressed', '/lidar_top', '/labelled_questions', '/tf_static'}
    assert expected <= set(topics)


def test_several_scenes_become_several_bags(root, tmp_path, capsys):
    """Without questions, if one says so."""
    assert main(['convert', str(root), str(tmp_path / 'bags'), '--no-questions', '--quiet']) == 0
    names = [record['name'] for record in NuScenes(root).scenes]
    assert sorted(path.name for path in (tmp_path / 'bags').iterdir()) == sorted(names)
    assert f'mpnp replay {tmp_path / "bags" / names[0]}' in capsys.readouterr().out
    for name in names:
        player = BagPlayer(tmp_path / 'bags' / name)
        assert player.duration < 60
        assert '/labelled_questions' not in player.topics


def test_a_bag_is_not_overwritten_unless_asked(root, scene, bag, capsys):
    again = ['convert', str(root), str(bag), '--scenes', scene, '--quiet']
    assert main(again) == 2
    assert 'exists already' in capsys.readouterr().err
    assert main([*again, '--overwrite']) == 0


def replay(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`mpnp replay` to its end."""
    environment = {**os.environ, 'ROS_DOMAIN_ID': os.environ['MPNP_TEST_OTHER_DOMAIN'],
                   'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    return subprocess.run([sys.executable, '-m', 'mpnp_ros.cli.main', 'replay', *arguments], env=environment,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)


@pytest.mark.ros
def test_replay_plays_to_the_end(bag):
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    done = replay(str(bag), '--rate', '5')
    assert done.returncode == 0, done.stdout
    assert 'the bag is over' in done.stdout


def test_topics_of_the_bag_are_chosen_on_the_command_line():
    """By `mpnp bringup --bag` as well; what is not given is left to the parameter files."""
    parser = ArgumentParser()
    add_replay_options(parser)
    arguments = parser.parse_args(['--topics', '/a', '/b', '--topics', 'c/*', '--exclude', '/c/d',
                                   '--longest-gap', '3'])
    arguments.bag = Path('bag')
    assert replay_parameters(arguments) == {
        'bag': Path('bag'), 'rate': 1., 'loop': False, 'topics': ['/a', '/b', 'c/*'], 'exclude': ['/c/d'],
        'longest_gap': 3.}
    arguments = parser.parse_args([])
    arguments.bag = Path('bag')
    assert set(replay_parameters(arguments)) == {'bag', 'rate', 'loop'}


@pytest.mark.ros
def test_replay_leaves_out_what_is_excluded_and_names_the_bags_of_a_folder(bag, root, tmp_path):
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    done = replay(str(bag), '--exclude', '/cam_*', '/lidar_top', '/no/such/topic', '--rate', '5')
    assert done.returncode == 0, done.stdout
    assert 'has no topic /no/such/topic to exclude' in done.stdout
    assert main(['convert', str(root), str(tmp_path / 'bags'), '--no-questions', '--quiet']) == 0
    done = replay(str(tmp_path / 'bags'))
    assert done.returncode == 1
    for record in NuScenes(root).scenes:
        assert record['name'] in done.stdout
    assert 'name one' in done.stdout and 'reindex' not in done.stdout


@pytest.mark.ros
def test_replay_names_a_bag_that_is_not_there(tmp_path):
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    done = replay(str(tmp_path / 'nothing'))
    assert done.returncode > 0
    assert str(tmp_path / 'nothing') in done.stdout
    assert 'Traceback' not in done.stdout
