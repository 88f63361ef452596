"""Scores and classes of detectors as probabilities."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.detection.classes import load_class_map, read_class_map
from mpnp_ros.detection.hypotheses import ClassReader, ScoreCalibration
from mpnp_ros.errors import ConfigurationError, DetectionsError
from mpnp_ros.questions.vocabulary import CATEGORIES

NUSCENES, COCO = ClassReader(load_class_map('nuscenes')), ClassReader(load_class_map('coco'))
SCORES = st.floats(0, 1)


@st.composite
def tables(draw):
    size = draw(st.integers(2, 6))
    scores = sorted(draw(st.sets(SCORES, min_size=size, max_size=size)))
    chances = sorted(draw(st.lists(SCORES, min_size=size, max_size=size)))
    return [value for pair in zip(scores, chances, strict=True) for value in pair]


@given(st.one_of(st.just([]), st.floats(.1, 10).map(lambda value: [value]), tables()),
       st.lists(SCORES, min_size=2))
def test_a_calibration_gives_probabilities_in_the_order_of_the_scores(given_numbers, scores):
    scores = np.sort(scores)
    chances = ScoreCalibration(given_numbers)(scores)
    assert ((chances >= 0) & (chances <= 1)).all() and (np.diff(chances) >= -1e-12).all()


def test_a_temperature_above_one_makes_less_sure_and_a_table_can_make_certain():
    np.testing.assert_allclose(ScoreCalibration()(np.array([.9])), .9)
    np.testing.assert_allclose(ScoreCalibration([2.])(np.array([0., .5, .9, 1.])), [0, .5, .75, 1])
    np.testing.assert_allclose(ScoreCalibration([.5, .2, .9, .8])(np.array([0., .7, 1.])), [.2, .5, .8])
    np.testing.assert_allclose(ScoreCalibration([0, 1, 1, 1])(np.array([0., .3])), 1)


@pytest.mark.parametrize('numbers, words', [
    ([0.], 'must be above 0'), ([-1.], 'must be above 0'), ([.1, .2, .3], 'has 3 numbers'),
    ([.1, .2, .3, 1.4], 'must lie in 0..1'), ([.5, .1, .2, .3], 'must rise'),
    ([.1, .9, .2, .3], 'must not fall')])
def test_what_is_no_calibration_is_refused(numbers, words):
    with pytest.raises(ConfigurationError, match=words):
        ScoreCalibration(numbers)


@given(st.lists(st.lists(st.tuples(st.sampled_from(['person', 'car', 'bus', 'dog']), SCORES), max_size=4)))
def test_what_is_read_is_a_distribution(objects):
    named = COCO.read(objects)
    assert ((named.existence >= 0) & (named.existence <= 1)).all()
    np.testing.assert_allclose(named.categories.sum(1), 1)
    best = [max((score for name, score in each if name != 'dog'), default=0.) for each in objects]
    assert all(there == 0 for there, score in zip(named.existence, best, strict=True) if score == 0)


@pytest.mark.parametrize('name', ['traffic_cone', 'TRAFFIC CONE', 'Traffic-Cone', ' traffic cone'])
def test_a_class_is_found_however_it_is_written(name):
    named = NUSCENES.read([[(name, .6)]])
    assert named.existence[0] == pytest.approx(.6)
    assert named.categories[0, CATEGORIES.index('traffic cone')] == 1


def test_scores_of_one_distribution_add_up_and_of_others_the_largest_counts():
    named = NUSCENES.read([[('car', .6), ('truck', .3)], [('car', .9), ('truck', .6)], []])
    np.testing.assert_allclose(named.existence, [.9, .9, 0])
    np.testing.assert_allclose(named.categories[0, [CATEGORIES.index('car'), CATEGORIES.index('truck')]],
                               [2 / 3, 1 / 3])


def test_what_has_no_score_is_as_sure_as_the_calibration_says():
    assert NUSCENES.read([[('car', 0.)]]).existence[0] == 0
    certain = ClassReader(load_class_map('nuscenes'), calibration=ScoreCalibration([0., 1., 1., 1.]))
    assert certain.read([[('car', 0.)], [('kangaroo', 0.)], []]).existence.tolist() == [1, 0, 0]


def test_what_may_be_something_else_exists_less():
    reader = ClassReader(read_class_map({'van': {'car': .6, 'truck': .2}}, 'mine'))
    assert reader.read([[('van', .5)]]).existence[0] == pytest.approx(.4)
    assert NUSCENES.read([[('car', .5), ('kangaroo', .5)]]).existence[0] == pytest.approx(.5)


def test_numbers_are_places_of_names_and_classes_without_an_entry_are_told():
    reader = ClassReader(load_class_map('coco'), ['person', 'bicycle', 'car'])
    named = reader.read([[('2', 1.)], [('7', 1.)], [('kangaroo', 1.)]])
    np.testing.assert_allclose(named.existence, [1, 0, 0])
    assert named.unknown == ('7', 'kangaroo')


@pytest.mark.parametrize('score', [1.2, -.1, float('nan'), 87.])
def test_scores_that_are_none_are_refused(score):
    with pytest.raises(DetectionsError, match='scores must lie in 0..1'):
        NUSCENES.read([[('car', .5)], [('car', score)]])


def test_what_a_detector_can_tell_follows_from_its_classes():
    assert NUSCENES.known.all()
    told = dict(zip(CATEGORIES, COCO.known, strict=True))
    assert told['car'] and told['truck'] and not told['traffic cone'] and not told['construction vehicle']
