"""Limits of an adaptation: what is refused, what is used up, what is left."""
from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.training.budget import Budget, Spent, measure_macs, peak_memory


@pytest.mark.parametrize('limits', [{'seconds': -1}, {'macs': math.nan}, {'bytes': math.inf},
                                    {'accuracy': 1.1}])
def test_nonsense_is_refused_by_name(limits: dict) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(limits))):
        Budget(**limits)


def test_zero_is_no_limit() -> None:
    much = Spent(1e9, 1e30, 1e15)
    assert not Budget().too_small_for(much) and not Budget().reached(1.)
    assert Budget().seconds_left(much) == math.inf


def test_says_how_much_time_is_left() -> None:
    budget = Budget(120, 5e12, 2e9)
    assert (budget.seconds_left(Spent(100)), budget.seconds_left(Spent(130))) == (20, 0)


def test_a_cost_may_take_all_of_a_budget_but_no_more() -> None:
    budget = Budget(120, 5e12, 2e9)
    assert budget.too_small_for(Spent(120, 5e12, 2e9)) == ()
    assert budget.too_small_for(Spent(121, 5e12, 3e9)) == ('seconds', 'bytes')


def test_limits_that_are_not_given_are_the_default_ones() -> None:
    assert Budget(60, accuracy=.9).or_else(Budget(120, 1e12)) == Budget(60, 1e12, 0, .9)


def test_a_target_is_reached_from_below() -> None:
    assert [Budget(accuracy=.8).reached(value) for value in (.79, .8, math.nan)] == [False, True, False]


@pytest.mark.parametrize(('states', 'weights', 'products'), [
    (False, True, 2), (True, False, 2), (True, True, 3)])
def test_a_linear_layer_costs_its_products(states, weights, products):
    rows = torch.ones(4, 8, requires_grad=states)
    weight = torch.ones(16, 8, requires_grad=weights)
    assert measure_macs(lambda: linear(rows, weight).sum().backward()) == products * 4 * 8 * 16


def test_fused_attention_is_counted():
    query, key = torch.ones(1, 2, 3, 16), torch.ones(1, 2, 5, 16)
    assert measure_macs(lambda: scaled_dot_product_attention(query, key, key)) == 2 * (2 * 3 * 5 * 16)


def test_peak_memory_sees_what_was_allocated():
    before = peak_memory(torch.device('cpu'))
    block = torch.ones((before + 64_000_000) // 4)
    assert peak_memory(torch.device('cpu')) > before + 32_000_000
    del block


def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it():
    block = torch.ones(160_000_000)
    script = 'import torch; from mpnp_ros.training.budget import peak_memory as peak; ' \
             'print(peak(torch.device("cpu")))'
    started = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert 0 < int(started.stdout) < block.nbytes
