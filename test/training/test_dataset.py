"""Saving, splitting and cleaning token datasets."""
from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import DatasetError
from mpnp_ros.training.dataset import ARRAYS, TABLE, TokenDataset


def assert_same(one: TokenDataset, other: TokenDataset) -> None:
    assert one.examples == other.examples
    assert list(one.frames) == list(other.frames)
    for key, frame in one.frames.items():
        for name, tokens in frame.items():
            for field, value in vars(tokens).items():
                np.testing.assert_array_equal(value, getattr(other.frames[key][name], field))


def test_reads_what_it_wrote(toy, tmp_path):
    dataset = toy(5, 0, ('camera', 'lidar'))
    half = {name: replace(tokens, values=tokens.values.astype(np.float16), sources=('a', 'b'),
                          source_index=np.array([0, 1, 1], np.uint16), source_stamps_ns=(3, 4), stamp_ns=3)
            for name, tokens in dataset.frames['f0'].items()}
    dataset = replace(dataset, frames={**dataset.frames, 'f0': half})
    dataset.save(tmp_path / 'set')
    assert_same(dataset, TokenDataset.load(tmp_path / 'set'))


def test_shared_values_are_written_once(toy, tmp_path):
    dataset = toy(1, 0)
    one = dataset.frames['f0']['camera']
    frames = {f'f{n}': {'camera': replace(one, azimuth=one.azimuth + n)} for n in range(50)}
    TokenDataset(frames, ()).save(tmp_path / 'set')
    assert (tmp_path / 'set' / ARRAYS).stat().st_size < 12 * one.values.nbytes + 50 * 100
    loaded = TokenDataset.load(tmp_path / 'set').frames
    assert loaded['f7']['camera'].values is loaded['f8']['camera'].values


@pytest.mark.parametrize('damage', [
    lambda folder: (folder / ARRAYS).unlink(),
    lambda folder: (folder / ARRAYS).write_bytes(b'\x80\x04.'),
    lambda folder: (folder / TABLE).write_text('[1]'),
    lambda folder: (folder / TABLE).write_text(json.dumps({'schema': 99})),
])
def test_a_damaged_set_is_refused_by_name(toy, tmp_path, damage):
    toy(2, 0).save(tmp_path / 'set')
    damage(tmp_path / 'set')
    with pytest.raises(DatasetError, match='set cannot be read'):
        TokenDataset.load(tmp_path / 'set')


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(0, 9)))
def test_no_frame_is_on_both_sides_of_a_split(toy, chosen):
    dataset = toy(10, 0)
    rest, held = dataset.split(lambda key: int(key[1:]) in chosen)
    assert not rest.frames.keys() & held.frames.keys()
    assert rest.frames.keys() | held.frames.keys() == dataset.frames.keys()
    assert sorted((*rest.examples, *held.examples), key=hash) == sorted(dataset.examples, key=hash)
    assert all(example.frame in rest.frames for example in rest.examples)


def test_repeated_questions_go_and_their_order_stays(toy):
    dataset = toy(3, 0)
    other = replace(dataset.examples[0], answer='no')
    assert replace(dataset, examples=(*dataset.examples, other)).deduplicated().examples == dataset.examples


def test_a_sample_is_a_part_drawn_by_its_seed(toy):
    dataset = toy(10, 0)
    one, again, other = (dataset.sample(7, seed).examples for seed in (0, 0, 1))
    assert one == again != other and len(set(one)) == 7 and set(one) < set(dataset.examples)
    assert set(dataset.sample(99).examples) == set(dataset.examples)


def test_no_type_has_more_examples_than_the_limit(toy):
    dataset = toy(10, 0)
    rare = replace(dataset, examples=(*dataset.examples, replace(dataset.examples[0], type='count')))
    one, again, other = (rare.evened(4, seed).examples for seed in (0, 0, 1))
    assert Counter(example.type for example in one) == {'object': 4, 'status': 4, 'count': 1}
    assert one == again != other and len(set(one)) == 9 and set(one) < set(rare.examples)
    assert sorted(rare.evened(99).examples, key=hash) == sorted(rare.examples, key=hash)
    assert rare.evened(4).frames == rare.frames


def test_only_keeps_the_named_modalities(toy):
    dataset = toy(2, 0, ('camera', 'lidar'))
    assert dataset.only(['lidar']).modalities == ('lidar',)
    assert dataset.only([]).frames == {'f0': {}, 'f1': {}}


def test_questions_about_unknown_frames_are_refused(toy):
    dataset = toy(2, 0)
    with pytest.raises(DatasetError, match='f1'):
        TokenDataset({'f0': dataset.frames['f0']}, dataset.examples)
