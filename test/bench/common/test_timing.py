"""Summaries of times, and runs in turn."""
from __future__ import annotations

import math

import pytest

from bench.common.timing import Summary, take_turns


def test_percentiles():
    summary = Summary.of([value / 1000 for value in range(101)])
    assert (summary.count, summary.p50, summary.p95) == (101, pytest.approx(50), pytest.approx(95))
    assert math.isnan(Summary.of([]).p50)


def test_runs_take_turns_and_the_warm_up_is_left_out():
    calls = []
    runs = {name: lambda number, name=name: calls.append((number, name)) for name in 'xy'}
    seconds = take_turns(runs, rounds=2, warm_up=1)
    assert [number for number, _ in calls] == [0, 0, 1, 1, 2, 2]
    assert sorted(calls) == [(number, name) for number in range(3) for name in 'xy']
    assert {name: len(samples) for name, samples in seconds.items()} == {'x': 2, 'y': 2}
