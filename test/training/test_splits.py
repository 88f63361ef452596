"""Splits by scene and as in nuScenes-QA-mini."""
from __future__ import annotations

import json
import random
from collections import Counter
from types import SimpleNamespace

import pytest

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.official_qa import read_nuscenes_qa
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.key_frames import encode, official_dataset, sample_of, scene_of
from mpnp_ros.training.splits import held_out, mini_split, split
from mpnp_ros.training.true_objects import TrueObjects
from mpnp_world.standin import write_standin

NIGHTS = {'b': 'Night, rain', 'd': 'Night'}
QUESTIONS = 5


def dataset_of(scenes: str | list[str], samples: int = 4, headings: int = 1) -> TokenDataset:
    """Questions about frames without tokens."""
    keys = [f'{scene}/{scene}{sample}/{heading:03d}' for scene in scenes for sample in range(samples)
            for heading in range(headings)]
    examples = tuple(Example(f'{key} {n}?', 'yes', ANSWERS, 'exist', 0, key)
                     for key in keys for n in range(QUESTIONS))
    return TokenDataset({key: {} for key in keys}, examples)


def root_of(scenes: str) -> SimpleNamespace:
    return SimpleNamespace(scenes=[{'name': name, 'first_sample_token': f'{name}0',
                                    'description': NIGHTS.get(name, 'Day, nightclub')} for name in scenes])


def test_twins_of_a_world_seed_stay_on_one_side():
    scenes = [f'world-{seed:04d}-{light}-{weather}' for seed in range(8)
              for light in ('day', 'night') for weather in ('clear', 'rain')]
    train, test = split('scene', dataset_of(scenes, 1), None)
    seeds = [{scene_of(key).split('-')[1] for key in side.frames} for side in (train, test)]
    assert seeds == [{'0000', '0001', '0002', '0004', '0005', '0006'}, {'0003', '0007'}]
    assert len(test.frames) == 8


def test_few_scenes_are_split_by_heading_and_without_headings_by_the_last_scene():
    _, by_heading = split('scene', dataset_of('ab', 1, 8), None)
    assert {key[-3:] for key in by_heading.frames} == {'003', '007'}
    _, by_scene = split('scene', dataset_of('ab', 2), None)
    assert {scene_of(key) for key in by_scene.frames} == {'b'}
    with pytest.raises(DatasetError, match='one scene in one heading.*--split none'):
        held_out(dataset_of('a', 3))
    with pytest.raises(DatasetError, match='1 frames are held out, .*--split none'):
        split('scene', dataset_of('ab', 1), None)


def test_nothing_is_held_out_on_demand():
    train, test = split('none', dataset_of('ab', 1), None)
    assert len(train.examples) == 2 * QUESTIONS and not test.examples and not test.frames


def test_mini_loses_first_frames_and_halves_day_and_night_by_question():
    dataset = dataset_of('abcd')
    train, test = split('mini', dataset, root_of('abcd'))
    assert not any(sample_of(key).endswith('0') for key in (*train.frames, *test.frames))
    counts = [Counter(scene_of(example.frame) in NIGHTS for example in side.examples)
              for side in (train, test)]
    assert counts == [{False: 15, True: 15}, {False: 15, True: 15}]
    assert not set(train.examples) & set(test.examples)
    assert train.frames.keys() & test.frames.keys(), 'frames are on both sides: that is how the paper did it'


def test_mini_shuffles_day_then_night_with_one_generator_and_keeps_the_middle_for_the_test():
    dataset = dataset_of('ab', 4)
    day, night = ([one for one in dataset.examples if scene_of(one.frame) == scene and
                   sample_of(one.frame) != f'{scene}0'] for scene in 'ab')
    rng = random.Random(123)
    rng.shuffle(day)
    rng.shuffle(night)
    train, test = mini_split(dataset, root_of('ab'))
    assert train.examples == (*day[:7], *night[:7]) and test.examples == (*day[7:], *night[7:])


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> NuScenes:
    """A stand-in of a scene by day and one at night, three key frames each."""
    return NuScenes(write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, key_frames=3))


@pytest.fixture
def files(root, tmp_path):
    """Give a function: answer -> file of two questions about every key frame, alternately, and a stranger."""
    def write(answer: object = 2):
        tokens = [*root.table('sample'), 'elsewhere']
        records = [{'sample_token': token, 'question': text, 'answer': reply, 'template_type': kind,
                    'num_hop': hops} for text, reply, kind, hops in (
                        ('Are there any cars?', 'yes', 'exist', 0),
                        ('How many buses are there to the front of me?', answer, 'count', 1))
                   for token in tokens]
        (tmp_path / 'qa.json').write_text(json.dumps({'questions': records}))
        return tmp_path / 'qa.json'
    return write


def test_published_questions_become_examples_in_their_order(root, files):
    questions = read_nuscenes_qa(files(), root).questions
    dataset = official_dataset(root, questions, [TrueObjects()])
    assert [(one.question, sample_of(one.frame)) for one in dataset.examples] == [
        (one.text, one.sample_token) for one in questions]
    last = dataset.examples[-1]
    assert (last.answer, last.type, last.hops, last.choices) == ('2', 'count', 1, ANSWERS)
    assert len(dataset.frames) == 6 and dataset.modalities == ('objects',)
    frame = next(root.key_frames('scene-0002'))
    tokens = dataset.frames[f'scene-0002/{frame.token}/000']['objects']
    assert (tokens.values == encode(frame, TrueObjects()).values).all()
    assert set(dataset.conditions.values()) == {('day', 'clear'), ('night', 'clear')}


def test_published_questions_are_split_as_the_paper_did(root, files):
    dataset = official_dataset(root, read_nuscenes_qa(files(), root).questions, [TrueObjects()])
    train, test = split('mini', dataset, root)
    assert len(train.examples) == len(test.examples) == 4
    train, test = split('scene', dataset, root)
    assert {scene_of(key) for key in test.frames} == {'scene-0002'} and len(train.examples) == 6


def test_strange_answers_and_strange_roots_are_refused(root, files):
    with pytest.raises(DatasetError, match="'a dozen', which is none of the 30"):
        official_dataset(root, read_nuscenes_qa(files('a dozen'), root).questions, [TrueObjects()])
    with pytest.raises(DatasetError, match='no question is about a key frame'):
        official_dataset(root, (), [TrueObjects()])
