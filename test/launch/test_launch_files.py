"""The launch files under ROS 2's own launch: what --show-args shows, and a real start.

The wheels of rclpy come without launch; on such a machine test/cli/test_system.py tests the same system under
`mpnp bringup`.  Not tested by ``importorskip('launch')``: our folder of launch files answers to that name.
"""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.system_starts import start_and_end

pytest.importorskip('ros2launch', reason='ros2launch is not installed: there are no wheels of it')
pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[2]
LAUNCH = 'import sys; from ros2cli.cli import main; sys.exit(main(argv=["launch", *sys.argv[1:]]))'
PATIENCE = 60.


def environment() -> dict[str, str]:
    """Of the commands, with a domain of their own."""
    return {**os.environ, 'ROS_DOMAIN_ID': os.environ['MPNP_TEST_OTHER_DOMAIN'], 'OMP_NUM_THREADS': '1',
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def launch(*arguments: str) -> subprocess.Popen[str]:
    """``ros2 launch`` in a process that heeds SIGINT."""
    return subprocess.Popen([sys.executable, '-c', LAUNCH, *arguments], env=environment(), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ask_until_active(namespace: str) -> subprocess.CompletedProcess[str]:
    """Ask a question again and again until it is answered or patience ends."""
    command = [sys.executable, '-m', 'mpnp_ros.cli.main', 'ask', 'moving?', '--choices', 'yes', 'no',
               '--namespace', namespace]
    end = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(command, env=environment(), text=True, capture_output=True, timeout=PATIENCE)
        if done.returncode == 0 or time.monotonic() > end:
            return done


@pytest.mark.parametrize('name', ['bringup', 'nuscenes_replay', 'world', 'gazebo'])
def test_show_args(name):
    """Compare with show_args/<name>.txt; every argument has a description."""
    shown, _ = launch(str(ROOT / f'launch/{name}.launch.py'), '--show-args').communicate(timeout=PATIENCE)
    wanted = (Path(__file__).with_name('show_args') / f'{name}.txt').read_text()
    assert shown.replace(str(ROOT), '<package>').strip() == wanted.strip()
    assert 'No description given' not in shown


def test_a_wrong_choice_is_refused():
    shown, _ = launch(str(ROOT / 'launch/bringup.launch.py'), 'camera:=maybe').communicate(timeout=PATIENCE)
    assert 'maybe' in shown
    assert 'process started' not in shown


@pytest.mark.parametrize(('name', 'argument', 'message'), [
    ('bringup', 'params_file:=nope.yaml', 'parameter file nope.yaml does not exist'),
    ('bringup', 'namespace:=robot-1', 'namespace robot-1: letters, digits and _ only'),
    ('bringup', 'remap:=/tf_static', "remapping '/tf_static' is not FROM:=TO"),
    ('world', 'rate:=fast', "rate is 'fast'; give a number"),
    ('world', 'use_sim_time:=false', "Valid options are: ['true']")])
def test_what_is_wrong_ends_the_launch(name, argument, message):
    process = launch(str(ROOT / f'launch/{name}.launch.py'), argument)
    shown, _ = process.communicate(timeout=PATIENCE)
    assert message in shown
    assert process.returncode == 1
    assert 'process started' not in shown


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_node_outlives_its_launch(monkeypatch, number):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, '-c', LAUNCH, str(ROOT / 'launch/bringup.launch.py'), 'autostart:=false',
               'camera:=false', 'adaptation:=false']
    assert start_and_end(command, number, after=6., bound=PATIENCE).amiss == ()


def test_a_real_start_with_namespace_environment_and_parameters(tmp_path, tiny_lm_folder):
    """Fusion alone, with a tiny model, is active under its namespace and ends on SIGINT."""
    params = tmp_path / 'params.yaml'
    params.write_text(f'/**/fusion:\n  ros__parameters: {{llm: {tiny_lm_folder}, dtype: float32}}\n')
    process = launch(str(ROOT / 'launch/bringup.launch.py'), 'camera:=false', 'lidar:=false',
                     'adaptation:=false', 'namespace:=robot1', f'params_file:={params}')
    lines: list[str] = []
    threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, '')), daemon=True).start()
    try:
        answer = ask_until_active('robot1')
        assert answer.returncode == 0, answer.stderr + ''.join(lines)
        pid = next(int(line.split('pid [')[1].split(']')[0]) for line in lines if 'started with pid' in line)
        environment = Path(f'/proc/{pid}/environ').read_text()
        assert f'FASTRTPS_DEFAULT_PROFILES_FILE={ROOT}/config/fastdds.xml' in environment
        assert 'camera_encoder' not in ''.join(lines)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0, ''.join(lines)
    end = time.monotonic() + PATIENCE
    while not any('finished cleanly' in line for line in lines) and time.monotonic() < end:
        time.sleep(.05)
    assert any('finished cleanly' in line for line in lines), ''.join(lines)
