"""A folder of scenes: complete ones are known again, and their tables come together."""
from __future__ import annotations

import json

import pytest

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.world.conditions import Conditions
from mpnp_ros.world.identity import SceneIdentity
from mpnp_ros.world.root import WorldRoot

DAY, NIGHT = (SceneIdentity(4, Conditions(light)) for light in ('day', 'night'))


def tables(identity):
    """A scene with a log and nothing else."""
    scene = {'token': identity.token('scene'), 'name': identity.name}
    return {'scene': [scene], 'log': [{'token': identity.token('log')}]}


@pytest.fixture
def root(tmp_path):
    made = WorldRoot(tmp_path / 'root', {'key_frames': 3, 'size': (400, 225)})
    made.prepare()
    return made


def test_scenes_are_complete_once_added_and_merged_in_order_of_their_names(root):
    root.add(NIGHT, tables(NIGHT))
    assert root.is_complete(NIGHT)
    assert not root.is_complete(DAY)
    root.add(DAY, tables(DAY))
    root.merge()
    read = NuScenes(root.path)
    assert [scene['name'] for scene in read.scenes] == [DAY.name, NIGHT.name]
    assert next(iter(read.table('map').values()))['log_tokens'] == list(read.table('log'))
    assert {record['name'] for record in read.table('category').values()} >= {'vehicle.car'}
    assert read.table('sample') == {}


def test_merging_again_takes_the_place_of_the_tables_before(root):
    root.add(DAY, tables(DAY))
    root.merge()
    first = (root.path / 'v1.0-world' / 'scene.json').read_bytes()
    root.merge()
    assert (root.path / 'v1.0-world' / 'scene.json').read_bytes() == first
    root.add(NIGHT, tables(NIGHT))
    root.merge()
    assert len(NuScenes(root.path).scenes) == 2


def test_scenes_made_with_other_options_are_refused_by_name(root):
    root.add(DAY, tables(DAY))
    other = WorldRoot(root.path, {'key_frames': 5, 'size': (400, 225)})
    with pytest.raises(DatasetError, match=r'world-0004-day-clear.json was made with key_frames 3 \(now 5\)'):
        other.is_complete(DAY)


def test_a_damaged_part_is_named(root):
    (root.path / 'scenes' / f'{DAY.name}.json').write_text('{"settings"')
    with pytest.raises(DatasetError, match='world-0004-day-clear.json cannot be read'):
        root.is_complete(DAY)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / 'mine.txt').write_text('keep')
    with pytest.raises(DatasetError, match='holds something else'):
        WorldRoot(tmp_path, {}).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_the_added_table_is_there_and_empty_without_microphones(root):
    root.add(DAY, tables(DAY))
    assert json.loads((root.merge() / 'sound.json').read_text()) == []
