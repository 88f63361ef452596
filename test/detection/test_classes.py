"""Class maps, and how statuses divide up where nothing tells."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.detection.classes import (
    MOVING,
    known_channels,
    load_class_map,
    read_class_map,
    shipped_maps,
    status_shares,
    with_words,
)
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.questions.vocabulary import CATEGORIES


@pytest.mark.parametrize('name', ['nuscenes', 'coco', 'open_images', 'street'])
def test_shipped_maps_are_distributions_over_categories(name):
    assert name in shipped_maps()
    rows = np.stack([*load_class_map(name).values()])
    assert ((rows >= 0) & (rows <= 1)).all() and (rows.sum(1) <= 1 + 1e-9).all() and (rows.sum(1) > 0).all()


def test_the_map_of_nuscenes_has_every_category():
    assert (np.stack([*load_class_map('nuscenes').values()]).sum(0) >= 1).all()


def test_a_map_of_ones_own_is_a_yaml_file(tmp_path):
    (tmp_path / 'mine.yaml').write_text('auto: car\nbox van: {truck: 0.7, car: 0.2}\n3: pedestrian\n')
    made = load_class_map(tmp_path / 'mine.yaml')
    assert made['auto'][CATEGORIES.index('car')] == 1
    assert made['box van'].sum() == pytest.approx(.9) and made['3'][CATEGORIES.index('pedestrian')] == 1


def test_words_are_added_to_a_map():
    coco = load_class_map('coco')
    made = with_words(coco, ('traffic cone', 'car: truck', 'a photo of a cone: traffic cone'))
    assert list(made)[-2:] == ['traffic cone', 'a photo of a cone'] and len(made) == len(coco) + 2
    assert made['car'][CATEGORIES.index('truck')] == 1 and coco['car'][CATEGORIES.index('truck')] < 1
    assert made['traffic cone'][CATEGORIES.index('traffic cone')] == 1
    assert with_words(coco, ()) == coco
    with pytest.raises(ConfigurationError, match="words: my van: 'van' is no category"):
        with_words(coco, ('my van: van',))


def test_the_words_of_a_street_have_every_category():
    assert (np.stack([*load_class_map('street').values()]).max(0) > .5).all()


@pytest.mark.parametrize('entries, words', [
    ([], 'expected class: category'), ({}, 'expected class: category'), ('car', 'expected class: category'),
    ({'van': 'automobile'}, "van: 'automobile' is no category; there are barrier"),
    ({'van': 3}, 'van: 3 is no category and no mapping'), ({'van': {}}, 'van: {} is no category'),
    ({'van': {'car': 'much'}}, "van: car: 'much' is no probability"),
    ({'van': {'car': True}}, 'van: car: True is no probability'),
    ({'van': {'car': -.1}}, 'van: car: -0.1 is no probability'),
    ({'van': {'car': .7, 'truck': .7}}, 'van: its probabilities add up to 1.4'),
    ({'van': {'car': 0.}}, 'van: its probabilities add up to 0')])
def test_what_is_no_class_map_is_refused_with_the_entry_at_fault(entries, words):
    with pytest.raises(ConfigurationError) as caught:
        read_class_map(entries, 'mine')
    assert 'class map mine' in str(caught.value) and words in str(caught.value)


def test_a_map_that_is_not_there_is_refused_with_those_there_are(tmp_path):
    for name in ('coca', tmp_path / 'none.yaml'):
        with pytest.raises(ConfigurationError, match='there is no class map .*coco'):
            load_class_map(name)


@given(st.lists(st.tuples(st.floats(0, 1) | st.just(float('nan')), st.floats(0, 1) | st.just(float('nan'))),
                max_size=5))
def test_statuses_of_an_object_add_up_to_one(chances):
    moving, rider = np.array(chances, np.float64).reshape(-1, 2).T
    for (channels, share), category in zip(status_shares(moving, rider), CATEGORIES, strict=True):
        assert share.shape == (len(chances), len(channels)) and len(channels), category
        np.testing.assert_allclose(share.sum(1), 1)


def test_what_is_not_told_is_as_often_as_usual():
    unknown = np.full(1, np.nan)
    shares = dict(zip(CATEGORIES, (share for _, share in status_shares(unknown, unknown)), strict=True))
    assert shares['car'][0].max() == pytest.approx(.7 * .79)
    assert MOVING['pedestrian'] in shares['pedestrian'][0]


def test_channels_of_categories_that_cannot_be_told():
    told = known_channels([category != 'car' for category in CATEGORIES])
    assert told.sum() == 24 - 3
