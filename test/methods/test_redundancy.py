"""Choosing what to skip, on losses that are made up."""
from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.methods.eas.redundancy import SearchConfig, measure_skips, recommended_count, search_skips

COSTS = {1: .5, 2: .1, 3: .02, 4: .3, 5: .04}


def additive(skipped):
    """Harm to which every skipped block adds its own; 3 and 5 together do much more."""
    return sum(COSTS[block] for block in skipped) + (2 if {3, 5} <= skipped else 0)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=6, unique=True), st.integers(1, 4))
def test_without_interactions_the_cheapest_are_chosen(costs, count):
    profile = measure_skips(lambda skipped: sum(costs[block] for block in skipped), range(len(costs)), count)
    cheapest = sorted(range(len(costs)), key=costs.__getitem__)[:count]
    assert profile.order == tuple(cheapest)
    assert profile.harm == pytest.approx(list(itertools.accumulate(costs[block] for block in cheapest)))


def test_what_depends_on_each_other_is_seen():
    profile = measure_skips(additive, list(COSTS), 3)
    assert profile.order == (3, 2, 4) and profile.harm == pytest.approx((.02, .12, .42))


def test_little_is_asked_for():
    asked = []

    def harm(skipped):
        asked.append(skipped)
        return additive(skipped)

    measure_skips(harm, list(COSTS), 3, breadth=2)
    assert len(asked) == 5 + 2 * 2


@pytest.mark.parametrize(('wrong', 'questions', 'tolerance', 'recommended'), [
    ((0, 0, 1, 9, 30), 1000, .01, 2), ((0, 0, 0, 0, 9), 1000, .01, 3), ((0, 5, 0, 9, 9), 1000, .004, 0),
    ((0, 1, 1, 1, 1), 1000, 0., 0), ((0, 0, 1, 9, 30), 50, .01, 1), ((0, 9, 9, 9, 9), 50, 1., 4)])
def test_as_many_are_recommended_as_hardly_change_an_answer(wrong, questions, tolerance, recommended):
    """wrong: answers that skipping 0, 1, ... blocks makes impossible; few questions show little."""
    profile = measure_skips(additive, list(COSTS), 4)

    def truth(skipped):
        return (torch.arange(questions) >= wrong[len(skipped)]).float()

    assert recommended_count(truth, profile, tolerance) == recommended


def test_the_first_of_an_order_are_what_costs_least():
    assert measure_skips(additive, list(COSTS), 4).first(2) == {2, 3}


def test_the_search_trains_what_it_draws_and_finds_the_cheapest():
    trained = []
    found = search_skips(lambda skipped: sum(COSTS[block] for block in skipped), trained.append, list(COSTS),
                         2, SearchConfig(steps=300, warm_up=0, turn=1, seed=1))
    assert len(trained) == 300 and all(len(skipped) == 2 for skipped in trained)
    assert found <= {2, 3, 5}


@pytest.mark.parametrize('wrong', [{'steps': 0}, {'warm_up': -1}, {'eta': 0.}, {'sharpness': -1.}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        SearchConfig(**wrong)
