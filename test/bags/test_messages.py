from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mpnp_ros.bags.messages import definitions_folder, message_types, motion
from mpnp_ros.poses import Transform, rotation_about_z


def test_own_messages_are_known() -> None:
    types = message_types()
    fields = [name for name, _ in types.fielddefs['mpnp_ros/msg/LabelledQuestions'][1]]
    assert fields == ['header', 'sample_token', 'questions']
    assert 'visualization_msgs/msg/MarkerArray' in types.fielddefs


def test_installed_definitions_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / 'share' / 'mpnp_ros' / 'msg'
    folder.mkdir(parents=True)
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path / "other"}:{tmp_path}')
    assert definitions_folder() != folder
    (folder / 'Extra.msg').write_text('string text\n')
    assert definitions_folder() == folder
    assert 'mpnp_ros/msg/Extra' in message_types().fielddefs


def test_type_hashes_are_those_of_ros() -> None:
    descriptions = sorted(definitions_folder().glob('*.json'))
    if not descriptions:
        pytest.skip('the messages are not built: no type descriptions are installed')
    types = message_types()
    for path in descriptions:
        name = f'mpnp_ros/msg/{path.stem}'
        described = json.loads(path.read_text())['type_hashes']
        assert {'type_name': name, 'hash_string': types.hash_rihs01(name)} in described


def test_motion_of_poses_that_are_close_in_time_and_differ() -> None:
    """As of a camera and a LiDAR: 5 m/s to the left of the map's x axis, 1 ms and 2 cm apart."""
    seconds = np.sort(np.concatenate([np.arange(0, 2, .1), np.arange(0, 2, .1) + .001]))
    off = np.tile([.01, -.01], 20)
    poses = [Transform(rotation_about_z(np.pi / 2 + .3 * time), np.array((error, 5 * time + error, 0.)))
             for time, error in zip(seconds, off, strict=True)]
    velocity, yaw_rate = motion((seconds * 1e9).astype(int), poses)
    assert np.abs(np.linalg.norm(velocity, axis=1) - 5).max() < .5
    np.testing.assert_allclose(velocity[0, :2], (5, 0), atol=.5)
    np.testing.assert_allclose(yaw_rate, .3, atol=1e-6)
