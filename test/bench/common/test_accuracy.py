"""Right answers and their intervals over seeds and scenes."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.common.accuracy import Estimate, estimate, percent, right_answers
from mpnp_ros.training.dataset import Example


def test_right_answers_are_ones_in_order():
    examples = [Example('?', answer, ('yes', 'no'), 'exist', 0, 'frame') for answer in ('yes', 'no', 'yes')]
    right = right_answers(examples, ['yes', None, 'no'])
    assert right == [1, 0, 0] and percent(right) == pytest.approx(100 / 3)


def test_an_estimate_is_a_mean_and_an_interval():
    assert str(Estimate(51.26, (40., 60.04), 9)) == '51.3 [40.0, 60.0]'


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 5), min_size=1, max_size=40), st.randoms())
def test_the_interval_holds_the_mean_and_what_can_be(seeds, scenes, random):
    right = np.array([[random.randrange(2) for _ in scenes] for _ in range(seeds)], float)
    found = estimate(right, np.array(scenes))
    assert found.mean == pytest.approx(100 * right.mean()) and found.n == len(scenes)
    low, high = found.ci95
    assert 0 <= low <= high <= 100
    if len(set(scenes)) == seeds == 1:
        assert low == pytest.approx(found.mean) and high == pytest.approx(found.mean)


def test_all_right_or_all_wrong_leaves_no_doubt():
    for value in (0., 1.):
        found = estimate(np.full((3, 8), value), np.arange(8) // 2)
        assert (found.mean, found.ci95) == (100 * value, (100 * value, 100 * value))


def test_questions_of_one_scene_hang_together():
    apart = estimate(np.array([[0., 1.] * 50]), np.arange(100))
    together = estimate(np.array([[0.] * 50 + [1.] * 50]), np.arange(100) // 10)
    assert apart.mean == together.mean == 50
    assert np.diff(together.ci95) > 2 * np.diff(apart.ci95)


def test_seeds_that_differ_widen_the_interval():
    scenes = np.arange(100)
    even = estimate(np.array([[0., 1.] * 50, [1., 0.] * 50]), scenes)
    uneven = estimate(np.array([[0.] * 100, [1.] * 100]), scenes)
    assert even.mean == uneven.mean == 50 and uneven.ci95 == (0, 100) and even.ci95 != (0, 100)


def test_a_normal_interval_comes_close_where_questions_are_independent():
    rng = np.random.default_rng(1)
    found = estimate((rng.random((1, 900)) < .7).astype(float), np.arange(900))
    assert np.diff(found.ci95)[0] == pytest.approx(2 * 196 * np.sqrt(.21 / 900), rel=.1)
