"""Means over seeds in a table, as JSON and as a page."""
from __future__ import annotations

import json
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bench.common import accuracy
from bench.study.report import ROWS, StudyReport, write_report
from mpnp_ros.errors import ConfigurationError

TYPES, HOPS = ['exist', 'count', 'exist', 'status'] * 10, [0, 1] * 20
SCENES = [f'scene-{place // 5}' for place in range(40)]
REPORT = {'steps': 500, 'seconds': 90., 'parameters': 1_250_000, 'macs_per_step': 3_400_000_000,
          'peak_bytes': 2_100_000_000, 'accuracies': [[125, .2], [250, .4], [500, .6]]}
CONFIG = SimpleNamespace(questions=SimpleNamespace(max_distance=30., min_points=5), link={'last': 2},
                         language_model='tiny', blind=SimpleNamespace(steps=7),
                         objects=SimpleNamespace(reader=SimpleNamespace(word_steps=11, number_steps=13)),
                         sensors=SimpleNamespace(part='trust'))


@pytest.fixture
def few_draws(monkeypatch) -> None:
    """Make rough intervals, quickly."""
    monkeypatch.setattr(accuracy, 'DRAWS', 100)


def result(seed: int, rows: tuple[str, ...] = tuple(ROWS)) -> dict:
    """As Study.run_seed gives it: row number r is right r times in 13."""
    rng = np.random.default_rng(seed)
    right = {row: (rng.random(40) * 13 < place).astype(int).tolist() for place, row in enumerate(rows)}
    return {'seed': seed, 'scenes': SCENES, 'types': TYPES, 'hops': HOPS, 'right': right, 'training': {}}


def test_the_json_has_every_row_with_mean_interval_and_number(few_draws):
    report = StudyReport.of([result(0), result(1)])
    written = json.loads(json.dumps(report.as_dict()))
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


def test_rows_that_only_some_seeds_have_are_left_out_and_further_ones_kept():
    rows = ('blind', 'radar_fog')
    report = StudyReport.of([result(0, rows), result(1, (*rows, 'majority'))])
    assert list(report.overall) == ['blind', 'radar_fog']
    assert '| radar fog |' in report.table()


def test_seeds_of_different_questions_are_not_put_together():
    with pytest.raises(ConfigurationError, match='different questions'):
        StudyReport.of([result(0), {**result(1), 'types': TYPES[::-1]}])


def few_answers(seed: int, training: dict) -> dict:
    """Results of three questions."""
    return {'seed': seed, 'scenes': ['a', 'a', 'b'], 'types': ['exist', 'count', 'exist'], 'hops': [0, 1, 0],
            'right': {row: [1, 0, seed % 2] for row in ROWS}, 'training': training}


@pytest.mark.skipif(find_spec('matplotlib') is None, reason='matplotlib is not installed')
def test_page_figures_and_picture_are_written(tmp_path):
    results = [few_answers(0, {'objects': REPORT, 'sensors': {**REPORT, 'accuracies': []}}),
               few_answers(1, {})]
    page = write_report(results, CONFIG, tmp_path / 'docs')
    text = page.read_text()
    assert page == tmp_path / 'docs/accuracy.md' and '{' not in text
    assert '3 questions on 2 held-out scenes' in text and 'seeds: 2.' in text and 'up to 30 m' in text
    assert '11 steps on texts' in text
    assert '| objects, seed 0 | 500 | 0.18 | 1.5 | 1.25 | 3.4 | 2.10 |' in text
    assert json.loads((page.parent / 'accuracy.json').read_text())['camera_day']['mean'] == 50
    with Image.open(page.parent / 'accuracy.png') as picture:
        assert picture.width > 1000 and len(picture.convert('RGB').getcolors(1 << 20)) > 20


@pytest.mark.skipif(find_spec('matplotlib') is None, reason='matplotlib is not installed')
@pytest.mark.parametrize('training', [{}, {'objects': {**REPORT, 'accuracies': []}}])
def test_runs_without_learning_curves_have_a_page_too(tmp_path, training):
    assert write_report([few_answers(0, training)], CONFIG, tmp_path).is_file()
