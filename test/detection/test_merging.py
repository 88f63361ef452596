"""Objects that several sources see count once."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.detection.detections import Detections, sectors_between
from mpnp_ros.detection.merging import merged
from mpnp_ros.errors import DetectionsError
from mpnp_ros.questions.vocabulary import CATEGORIES
from mpnp_ros.tokens import NO_SOURCE


def seen(source, *places, category='car', existence=.8, deviation=.4, **more):
    categories = np.zeros((len(places), 10))
    categories[:, CATEGORIES.index(category)] = 1
    return Detections(np.array(places, float).reshape(-1, 2), np.full(len(places), existence), categories,
                      range_deviation=np.full(len(places), deviation), sources=(source,),
                      source_index=np.zeros(len(places), np.uint16), **more)


def test_an_object_of_two_sources_counts_once_and_lies_where_it_is_measured_best():
    both = merged([seen('lidar', (10, 0), (20, 5)),
                   seen('camera', (11, 0), (0, 9), deviation=2., existence=.9)])
    assert both.sources == ('lidar', 'camera') and len(both) == 3
    assert both.existence.tolist() == [.9, .8, .9] and both.source_index.tolist() == [1, 0, 1]
    assert 10 < both.position[0, 0] < 10.1 and both.range_deviation[0] < .4


def test_neighbours_of_one_source_and_of_other_categories_stay_apart():
    assert len(merged([seen('a', (10, 0), (10.2, 0))])) == 2
    assert len(merged([seen('a', (10, 0)), seen('b', (10, 0), category='pedestrian')])) == 2
    assert len(merged([seen('a', (10, 0)), seen('b', (10, 0), category='truck')])) == 1
    assert len(merged([seen('a', (10, 0)), seen('b', (14, 0))])) == 2


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), unique=True, max_size=6),
       st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), unique=True, max_size=6))
@settings(deadline=None)
def test_no_more_than_the_sum_and_no_fewer_than_each(first, second):
    first, second = (seen(name, *[(6 * x, 6 * y) for x, y in places]) for name, places in
                  (('a', first), ('b', second)))
    both = merged([first, second])
    shared = {tuple(place) for place in first.position} & {tuple(place) for place in second.position}
    assert len(both) == len(first) + len(second) - len(shared)
    np.testing.assert_allclose(both.categories.sum(1), 1)


def test_what_is_looked_at_and_told_is_that_of_all_and_the_stamp_the_oldest():
    known = np.zeros(10, bool)
    known[CATEGORIES.index('car')] = True
    front, back = sectors_between(-.5, .5), sectors_between(2.5, -2.5)
    both = merged([seen('a', looked=front, known=known, stamp_ns=9, max_distance=50.),
                   seen('b', looked=back, known=~known, stamp_ns=7, max_distance=80.)])
    assert both.known.all() and (both.looked == (front | back)).all()
    assert (both.stamp_ns, both.max_distance, len(both)) == (7, 50., 0)


def test_an_object_without_a_source_stays_without():
    other = Detections(np.ones((1, 2)), np.ones(1), np.eye(10)[:1])
    assert merged([seen('a', (20, 0)), other]).source_index.tolist() == [0, NO_SOURCE]


def test_frames_must_agree():
    with pytest.raises(DetectionsError, match='2 frames'):
        merged([seen('a'), seen('b', frame_id='map')])
    with pytest.raises(DetectionsError, match='0 frames'):
        merged([])
