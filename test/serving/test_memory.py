"""A memory of moments stays within its bounds and gives back what it was given."""
from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.serving.memory import OVERHEAD, TokenMemory
from mpnp_ros.tokens import SECOND


def seconds(memory: TokenMemory) -> list[float]:
    return [moment.stamp_ns / SECOND for moment in memory.moments()]


def test_one_moment_an_interval_with_the_newest_tokens_of_each_modality(tokens):
    memory = TokenMemory(60, 10 ** 9, 0.5)
    for number in range(12):
        memory.remember(tokens('camera', number, stamp_ns=number * SECOND // 10))
        memory.remember(tokens('lidar', 100 + number, stamp_ns=number * SECOND // 10 + 1))
    assert seconds(memory) == [0., .5, 1.]
    held = [
        {name: float(kept.values[0, 0]) for name, kept in moment.tokens.items()}
        for moment in memory.moments()
    ]
    assert held == [{'camera': 4, 'lidar': 104}, {'camera': 9, 'lidar': 109}, {'camera': 11, 'lidar': 111}]


def test_the_oldest_are_forgotten_by_time_and_by_size(tokens):
    memory = TokenMemory(2, 10 ** 9, 0.5)
    for number in range(10):
        memory.remember(tokens('camera', stamp_ns=number * SECOND // 2))
    assert seconds(memory) == [2.5, 3., 3.5, 4., 4.5]
    one = memory.size / 5
    small = TokenMemory(math.inf, round(3.5 * one), 0.5)
    for number in range(10):
        small.remember(tokens('camera', stamp_ns=number * SECOND))
    assert seconds(small) == [7., 8., 9.]
    nothing = TokenMemory(0, 10 ** 9)
    nothing.remember(tokens('camera'))
    assert nothing.moments() == () and nothing.size == 0


@pytest.mark.parametrize('late', [0., .3, .7, 1.1, 2.9])
def test_tokens_that_come_late_are_kept_in_their_moment(tokens, late):
    memory, frames = TokenMemory(60, 10 ** 9, 0.5), []
    for tenth in range(100):
        frames.append((tenth / 10, 'lidar', tenth))
    for second in range(10):
        frames.append((second + late, 'camera', second * 10))
    for _, modality, tenth in sorted(frames):
        memory.remember(tokens(modality, stamp_ns=tenth * SECOND // 10))
    assert seconds(memory) == [half / 2 for half in range(20)]
    assert ['camera' in moment.tokens for moment in memory.moments()] == [True, False] * 10


def test_a_bag_that_begins_anew_is_remembered_from_there_and_a_wrong_stamp_costs_nothing_else(tokens):
    memory = TokenMemory(60, 10 ** 9, 0.5)
    for second in (10, 11, 12, 40, 13):
        memory.remember(tokens('camera', stamp_ns=second * SECOND))
    assert seconds(memory) == [10., 11., 12., 13.]
    memory.remember(tokens('camera', 3., stamp_ns=SECOND))
    assert seconds(memory) == [1.]


def test_values_are_kept_in_half_precision(tokens):
    memory = TokenMemory(60, 10 ** 9)
    memory.remember(tokens('camera', 1e6, concerns=('dark',)))
    kept = memory.moments()[0].tokens['camera']
    assert kept.values.dtype == np.float16 and np.isfinite(kept.values).all() and kept.concerns == ()


@given(st.lists(st.tuples(st.sampled_from(['camera', 'lidar']), st.integers(0, 100), st.integers(1, 200)),
                max_size=60), st.integers(1, 20), st.integers(1000, 100000))
def test_size_is_what_is_kept_and_never_above_the_bound(tokens, frames, duration, most):
    memory = TokenMemory(duration, most, 0.5)
    for modality, tenths, count in frames:
        memory.remember(tokens(modality, count=count, stamp_ns=tenths * SECOND // 10))
        assert memory.size <= most or not memory.moments()
    stamps = [moment.stamp_ns for moment in memory.moments()]
    assert stamps == sorted(stamps)
    kept = [each for moment in memory.moments() for each in moment.tokens.values()]
    assert memory.size == sum(each.values.nbytes + each.azimuth.nbytes + OVERHEAD for each in kept)
