"""gazebo.launch.py under ROS 2's own launch; programs that note what they are given stand in for Gazebo."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('ros2launch', reason='ros2launch is not installed: there are no wheels of it')
pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[2]
LAUNCH = 'import sys; from ros2cli.cli import main; sys.exit(main(argv=["launch", *sys.argv[1:]]))'
PATIENCE = 60.
PROGRAMS = {'ros_gz_bridge': 'parameter_bridge', 'ros_gz_image': 'image_bridge',
            'robot_state_publisher': 'robot_state_publisher'}
NOTE = """#!/bin/sh
for part in "$@"; do printf '%s\\n' "$part"; [ -f "$part" ] && cat "$part"; done > {file}
mv {file} {file}.given
exec sleep 60
"""
SIMULATOR = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, Shutdown
from launch.substitutions import LaunchConfiguration

WAIT = '''
echo "$0" > {folder}/gz.given
for i in $(seq 400); do [ $(ls {folder}/*.given | wc -l) = 4 ] && break; sleep .1; done
'''


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument('gz_args'), DeclareLaunchArgument('on_exit_shutdown'),
        ExecuteProcess(cmd=['sh', '-c', WAIT, LaunchConfiguration('gz_args')], on_exit=Shutdown())])
"""


@pytest.fixture
def noted(tmp_path) -> Path:
    """A prefix with the packages; ``<program>.given`` in it tells what each was started with."""
    for package, program in PROGRAMS.items():
        executable = tmp_path / 'lib' / package / program
        executable.parent.mkdir(parents=True)
        executable.write_text(NOTE.format(file=tmp_path / program))
        executable.chmod(0o755)
    launch = tmp_path / 'share/ros_gz_sim/launch/gz_sim.launch.py'
    launch.parent.mkdir(parents=True)
    launch.write_text(SIMULATOR.format(folder=tmp_path))
    index = tmp_path / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    for package in (*PROGRAMS, 'ros_gz_sim'):
        (index / package).touch()
    return tmp_path


def test_everything_is_started_with_what_it_needs(noted):
    """Without encoders, and fusion unconfigured; the end of the simulator ends the launch."""
    environment = {**os.environ, 'ROS_DOMAIN_ID': os.environ['MPNP_TEST_OTHER_DOMAIN'],
                   'OMP_NUM_THREADS': '1', 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
                   'AMENT_PREFIX_PATH': os.pathsep.join([str(noted), os.environ['AMENT_PREFIX_PATH']])}
    done = subprocess.run(
        [sys.executable, '-c', LAUNCH, str(ROOT / 'launch/gazebo.launch.py'), 'camera:=false', 'lidar:=false',
         'adaptation:=false', 'autostart:=false', 'gui:=false', 'world:=worlds/street_night.sdf'],
        env=environment, cwd=ROOT, text=True, capture_output=True, timeout=PATIENCE)
    given = {path.stem: path.read_text() for path in noted.glob('*.given')}
    assert set(given) == {'gz', *PROGRAMS.values()}, done.stdout + done.stderr
    assert given['gz'].strip() == f'-r -s --headless-rendering {ROOT}/worlds/street_night.sdf'
    assert f'config_file: {ROOT}/config/gazebo_bridge.yaml' in given['parameter_bridge']
    assert given['image_bridge'].split()[:6] == [f'/cam_{side}/image_rect' for side in (
        'front_left', 'front', 'front_right', 'back_right', 'back', 'back_left')]
    assert 'cam_front_mount' in given['robot_state_publisher']
    assert done.stdout.count('process started') == 5
