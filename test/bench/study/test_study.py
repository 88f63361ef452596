"""The recipe of a study, and what its test set lets links see; test_command.py runs a small one."""
from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from bench.methods.data import of_objects
from bench.study import study
from bench.study.study import ROWS, SENSORS, Study, StudyConfig
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.files import shared_file
from mpnp_ros.training.dataset import Example

PARTS = {'objects': (0, 10), 'sensors': (10, 20), 'validation': (20, 25), 'test': (30, 40)}


@pytest.fixture
def recipe(tmp_path):
    """Give a function: other seeds of scenes, other keys -> path of a recipe."""
    def write(scenes: dict[str, tuple[int, int]], **more: object):
        learning = {'steps': 3}
        entries = {name: {'scenes': list(seeds), **(learning if name in ('objects', 'sensors') else {})}
                   for name, seeds in {**PARTS, **scenes}.items()}
        path = tmp_path / 'study.yaml'
        path.write_text(yaml.safe_dump({'blind': learning, **entries, **more}))
        return path
    return write


def test_the_shipped_recipe_keeps_its_scenes_apart():
    config = StudyConfig.load(shared_file('bench/study/study.yaml'))
    seeds = [seed for part in config.splits.values() for seed in part]
    assert len(seeds) == len(set(seeds)) and len(config.splits) == 4
    assert len(config.seeds) == 3 and set(config.test.lights) == {'day', 'night'}


@pytest.mark.parametrize('scenes, names', [
    ({'test': (5, 6)}, 'objects and test'), ({'validation': (19, 22)}, 'sensors and validation'),
    ({'test': (20, 25)}, 'validation'), ({'objects': (0, 100)}, 'objects and sensors')])
def test_scenes_on_two_sides_are_refused(recipe, scenes, names):
    with pytest.raises(ConfigurationError, match=f'{names}.*overlap'):
        StudyConfig.load(recipe(scenes))


def test_neighbours_do_not_overlap(recipe):
    config = StudyConfig.load(recipe({}, questions={'max_distance': 20}, link={'last': 2}, seeds=[4]))
    assert config.test.seeds == range(30, 40) and config.seeds == (4,) and config.link == {'last': 2}
    assert (config.questions.scope.max_distance, config.questions.scope.anchors) == (20, False)


@pytest.mark.parametrize('more, word', [({'colour': 1}, 'colour'), ({'test': 3}, 'test must be a mapping'),
                                        ({'blind': {'pace': 2}}, 'pace'),
                                        ({'objects': {'scenes': [0, 9], 'reader': {'pages': 1}}}, 'pages')])
def test_a_wrong_recipe_is_named(recipe, more, word):
    with pytest.raises(ConfigurationError, match=rf'study\.yaml: .*{word}'):
        StudyConfig.load(recipe({}, **more))
    with pytest.raises(ConfigurationError, match='gone'):
        StudyConfig.load('gone.yaml')


def test_a_row_sees_its_sensors_in_its_light_and_nothing_else():
    example = Example('?', 'yes', ('yes', 'no'), 'exist', 0, 'frame')
    tokens = {light: {'frame': {name: f'{name} {light}' for name in ('objects', *SENSORS)}}
              for light in ('day', 'night')}
    test = study.TestSet((example,), tokens)
    for row, (light, modalities) in ROWS.items():
        assert row == '_'.join([*modalities, light])
        assert test.see(light, modalities)(example) == {name: f'{name} {light}' for name in modalities}
    assert test.see('day', ())(example) == {}


def test_the_benchmark_of_methods_finds_true_objects_in_a_study(recipe, tmp_path):
    sizes = {'key_frames': 4, 'per_kind': 4, 'of_each_type': 10}
    config = StudyConfig.load(recipe({}))
    parts = {'objects': (0, 3), 'validation': (20, 23)}
    config = replace(config, **{name: replace(getattr(config, name), scenes=seeds, **sizes)
                                for name, seeds in parts.items()})
    train, curve = of_objects(Study(config, tmp_path, {}))
    assert train.examples and curve.examples
    assert not {example.frame for example in train.examples} & {example.frame for example in curve.examples}
