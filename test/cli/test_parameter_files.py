"""Which keys of a parameter file match no node, and files that are none."""
from __future__ import annotations

from pathlib import Path

import pytest

from mpnp_ros.cli.node_processes import all_nodes, check_parameter_file, matches, unmatched
from mpnp_ros.errors import ConfigurationError

STARTED = ('camera_encoder', 'fusion')


def file(folder: Path, *keys: str) -> Path:
    """A parameter file with these names of nodes."""
    path = folder / 'own.yaml'
    path.write_text(''.join(f'"{key}":\n  ros__parameters: {{threads: 1}}\n' for key in keys))
    return path


@pytest.mark.parametrize(('key', 'name', 'match'), [
    ('/fusion', '/fusion', True), ('fusion', '/fusion', True), ('fusion', '/r1/fusion', False),
    ('/**/fusion', '/fusion', True), ('/**/fusion', '/r1/a/fusion', True), ('/**', '/r1/fusion', True),
    ('/*/fusion', '/r1/fusion', True), ('/*/fusion', '/fusion', False), ('/*/fusion', '/a/b/fusion', False),
    ('*', '/fusion', True), ('/r1/**', '/r1/fusion', True), ('/r1/**', '/r2/fusion', False),
    ('/**/fusion', '/fusion2', False)])
def test_keys_match_as_in_ros(key, name, match):
    assert matches(key, name) is match


@pytest.mark.parametrize(('key', 'namespace', 'hint'), [
    ('camera_encoder', '/r1', 'camera_encoder runs in the namespace /r1; write /**/camera_encoder'),
    ('/r2/fusion', '/r1', 'fusion runs in the namespace /r1; write /**/fusion'),
    ('/**/camera', '', 'did you mean /**/camera_encoder?'),
    ('/**/fussion', '', 'did you mean /**/fusion?'),
    ('/**/lidar_encoder', '', 'lidar_encoder is not started'),
    ('/usb_cam', '', 'there are /camera_encoder, /fusion')])
def test_a_key_that_matches_no_node_is_told_with_the_near_one(tmp_path, key, namespace, hint):
    path = file(tmp_path, '/**/fusion', key)
    key = '/' + key.lstrip('/')
    assert unmatched(path, STARTED, namespace, all_nodes()) == [
        f'{path}: {key} matches no node and is ignored; {hint}']


def test_keys_may_be_nested(tmp_path):
    path = tmp_path / 'own.yaml'
    path.write_text('r1:\n  fusion:\n    ros__parameters: {threads: 1}\n  camera:\n    ros__parameters: {}\n')
    assert check_parameter_file(path) == ['/r1/fusion', '/r1/camera']
    assert len(unmatched(path, STARTED, '/r1', all_nodes())) == 1


def test_nothing_is_said_of_what_matches(tmp_path):
    assert not unmatched(file(tmp_path, '/**', '/**/fusion', '/*/camera_encoder'), STARTED, '/r1',
                         all_nodes())
    (tmp_path / 'own.yaml').write_text('# nothing\n')
    assert not unmatched(tmp_path / 'own.yaml', STARTED, '', all_nodes())


@pytest.mark.parametrize(('text', 'message'), [
    (None, 'own.yaml does not exist'), ('a: [1\nb: 2\n', 'own.yaml: line 2 is not YAML'),
    ('[1, 2]', 'own.yaml: it must hold options as name: value'),
    ('fusion: {queue_size: 3}', 'own.yaml: /fusion/queue_size is not a table of nodes'),
    ('fusion:', 'own.yaml: /fusion is not a table of nodes'),
    ('fusion: {ros__parameters: }', 'ros__parameters is not a table of parameters'),
    ('ros__parameters: {queue_size: 3}', 'below the name of a node')])
def test_a_file_that_is_none_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / 'own.yaml').write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        check_parameter_file(tmp_path / 'own.yaml')
