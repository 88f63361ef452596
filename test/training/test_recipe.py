"""The recipe of mpnp train: read, changed, written, and what is made by it."""
from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from dataclasses import replace

import pytest

from mpnp_ros.cli import train
from mpnp_ros.cli.train import recipe_of
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.files import shared_file
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.training.recipe import QuestionRecipe, TrainRecipe
from mpnp_ros.training.trainer import TrainerConfig
from mpnp_world.standin import write_standin


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> NuScenes:
    """A stand-in of two scenes with one key frame each."""
    return NuScenes(write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, key_frames=1))


def test_the_shipped_file_says_what_is_the_default_anyway():
    shipped = TrainRecipe.load(shared_file('config/train.yaml'))
    assert shipped == replace(TrainRecipe(), link={'last': 8})


def test_written_recipes_read_back(tmp_path):
    recipe = TrainRecipe(modalities=('objects',), encoders={'camera': {'columns': 2}}, link={'last': 2},
                         questions=QuestionRecipe(min_points=5), training=TrainerConfig(steps=3), seed=7)
    recipe.save(tmp_path / 'recipe.yaml')
    assert TrainRecipe.load(tmp_path / 'recipe.yaml') == recipe


def test_what_a_command_line_gives_goes_before_the_file(tmp_path):
    parser = ArgumentParser()
    train.add_arguments(parser)
    (tmp_path / 'recipe.yaml').write_text('link: {harmonics: 4}')
    changed = recipe_of(parser.parse_args(
        ['--root', 'r', '--output', 'o', '--config', str(tmp_path / 'recipe.yaml'), '--seed', '5', '--blocks',
         '2', '--steps', '9', '--max-distance', '30', '--split', 'mini', '--llm', 'other']))
    assert (changed.seed, changed.training.seed, changed.training.steps, changed.split) == (5, 5, 9, 'mini')
    assert changed.link == {'harmonics': 4, 'last': 2} and changed.language_model == 'other'
    assert changed.questions == QuestionRecipe(max_distance=30.)
    assert changed.modalities == ('camera', 'lidar')


def test_the_seed_of_a_file_is_that_of_training(tmp_path):
    (tmp_path / 'recipe.yaml').write_text('seed: 3')
    assert TrainRecipe.load(tmp_path / 'recipe.yaml').training == TrainerConfig(seed=3)


def test_heads_make_tokens_of_counts():
    recipe = TrainRecipe(encoders={'camera': {'dtype': 'float32'}})
    recipe = recipe.counting({'camera': 'mine', 'lidar': None, 'radar': 'yours'})
    assert recipe.encoders == {'camera': {'dtype': 'float32', 'tokens': 'objects', 'head': 'mine'},
                               'radar': {'head': 'yours'}}


def test_detectors_make_tokens_of_what_they_find():
    recipe = TrainRecipe(encoders={'camera': {'windows': 3}}).detecting({'camera': 'centernet'})
    assert recipe.encoders == {'camera': {'windows': 3, 'tokens': 'detections', 'detector': 'centernet'}}
    assert recipe.detecting({'camera': None}).encoders == recipe.encoders


@pytest.mark.parametrize('text, words', [
    ('steps: 3', 'steps'), ('training: {steps: 0}', 'at least 1'), ('training: {pace: 1}', 'pace'),
    ('split: half', 'one of scene, mini, none'), ('night_images: dark', 'night_80dimgaussian7'),
    ('questions: 3', 'questions must be a mapping'), (': :', 'not YAML'), ('- 1', 'must hold options')])
def test_a_wrong_file_is_refused_by_name_and_key(tmp_path, text, words):
    path = tmp_path / 'wrong.yaml'
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=rf'(?s)wrong\.yaml.*{words}'):
        TrainRecipe.load(path)


def test_true_objects_are_counts_within_the_scope_and_questions_are_about_them(root, toy_method):
    recipe = TrainRecipe(modalities=('objects',), link={'last': 2, 'hidden': 16},
                         questions=QuestionRecipe(max_distance=20., turns=8, per_kind=40, of_each_type=9))
    encoders = recipe.make_encoders()
    link = recipe.new_link(toy_method(), encoders[0])
    assert link.config.pooling == 'counting' and link.config.token_width == len(CHANNELS)
    assert link.config.channels[:3] == ('barrier', 'bicycle: with rider', 'bicycle: without rider')
    assert link.config.hidden == 16
    assert link.config.encoder == 'objects-20m-1'
    dataset = recipe.read(root, encoders)
    assert len(dataset.frames) == 16
    assert max(Counter(example.type for example in dataset.examples).values()) == 9
    only = recipe.read(root, encoders, scenes=['scene-0002'])
    assert {key.split('/')[0] for key in only.frames} == {'scene-0002'}
