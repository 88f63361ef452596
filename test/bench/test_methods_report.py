"""What the benchmark of methods plans, counts, concludes and shows; made-up results, no model."""
from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.methods.data import BenchData
from bench.methods.page import text_of, write_report
from bench.methods.plan import BLIND, MethodPlan, MethodsConfig, Task
from bench.methods.report import COSTS, MethodsReport, Yardsticks
from bench.methods.train import AdaptationCost, Curve, curve_steps
from bench.study.study import StudyConfig
from mpnp_ros.errors import BudgetError, ConfigurationError
from mpnp_ros.files import shared_file
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import SECTORS, ModalityTokens, sector_azimuths
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.trainer import TrainingStep

COUNTS = np.array([1, 2, 3, 4, 5, 6, 7, 8])
CONFIG = MethodsConfig({name: MethodPlan() for name in ('mpnp', 'mpnp_eas', 'mma', 'full_llm')},
                       ours=('mpnp', 'mpnp_eas'), without_skipping={'mpnp_eas': 'mpnp'})


def counted(scene: int) -> ModalityTokens:
    """Tokens of a scene in which there are so many cars straight ahead."""
    values = np.zeros((SECTORS, len(CHANNELS)), np.float32)
    values[0, next(at for at, (category, _) in enumerate(CHANNELS) if category == 'car')] = COUNTS[scene]
    return ModalityTokens('lidar', 'encoder', values, sector_azimuths())


@pytest.fixture(scope='module')
def data() -> BenchData:
    """Eight scenes with one question each, which the rule answers."""
    choices = tuple(map(str, range(11)))
    frames = {f'scene-{scene}/sample/000': {'lidar': counted(scene)} for scene in range(8)}
    examples = tuple(Example('How many cars are there?', str(COUNTS[scene]), choices, 'count', 0, key)
                     for scene, key in enumerate(frames))
    part = TokenDataset(frames, examples)
    return BenchData(part, part, part, 1)


def result(row: str, seed: int, right: int, curve: list[list[float]]) -> dict:
    """What a run writes that answers the first so many of eight questions."""
    return {'row': row, 'seed': seed, 'right': [1] * right + [0] * (8 - right), 'steps': 3,
            'curve': [[*point, 100 * place] for place, point in enumerate(curve, 1)], 'learning_rate': .001,
            'batch': 4, 'parameters': 10, 'macs': dict.fromkeys(COSTS, curve[-1][0] / len(COSTS)),
            'seconds': 60., 'peak_bytes': 1_000_000, 'beforehand': 3e12 * (row == 'mpnp_eas')}


def results(ours: int = 8, peer: int = 2, ends: float = .5) -> list[dict]:
    """Of two seeds; ours reaches .5 of the curve's questions at its second point, after 2e12."""
    curves = {'mpnp': [[1e12, .1], [2e12, .5], [10e12, .75]], 'full_llm': [[5e12, .2], [10e12, ends]]}
    right = {'mpnp': ours, 'full_llm': peer}
    return [result(row, seed, right[row], curves[row]) for row in curves for seed in (0, 1)]


def report_of(found: list[dict], data: BenchData, **more: object) -> MethodsReport:
    """The report, without times of answers and failures unless given."""
    return MethodsReport.of(found, data, CONFIG, more.get('answering', {}), more.get('failed', {}))


def test_ours_comes_first_and_is_compared_with_those_that_are_not_ours(data):
    found = [*results(), *(result('mpnp_eas', seed, 8, [[1e12, .9]]) for seed in (0, 1))]
    report = report_of(found, data)
    assert [row.name for row in report.rows] == ['mpnp', 'mpnp_eas', 'full_llm']
    assert set(report.ahead) == {'full_llm'} and report.blind is None
    assert report.ahead['full_llm'].mean == pytest.approx(75)


def test_a_difference_is_between_answers_to_the_same_questions(data):
    same = report_of(results(ours=5, peer=5), data).ahead['full_llm']
    assert same.mean == 0 and same.ci95 == (0, 0)


def test_seeds_that_only_one_has_are_not_compared(data):
    found = [result for result in results() if (result['row'], result['seed']) != ('full_llm', 1)]
    found[1] = {**found[1], 'right': [0] * 8}
    report = report_of(found, data)
    assert report.ahead['full_llm'].mean == pytest.approx(75) and report.rows[0].accuracy.mean == 50


