"""Detections and the tokens that count them."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mpnp_ros.detection.detections import Detections, detection_tokens, sectors_between
from mpnp_ros.errors import TokensError
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS
from mpnp_ros.tokens import NO_SOURCE, SECTORS
from mpnp_ros.training.true_objects import TrueObjects

CAR, CONE = CATEGORIES.index('car'), CATEGORIES.index('traffic cone')


@st.composite
def detections(draw, most=6):
    count = draw(st.integers(0, most))
    real = st.floats(0, 1)
    categories = draw(arrays.arrays(np.float64, (count, 10), elements=st.floats(0.01, 1)))
    unknown = st.one_of(real, st.just(math.nan))
    return Detections(
        draw(arrays.arrays(np.float64, (count, 2), elements=st.floats(-60, 60))),
        draw(arrays.arrays(np.float64, count, elements=real)), categories / categories.sum(1, keepdims=True),
        moving=draw(arrays.arrays(np.float64, count, elements=unknown)),
        rider=draw(arrays.arrays(np.float64, count, elements=unknown)),
        range_deviation=draw(arrays.arrays(np.float64, count, elements=st.one_of(
            st.floats(0, 20), st.just(math.nan)))))


def cars(*distances, existence=1., deviation=math.nan):
    count = len(distances)
    categories = np.zeros((count, 10))
    categories[:, CAR] = 1
    return Detections(np.array([[far, 0.] for far in distances]).reshape(-1, 2), np.full(count, existence),
                      categories, range_deviation=np.full(count, deviation))


@given(detections())
@settings(deadline=None)
def test_expected_counts_of_an_object_add_up_to_its_existence(found):
    np.testing.assert_allclose(found.counts().sum(1), found.existence, atol=1e-5)
    by_category = np.stack([found.counts()[:, [name == category for name, _ in CHANNELS]].sum(1)
                            for category in CATEGORIES], 1)
    np.testing.assert_allclose(by_category, found.existence[:, None] * found.categories, atol=1e-5)


@given(detections(), st.one_of(st.just(math.inf), st.floats(1, 80)))
@settings(deadline=None)
def test_no_reach_counts_more_than_there_is_and_a_longer_one_no_less(found, reach):
    near, all_of_them = (detection_tokens(found, 'detections', 'e', limit).values.sum()
                         for limit in (reach, math.inf))
    assert near <= all_of_them + 1e-4
    assert all_of_them == pytest.approx(found.existence.sum(), abs=1e-3)
    assert near >= detection_tokens(found, 'detections', 'e', reach / 2).values.sum() - .02 * len(found)


def test_channels_are_those_that_the_shipped_links_read():
    assert TrueObjects.channels == CHANNELS


def test_a_frame_without_objects_is_one_token_of_zeros_without_a_direction():
    tokens = detection_tokens(cars(), 'detections', 'e')
    assert tokens.values.shape == (1, 24) and not tokens.values.any()
    assert np.isnan(tokens.azimuth).all() and tokens.source_index.tolist() == [NO_SOURCE]


def test_an_object_at_the_border_counts_by_half_and_one_beyond_not():
    tokens = detection_tokens(cars(10., 30., 45., deviation=1.), 'detections', 'e', 30.)
    np.testing.assert_allclose(tokens.values.sum(1), [1, .5], atol=1e-3)
    assert detection_tokens(cars(32.), 'detections', 'e', 30.).values.sum() == 0
    assert detection_tokens(cars(32., deviation=4.), 'detections', 'e', 30.).values.sum() > .2


def test_tokens_have_the_direction_and_the_distance_of_their_objects():
    found = Detections(np.array([[0., 5.], [-3., 0.]]), np.ones(2), cars(1., 1.).categories, stamp_ns=7,
                       sources=('box',), source_index=np.zeros(2, np.uint16), max_distance=80.)
    tokens = detection_tokens(found, 'detections', 'e', 30.)
    np.testing.assert_allclose(tokens.azimuth, [math.pi / 2, math.pi], atol=1e-6)
    np.testing.assert_allclose(tokens.distance, [5, 3])
    assert (tokens.max_distance, tokens.source_stamps_ns, tokens.stamp_ns) == (30., (7,), 7)


def test_boxes_in_images_go_with_their_tokens():
    boxes = np.array([[1., 2., 3., 4.], [np.nan] * 4, [5., 6., 7., 8.]])
    seen = replace(cars(5., 10., 60.), boxes=boxes)
    np.testing.assert_array_equal(detection_tokens(seen, 'camera', 'e', 30.).boxes, boxes[:2])
    assert detection_tokens(cars(5.), 'camera', 'e').boxes.shape == (0, 4)
    assert detection_tokens(replace(cars(), boxes=boxes[:0]), 'camera', 'e').boxes.shape == (0, 4)


def test_what_the_detector_cannot_tell_is_said():
    known = np.ones(10, bool)
    known[CONE] = False
    tokens = detection_tokens(replace(cars(5.), known=known), 'detections', 'e')
    assert [name for (name, _), told in zip(CHANNELS, tokens.known, strict=True) if not told] == \
        ['traffic cone']


def test_statuses_that_are_told_are_counted_as_told():
    categories = np.zeros((2, 10))
    categories[0, CAR] = categories[1, CATEGORIES.index('bicycle')] = 1
    counts = Detections(np.ones((2, 2)), np.array([.8, 1.]), categories, moving=np.array([1., 0.]),
                        rider=np.array([math.nan, .25])).counts()
    assert counts[0, CHANNELS.index(('car', 'moving'))] == pytest.approx(.8)
    assert counts[1, CHANNELS.index(('bicycle', 'with rider'))] == pytest.approx(.25)
    assert counts[1, CHANNELS.index(('bicycle', 'without rider'))] == pytest.approx(.75)


@given(st.floats(-7, 7), st.floats(0.01, 6.28))
def test_sectors_between_two_directions_lie_wholly_between_them(start, width):
    sectors = sectors_between(start, start + width)
    assert sectors.sum() <= math.degrees(width) / 5 + 1e-6
    assert sectors.sum() >= math.degrees(width) / 5 - 2
    for place in np.flatnonzero(sectors):
        middle = math.radians(place * 5 - 177.5)
        assert (middle - start) % math.tau <= width + 1e-6


def test_sectors_ahead():
    looked = sectors_between(math.radians(-30), math.radians(30))
    assert np.flatnonzero(looked).tolist() == list(range(SECTORS // 2 - 6, SECTORS // 2 + 6))


@pytest.mark.parametrize('change, words', [
    ({'position': np.array([[math.nan, 0.]])}, 'a position is NaN'),
    ({'existence': np.array([1.5])}, 'existence must lie in 0..1'),
    ({'moving': np.array([-.1])}, 'moving must lie in 0..1'),
    ({'statuses': np.full((1, 24), 1.1)}, 'statuses must lie in 0..1'),
    ({'statuses': np.ones((1, 3))}, 'statuses has shape [1, 3]; expected [1, 24]'),
    ({'existence': np.ones(2)}, 'existence has shape [2]; expected [1]'),
    ({'size': np.ones((1, 2))}, 'size has shape [1, 2]; expected [1, 3]'),
    ({'known': np.ones(3, bool)}, 'known has shape [3]; expected [10]')])
def test_what_does_not_fit_is_refused_with_the_reason(change, words):
    given_values = {'position': np.zeros((1, 2)), 'existence': np.ones(1), 'categories': cars(1.).categories}
    with pytest.raises(TokensError) as caught:
        Detections(**{**given_values, **change})
    assert words in str(caught.value)


def test_statuses_that_are_told_count_and_others_follow_from_motion():
    found, told = cars(5., 6.), np.full((2, 24), math.nan)
    places = [CHANNELS.index(('car', status)) for status in ('moving', 'parked', 'stopped')]
    told[0] = 0
    told[0, places] = .2, .7, .1
    counts = replace(found, moving=np.array([.9, .9]), statuses=told).counts()
    assert counts[0, places] == pytest.approx([.2, .7, .1])
    assert counts[1, places[0]] == pytest.approx(.9) and counts[1].sum() == pytest.approx(1)


def test_a_selection_keeps_everything_of_what_it_keeps():
    found = cars(1., 2., 3.)
    kept = found.select(np.array([2, 0]))
    assert kept.position[:, 0].tolist() == [3, 1] and len(kept) == 2 and kept.track.tolist() == [-1, -1]
