"""The page about the drives, from drives made up."""
from __future__ import annotations

import json
import math

import pytest

from bench.adaptation_drive.page import BIN, MIN_IN_BIN, binned, cost_of, measured, write_report
from bench.continual import table


def run(supervision: str, seed: int) -> dict:
    """A drive in which the LiDAR is plugged in after 100 s, and used after 20, trained after 60 more."""
    moments = [{'seconds': 10. * n, 'phase': 'plugged', 'light': 'night', 'right': [n % 2 == 0] * 40,
                'guessed': [True] * 40, 'latency': [.1 if n < 12 else .15] * 40, 'training': [n >= 12] * 40,
                'used': ['lidar']} for n in range(20)]
    events = [(30., 'phase', 'night, camera'), (34., 'state', 'camera degraded'),
              (100., 'phase', 'night, a LiDAR is plugged in'), (120., 'links', 'lidar 000001'),
              (180., 'links', 'lidar 000002')]
    costs = {'supervision': supervision, 'seconds': 55., 'steps': 70, 'macs': 2e12, 'memory': 8e8,
             'start_accuracy': .6, 'accuracy': .7}
    return {'seed': seed, 'supervision': supervision, 'moments': moments, 'skipped': 0,
            'events': [dict(zip(('seconds', 'kind', 'text'), event, strict=True)) for event in events],
            'adaptations': [{**costs, 'steps': 0, 'macs': 1e12}, costs],
            'phases': {'plugged': {'title': 'night', 'asked': 800, 'right': 400, 'guessed': 800}}}


class Held:
    """Links that answer the better the more they were trained."""

    def shipped(self, modality: str, light: str) -> float:
        return {('camera', 'day'): 58., ('camera', 'night'): 50., ('lidar', 'night'): 62.}[modality, light]

    def adapted(self, seed: int, supervision: str) -> dict[str, float]:
        return {'000001': 58. + seed, '000002': (61. if supervision == 'labelled' else 60.) + seed}


@pytest.fixture
def runs() -> list[dict]:
    return [run(supervision, seed) for supervision in ('labelled', 'distilled') for seed in (0, 1)]


def test_costs_count_from_the_moment_the_sensor_was_plugged_in(runs):
    cost = cost_of(runs[0])
    assert (cost['degraded'], cost['tried'], cost['trained']) == (4., 20., 80.)
    assert (cost['steps'], cost['tmacs'], cost['memory_mb']) == (70, 3., 800.)
    assert cost['training_p95'] / cost['idle_p95'] == pytest.approx(1.5)
    assert cost['asked_in_training'] == 8 * 40


def test_what_never_happened_has_no_time(runs):
    lost = {**runs[0], 'events': [event for event in runs[0]['events'] if event['kind'] != 'links']}
    assert math.isnan(cost_of(lost)['tried']) and math.isnan(cost_of(lost)['trained'])


def test_answers_are_taken_together_by_time(runs):
    middles, shares = binned(runs[:2])
    assert middles[0] == -100 + BIN / 2 and {share.n for share in shares} == {160}
    assert all(share.value == .5 and share.n >= MIN_IN_BIN for share in shares)


def test_page_says_what_training_changed(runs, tmp_path):
    page = write_report(runs, Held(), tmp_path, 'a machine', 2398, 'It was busy.').read_text()
    assert measured(runs, Held())['tried'] == [58., 59.]
    for text in ('and answer 8.5 points more than the camera',
                 'by +3.0 points, teaching by the camera by +2.0', 'were, by +3.5.',
                 '| LiDAR at night: trained on labels | 61.5 (61.0, 62.0) |',
                 '| camera by day | 58.0 |', 'It was busy.',
                 '| labelled, drive 0 | 20 | 80 | 70 | 3.00 | 800 | 100 | 150 (n = 320) | 1.50 |',
                 '| labelled | night | 50.0 % of 1600 | 100.0 % |'):
        assert text in page
    assert json.loads((tmp_path / 'adaptation.json').read_text())['accuracy']['offline'] == [62.]
    assert (tmp_path / 'adaptation.png').stat().st_size > 10_000


def test_table_of_adaptations_in_a_row_has_means_and_differences():
    results = {str(seed): {'not trained': {'camera': 50. + seed, 'camera+lidar': 55.},
                           'in a row': {'camera': 50. + seed, 'camera+lidar': 60.},
                           'jointly': {'camera': 52., 'camera+lidar': 59.}} for seed in (0, 2)}
    assert table(results).splitlines()[2:] == ['| camera | 51.0 | 51.0 | 52.0 | -1.0 |',
                                               '| camera + lidar | 55.0 | 60.0 | 59.0 | +1.0 |']
