"""The page of a study from made-up results."""
from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from PIL import Image

from bench.study.report import ROWS

pytest.importorskip('matplotlib', reason='matplotlib is not installed: nothing can be drawn')
from bench.study.page import write_page

REPORT = {'steps': 500, 'seconds': 90., 'parameters': 1_250_000, 'macs_per_step': 3_400_000_000,
          'peak_bytes': 2_100_000_000, 'accuracies': [[125, .2], [250, .4], [500, .6]]}
CONFIG = SimpleNamespace(questions=SimpleNamespace(max_distance=30., min_points=5), link={'last': 2},
                         language_model='tiny', blind=SimpleNamespace(steps=7),
                         objects=SimpleNamespace(reader=SimpleNamespace(word_steps=11, number_steps=13)),
                         sensors=SimpleNamespace(part='trust'))


def result(seed: int, training: dict) -> dict:
    """As Study.run_seed gives it."""
    return {'seed': seed, 'scenes': ['a', 'a', 'b'], 'types': ['exist', 'count', 'exist'], 'hops': [0, 1, 0],
            'right': {row: [1, 0, seed % 2] for row in ROWS}, 'training': training}


def test_page_figures_and_picture_are_written(tmp_path):
    results = [result(0, {'objects': REPORT, 'sensors': {**REPORT, 'accuracies': []}}), result(1, {})]
    page = write_page(results, CONFIG, tmp_path / 'docs')
    text = page.read_text()
    assert page == tmp_path / 'docs/accuracy.md' and '{' not in text
    assert '3 questions on 2 held-out scenes' in text and 'seeds: 2.' in text and 'up to 30 m' in text
    assert '11 steps on texts' in text
    assert '| objects, seed 0 | 500 | 0.18 | 1.5 | 1.25 | 3.4 | 2.10 |' in text
    assert json.loads((page.parent / 'accuracy.json').read_text())['camera_day']['mean'] == 50
    with Image.open(page.parent / 'accuracy.png') as picture:
        assert picture.width > 1000 and len(picture.convert('RGB').getcolors(1 << 20)) > 20


@pytest.mark.parametrize('training', [{}, {'objects': {**REPORT, 'accuracies': []}}])
def test_runs_without_learning_curves_have_a_page_too(tmp_path, training):
    assert write_page([result(0, training)], CONFIG, tmp_path).is_file()
