"""What answers rest on: rows of a comparison, by a method that answers as the rule does."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.methods.questions import AnsweredQuestion
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.rule import rule_answer
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.training.comparison import AWAY, Comparison, nothing_seen, wrong_frames
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.key_frames import heading_of, key_frame_dataset, sample_of, scene_of, turn_tokens
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects

SCOPE = Scope(30., 1, anchors=False)


class ByRule:
    """A method that answers by the rule, from the tokens of its first modality that a frame has."""

    def __init__(self, *modalities: str) -> None:
        self.modalities, self.answered = modalities, 0

    def links(self):
        return dict.fromkeys(self.modalities)

    def prepare_answers(self, pairs, choices, files=None):
        return [AnsweredQuestion(SimpleNamespace(text=text, choices=choices), answer, 0)
                for text, answer in pairs]

    def answer_batch(self, questions, tokens):
        self.answered += len(questions)
        seen = [next((frame[name] for name in self.modalities if name in frame), None) for frame in tokens]
        return [SimpleNamespace(text=rule_answer(question.text, one, CHANNELS) if one else 'no idea')
                for question, one in zip(questions, seen, strict=True)]


@pytest.fixture(scope='module')
def dataset(small_root, tmp_path_factory) -> TokenDataset:
    """Questions on four key frames of two scenes, with true objects."""
    return key_frame_dataset(small_root, [TrueObjects(SCOPE)], turns=4, scope=SCOPE, per_kind=60,
                             cache=tmp_path_factory.mktemp('cache'))


def test_rows_tell_what_answers_rest_on(dataset):
    method = ByRule(OBJECTS)
    rows = dict(Comparison(method, dataset, {OBJECTS: CHANNELS}, truth=ByRule(OBJECTS)).rows())
    assert list(rows) == ['sensors', 'rule', 'turned away', 'wrong image', 'blind', 'unplugged', 'majority',
                          'true objects']
    values = {name: row.value for name, row in rows.items()}
    assert values['sensors'] == values['rule'] == values['true objects'] > .95
    assert values['unplugged'] == 0
    assert max(values[name] for name in ('turned away', 'wrong image', 'blind', 'majority')) < .8
    assert {row.n for row in rows.values()} == {len(dataset.examples)}
    texts = len({example.question for example in dataset.examples})
    assert method.answered == 3 * len(dataset.examples) + 2 * texts
    assert all(row.overall.resampled for row in rows.values())


def test_each_of_several_modalities_has_rows_of_its_own(dataset):
    both = TokenDataset({key: {'lidar': frame[OBJECTS], 'camera': nothing_seen(frame[OBJECTS])}
                         for key, frame in dataset.frames.items()}, dataset.examples[:50])
    rows = dict(Comparison(ByRule('lidar', 'camera'), both, {'lidar': CHANNELS}).rows())
    assert list(rows)[:4] == ['sensors', 'lidar alone', 'camera alone', 'lidar rule']
    assert rows['sensors'] == rows['lidar alone'] != rows['camera alone'] == rows['blind']


def test_the_majority_goes_by_other_questions_where_there_are_some(dataset):
    train = [Example(one.question, 'bus', one.choices, one.type, one.hops, one.frame)
             for one in dataset.examples]
    assert dict(Comparison(ByRule(OBJECTS), dataset, {}, train=train).rows())['majority'].value < .1


def test_the_rule_is_judged_on_what_it_reads(dataset):
    odd = TokenDataset(dataset.frames, (*dataset.examples[:5], Example(
        'Where is it?', 'yes', ('yes', 'no'), 'exist', 0, dataset.examples[0].frame)))
    rows = dict(Comparison(ByRule(OBJECTS), odd, {OBJECTS: CHANNELS}).rows())
    assert (rows['rule'].n, rows['sensors'].n) == (5, 6)
    assert 'rule' not in dict(Comparison(ByRule(OBJECTS), TokenDataset(odd.frames, odd.examples[5:]),
                                         {OBJECTS: CHANNELS}).rows())


def keys(scenes: int, samples: int, headings: int) -> list[str]:
    return [f'scene-{scene}/{scene}-{sample}/{heading:03d}' for scene in range(scenes)
            for sample in range(samples) for heading in range(headings)]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_a_wrong_image_is_of_another_scene_where_there_is_one(scenes, samples, headings, seed):
    wrong = wrong_frames(keys(scenes, samples, headings), seed)
    assert len(wrong) == (0 if scenes * samples == 1 else scenes * samples * headings)
    for key, other in wrong.items():
        assert heading_of(key) == heading_of(other) and sample_of(key) != sample_of(other)
        assert (scene_of(key) == scene_of(other)) == (scenes == 1)


def test_day_and_night_of_one_seed_are_one_scene():
    names = [f'world-{seed}-{light}/{seed}{light}{number}/000' for seed in (1, 2)
             for light in ('day', 'night') for number in range(2)]
    assert all(key[:7] != other[:7] for key, other in wrong_frames(names).items())


def test_no_wrong_image_where_there_is_one_key_frame(dataset):
    key = dataset.examples[0].frame
    of_one = dataset.split(lambda other: sample_of(other) == sample_of(key))[1]
    rows = dict(Comparison(ByRule(OBJECTS), of_one, {}).rows())
    assert 'wrong image' not in rows and rows['sensors'].overall.resampled is None


def test_away_is_two_directions_further(dataset):
    tokens = next(iter(dataset.frames.values()))[OBJECTS]
    apart = np.angle(np.exp(1j * (tokens.azimuth - turn_tokens(tokens, AWAY).azimuth.astype(np.float64))))
    assert np.degrees(apart) == pytest.approx(np.full(tokens.count, 120), abs=1e-3)
