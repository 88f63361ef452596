"""Means over seeds, their intervals, and the forms they are written in."""
from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.study import report as study_report
from bench.study.report import ROWS, Figure, StudyReport, figure
from mpnp_ros.errors import ConfigurationError

TYPES, HOPS = ['exist', 'count', 'exist', 'status'] * 10, [0, 1] * 20
SCENES = [f'scene-{place // 5}' for place in range(40)]


@pytest.fixture
def few_draws(monkeypatch) -> None:
    """Make rough intervals, quickly."""
    monkeypatch.setattr(study_report, 'DRAWS', 100)


def result(seed: int, rows: tuple[str, ...] = tuple(ROWS)) -> dict:
    """As Study.run_seed gives it: row number r is right r times in 13."""
    rng = np.random.default_rng(seed)
    right = {row: (rng.random(40) * 13 < place).astype(int).tolist() for place, row in enumerate(rows)}
    return {'seed': seed, 'scenes': SCENES, 'types': TYPES, 'hops': HOPS, 'right': right, 'training': {}}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 5), min_size=1, max_size=40), st.randoms())
def test_the_interval_holds_the_mean_and_what_can_be(seeds, scenes, random):
    right = np.array([[random.randrange(2) for _ in scenes] for _ in range(seeds)], float)
    found = figure(right, np.array(scenes))
    assert found.mean == pytest.approx(100 * right.mean()) and found.n == len(scenes)
    low, high = found.ci95
    assert 0 <= low <= high <= 100
    if len(set(scenes)) == seeds == 1:
        assert low == pytest.approx(found.mean) and high == pytest.approx(found.mean)


def test_all_right_or_all_wrong_leaves_no_doubt():
    for value in (0., 1.):
        found = figure(np.full((3, 8), value), np.arange(8) // 2)
        assert (found.mean, found.ci95) == (100 * value, (100 * value, 100 * value))


def test_questions_of_one_scene_hang_together():
    apart = figure(np.array([[0., 1.] * 50]), np.arange(100))
    together = figure(np.array([[0.] * 50 + [1.] * 50]), np.arange(100) // 10)
    assert apart.mean == together.mean == 50
    assert np.diff(together.ci95) > 2 * np.diff(apart.ci95)


def test_seeds_that_differ_widen_the_interval():
    scenes = np.arange(100)
    even = figure(np.array([[0., 1.] * 50, [1., 0.] * 50]), scenes)
    uneven = figure(np.array([[0.] * 100, [1.] * 100]), scenes)
    assert even.mean == uneven.mean == 50 and uneven.ci95 == (0, 100) and even.ci95 != (0, 100)


def test_a_normal_interval_comes_close_where_questions_are_independent():
    rng = np.random.default_rng(1)
    found = figure((rng.random((1, 900)) < .7).astype(float), np.arange(900))
    assert np.diff(found.ci95)[0] == pytest.approx(2 * 196 * np.sqrt(.21 / 900), rel=.1)


def test_the_json_has_every_row_with_mean_interval_and_number(few_draws):
    report = StudyReport.of([result(0), result(1)])
    written = json.loads(report.to_json())
    assert written.pop('seeds') == [0, 1]
    assert written.keys() == ROWS.keys()
    for row, entry in written.items():
        assert {'mean', 'ci95', 'n'} <= entry.keys() and entry['n'] == 40
        assert entry['ci95'][0] <= entry['mean'] <= entry['ci95'][1]
        assert entry['mean'] == round(report.overall[row].mean, 2)
        assert set(entry['by_type']) == set(TYPES) and set(entry['by_hops']) == {'0', '1'}
    share = np.mean([result(seed)['right']['camera_day'][place] for seed in (0, 1) for place in range(40)
                     if TYPES[place] == 'count'])
    assert written['camera_day']['by_type']['count'] == pytest.approx(100 * share, abs=.01)


def test_the_table_has_a_line_a_row_and_a_column_a_kind(few_draws):
    lines = StudyReport.of([result(0)]).table().splitlines()
    assert len(lines) == 2 + len(ROWS) and {line.count('|') for line in lines} == {8}
    assert lines[0] == '| answers | right, % | count | exist | status | 0 hop | 1 hop |'
    assert str(Figure(51.26, (40., 60.04), 9)) == '51.3 [40.0, 60.0]'


def test_rows_that_only_some_seeds_have_are_left_out_and_further_ones_kept():
    rows = ('blind', 'radar_fog')
    report = StudyReport.of([result(0, rows), result(1, (*rows, 'majority'))])
    assert list(report.overall) == ['blind', 'radar_fog']
    assert '| radar fog |' in report.table()


def test_seeds_of_different_questions_are_not_put_together():
    with pytest.raises(ConfigurationError, match='different questions'):
        StudyReport.of([result(0), {**result(1), 'types': TYPES[::-1]}])