def test_ours_is_as_good_as_the_best_peer_at_the_first_point_from_which_it_stays_so(data):
    reach = report_of(results(), data).reach
    assert (reach.peer, reach.percent, reach.macs) == ('full_llm', 50, 2e12)
    assert reach.share == pytest.approx(.2)
    never = report_of(results(ends=.8), data)
    assert never.reach.macs is None and never.reach.share is None
    assert 'does not end as good' in text_of(never, CONFIG)
    lucky = [result('mpnp', 0, 8, [[1e12, .5], [2e12, .4], [3e12, .6], [10e12, .75]]), *results()[2:],
             result(BLIND, 0, 1, [[10e12, .3]])]
    reach = report_of(lucky, data).reach
    assert (reach.macs, reach.blind) == (3e12, 30)


def test_what_was_learned_is_told_at_equal_operations_and_questions(data):
    ours, peer = report_of(results(), data).rows
    assert (peer.after_macs(9e12), peer.after_macs(1e13)) == (20, 50) and math.isnan(peer.after_macs(1e12))
    assert (ours.after_questions(250), ours.after_questions(300)) == (50, 75)
    assert (ours.macs_to(40), ours.macs_to(80), peer.macs_to(50)) == (2e12, None, 1e13)
    page = text_of(report_of(results(), data), replace(CONFIG, targets=(40., 80.), rates=(.01, .003)))
    assert '| mpnp | 0.001 | 75.0 | 75.0 | 75.0 | 10.00 | 300 | 2.00 | - |' in page
    assert '| full_llm | 0.001 | 50.0 | 50.0 | 50.0 | 10.00 | 200 | 10.00 | - |' in page
    assert '0.01, 0.003 for 40 steps' in page


def test_the_first_line_says_who_is_better(data):
    page = text_of(report_of(results(), data), CONFIG)
    assert page.splitlines()[2] == '**No published method is clearly better than `mpnp` at the end.**'
    worse = text_of(report_of(results(ours=2, peer=8), data), CONFIG)
    assert worse.splitlines()[2].startswith('**Better than `mpnp` at the end: `full_llm` by 75.0 points [')


def test_a_task_is_described_and_needs_no_study(data):
    task = Task(types=('exist', 'count'), directions=False, most_objects=8)
    page = text_of(report_of(results(), data), replace(CONFIG, task=task, modality='objects'))
    assert 'true objects (exist, count), without directions, in frames with' in page
    assert 'at most 8 objects within 30 m; 8 to train on' in page and '--study' not in page


def test_what_was_done_once_for_the_model_is_told_beside(data):
    found = [*results(), *(result('mpnp_eas', seed, 8, [[1e12, .9]]) for seed in (0, 1))]
    report = report_of(found, data)
    assert [row.beforehand for row in report.rows] == [0, 3e12, 0]
    assert '`mpnp_eas` took 3.00 TMAC beforehand' in text_of(report, CONFIG)


def test_yardsticks_are_the_rule_and_the_most_frequent_answer(data):
    yardsticks = Yardsticks.of(data, 'lidar')
    assert yardsticks.rule.mean == yardsticks.rule_curve == 100
    assert yardsticks.majority.mean == yardsticks.majority_curve == 12.5


def test_the_page_says_what_was_found(data, tmp_path):
    pytest.importorskip('matplotlib', reason='matplotlib is not installed: nothing can be drawn')
    found = [*results(), *(result(BLIND, seed, 1, [[1e12, .1], [2e12, .2]]) for seed in (0, 1))]
    report = report_of(found, data, failed={'mma, seed 0': 'no memory'})
    page = write_report(report, CONFIG, tmp_path).read_text()
    assert '`mpnp` minus `full_llm`: +75.0 points' in page and ', more.' in page
    assert 'from 2.00 TMAC on, 0.20 of that, `mpnp` is never below' in page
    assert '- mma, seed 0: no memory' in page and 'Skipped attention' not in page
    assert all(f'| {name} |' in page for name in ('mpnp', 'full_llm', BLIND, 'rule', 'majority'))
    written = json.loads((tmp_path / 'methods.json').read_text())
    assert written['reach']['share'] == pytest.approx(.2) and BLIND in written['rows']
    assert (tmp_path / 'methods.png').stat().st_size > 10_000


