from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpnp_ros.bags.messages import definitions_folder, message_types


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
