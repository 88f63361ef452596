"""The bringup launch file under launch_pytest: its nodes come up and answer."""
from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

launch_pytest = pytest.importorskip('launch_pytest', reason='launch_pytest is not installed: no wheels of it')
pytestmark = pytest.mark.ros

from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402

from mpnp_ros.cli.main import main  # noqa: E402

BRINGUP = Path(__file__).parents[2] / 'launch' / 'bringup.launch.py'
PATIENCE = 60.


@pytest.fixture(scope='module')
def parameters(tmp_path_factory, tiny_lm_folder) -> Path:
    """Fusion with a tiny model."""
    path = tmp_path_factory.mktemp('bringup') / 'params.yaml'
    path.write_text(f'/**/fusion:\n  ros__parameters: {{llm: {tiny_lm_folder}, dtype: float32}}\n')
    return path


@launch_pytest.fixture(scope='module')
def bringup(parameters: Path) -> LaunchDescription:
    """Fusion alone, in a namespace."""
    arguments = {**dict.fromkeys(('camera', 'lidar', 'adaptation'), 'false'), 'namespace': 'robot2',
                 'params_file': str(parameters)}
    return LaunchDescription([
        SetEnvironmentVariable('ROS_DOMAIN_ID', os.environ['MPNP_TEST_OTHER_DOMAIN']),
        IncludeLaunchDescription(PythonLaunchDescriptionSource(str(BRINGUP)),
                                 launch_arguments=arguments.items()),
        launch_pytest.actions.ReadyToTest(),
    ])


@pytest.mark.launch(fixture=bringup)
def test_the_launched_system_answers(monkeypatch, capsys):
    monkeypatch.setenv('ROS_DOMAIN_ID', os.environ['MPNP_TEST_OTHER_DOMAIN'])
    question = ['ask', 'moving?', '--choices', 'yes', 'no', '--namespace', 'robot2', '--json']
    end = time.monotonic() + PATIENCE
    while main(question) and time.monotonic() < end:
        time.sleep(.2)
    answer = capsys.readouterr().out.splitlines()[-1]
    assert '"status": 0' in answer, answer
    assert '"text": "yes"' in answer or '"text": "no"' in answer, answer