def test_skipping_is_shown_folded_and_not_and_beside_the_same_without(data):
    times = {'count': 9, 'p50': 1., 'p95': 2.}
    forms = [{'row': row, 'form': form, 'right': [1, 0, 0, 0], 'frame': times, 'question': times}
             for row, form in (('mpnp', ''), ('mpnp_eas', 'folded'), ('mpnp_eas', 'unfolded'))]
    found = [*results(), result('mpnp_eas', 0, 2, [[1e12, .9]])]
    page = text_of(report_of(found, data, answering={'forms': forms, 'folding': {'mpnp_eas': 3e-7}}), CONFIG)
    section = page[page.index('## Skipped attention'):]
    assert [line.split(' | ')[0] for line in section.splitlines() if line.startswith('| mp')] == [
        '| mpnp_eas, folded', '| mpnp_eas, unfolded', '| mpnp, nothing skipped']
    assert 'differ by at most 3.0e-07' in section and '| 25.0 |' in section and '| 100.0 |' in section


@given(st.integers(1, 10_000), st.integers(1, 12), st.integers(1, 300))
def test_points_of_a_curve_lie_within_the_training_and_end_with_it(steps, points, avoided):
    placed = curve_steps(steps, points, avoided)
    assert len(placed) == points and placed[-1] == steps and min(placed) >= 1
    assert all(step == steps or step % avoided or avoided == 1 for step in placed)


def test_points_of_a_curve_are_denser_at_the_beginning():
    assert curve_steps(640, 7, 1000) == [10, 20, 40, 80, 160, 320, 640]


@given(st.floats(1, 1e6), st.integers(1, 500))
def test_a_budget_is_used_up_and_never_exceeded(budget, most):
    cost = AdaptationCost(encoders=90, reader=10, reading=200, calibration=50, step=9, optimiser=1)
    if budget < cost.at(1):
        with pytest.raises(BudgetError, match='increase the budget'):
            cost.steps_within(budget, most)
    else:
        steps = cost.steps_within(budget, most)
        assert cost.at(steps) <= budget and (steps == most or cost.at(steps + 1) > budget)


def test_a_curve_goes_on_with_what_was_measured_before(tmp_path):
    asked, path = iter((.25, .5)), tmp_path / 'curve.json'
    for steps in ((1, 2), (3, 4)):
        curve = Curve(path, (2, 4), lambda: next(asked), lambda step, value: None)
        for step in steps:
            curve(TrainingStep(step, 4, 1., None))
    assert curve.values == {2: .25, 4: .5}
    curve.complete(4)
    assert curve.values == {2: .25, 4: .5}


def test_a_run_that_was_killed_at_its_last_point_ends_all_the_same(tmp_path):
    Curve(tmp_path / 'curve', (2, 4), lambda: .25, lambda step, value: None)(TrainingStep(2, 4, 1., None))
    curve = Curve(tmp_path / 'curve', (2, 4), lambda: .5, lambda step, value: None)
    curve.complete(4)
    assert curve.values == {2: .25, 4: .5}
    assert Curve(tmp_path / 'curve', (), lambda: 0., lambda step, value: None).values == curve.values


@pytest.mark.parametrize('name', ['methods_objects', 'methods_lidar'])
def test_the_shipped_recipes_make_our_links_as_the_study_does(name):
    config = MethodsConfig.load(shared_file(f'bench/methods/{name}.yaml'))
    study, ours = StudyConfig.load(shared_file('bench/study/study.yaml')), config.methods[config.ours[0]]
    assert {**study.link, 'harmonics': 8, 'additive': True} == ours.link, 'measured before links counted'
    assert set(config.methods) >= {'mpnp_published', 'prompt_fuse', 'ep_alm', 'mma', 'eas', 'full_llm'}
    assert (config.name, len(config.seeds)) == (name, 3)


@pytest.mark.parametrize('more, word', [
    ({'colour': 1}, 'colour'), ({'methods': {'mpnp': {'pace': 2}}}, 'pace'),
    ({'methods': 3}, 'methods must be a mapping'),
    ({'budget': 'much'}, 'much'), ({'points': 0}, 'points'), ({'ours': ['telepathy']}, 'telepathy')])
def test_a_wrong_recipe_is_named(tmp_path, more, word):
    path = tmp_path / 'methods.yaml'
    path.write_text(yaml.safe_dump({'methods': {'mpnp': None}, **more}))
    with pytest.raises(ConfigurationError, match=word):
        MethodsConfig.load(path)
