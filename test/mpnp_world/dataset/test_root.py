"""A folder of scenes: complete ones are known again, and their tables come together."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_world.dataset.generate import add_part, merge, part_file, prepare
from mpnp_world.scene.identity import Conditions, SceneIdentity

DAY, NIGHT = (SceneIdentity(4, Conditions(light)) for light in ('day', 'night'))
RECIPE = {'key_frames': 3, 'size': (400, 225)}


def add(root, identity):
    """Add a scene with a log and nothing else."""
    scene = {'token': identity.token('scene'), 'name': identity.name}
    add_part(root, identity, {'scene': [scene], 'log': [{'token': identity.token('log')}]})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root without scenes."""
    prepare(tmp_path / 'root', RECIPE)
    return tmp_path / 'root'


def test_scenes_are_complete_once_added_and_merged_in_order_of_their_names(root):
    add(root, NIGHT)
    assert part_file(root, NIGHT).is_file()
    assert not part_file(root, DAY).exists()
    add(root, DAY)
    merge(root)
    read = NuScenes(root)
    assert [scene['name'] for scene in read.scenes] == [DAY.name, NIGHT.name]
    assert next(iter(read.table('map').values()))['log_tokens'] == list(read.table('log'))
    assert {record['name'] for record in read.table('category').values()} >= {'vehicle.car'}
    assert read.table('sample') == {}


def test_merging_again_takes_the_place_of_the_tables_before(root):
    add(root, DAY)
    first = (merge(root) / 'scene.json').read_bytes()
    assert (merge(root) / 'scene.json').read_bytes() == first
    add(root, NIGHT)
    merge(root)
    assert len(NuScenes(root).scenes) == 2


def test_one_folder_holds_scenes_of_one_recipe(root):
    prepare(root, RECIPE)
    with pytest.raises(DatasetError, match=r'made with key_frames 3 \(now 5\); use the same options'):
        prepare(root, {**RECIPE, 'key_frames': 5})


def test_a_damaged_part_is_named(root):
    add(root, DAY)
    part_file(root, DAY).write_text('{"scene"')
    with pytest.raises(DatasetError, match='world-0004-day-clear.json cannot be read'):
        merge(root)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / 'mine.txt').write_text('keep')
    with pytest.raises(DatasetError, match='contains something else'):
        prepare(tmp_path, RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_the_added_table_is_there_and_empty_without_microphones(root):
    add(root, DAY)
    assert json.loads((merge(root) / 'sound.json').read_text()) == []
