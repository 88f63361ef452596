"""The benchmark of methods on a tiny model and made-up tokens: real trainings in real processes."""
from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

pytest.importorskip('matplotlib', reason='matplotlib is not installed: nothing can be drawn')

from bench.methods import __main__ as methods
from bench.methods.data import BenchData, distinct_frames, identity, prepare_data
from bench.methods.plan import BLIND, MethodPlan, MethodsConfig, Run, Task
from bench.methods.train import CHECKPOINT, MethodTraining
from bench.study.study import TestSet as StudyTest
from mpnp_ros.errors import DatasetError
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.modalities.head_training import PretrainingConfig
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.encoder import PolarEncoder
from mpnp_ros.modalities.lidar.registration import LidarInput
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.options import OptionError
from mpnp_ros.questions.generator import Scope, scene_questions
from mpnp_ros.questions.rule import parse_question
from mpnp_ros.questions.vocabulary import ANSWERS, CHANNELS
from mpnp_ros.tokens import SECTORS, ModalityTokens, sector_azimuths
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.head_run import new_head
from mpnp_ros.training.key_frames import scene_of
from mpnp_ros.training.reader_trainer import ReaderTraining
from mpnp_ros.training.true_objects import OBJECTS
from mpnp_world.dataset.objects_only import scene_key_frames
from mpnp_world.standin import write_standin

SMALL = {'last': 2, 'hidden': 16, 'pooling_width': 16, 'pooling_layers': 1, 'pooling_heads': 2, 'entries': 2,
         'harmonics': 4, 'additive': True}
RECIPE = {
    'budget': 1e9, 'max_steps': 6, 'test': 40, 'curve': 15, 'curve_scenes': 1, 'points': 3, 'seeds': [1],
    'texts': 30, 'ours': ['mpnp'], 'without_skipping': {'eas': 'mpnp'},
    'methods': {'mpnp': {'batch': 8, 'checkpoint_every': 2, 'link': SMALL},
                'eas': {'batch': 4, 'link': {'columns': 12, 'hidden': 16, 'rank': 4, 'skipped_rank': 4}},
                'mpnp_published': {'link': {'last': 99}}}}
TRAINED = ('mpnp', 'eas', BLIND)


def asked_about(seeds: range, encoder: str, light: str = 'night') -> TokenDataset:
    """Questions about scenes of the world, whose tokens are random counts of 72 sectors."""
    frames, examples, conditions = {}, [], {}
    for seed in seeds:
        for frame in scene_key_frames(seed, frames=2):
            key = f'world-{seed:04d}-{light}-clear/{frame.token}/000'
            values = np.random.default_rng(len(frames)).exponential(.1, (SECTORS, len(CHANNELS)))
            tokens = ModalityTokens('lidar', encoder, values.astype(np.float32), sector_azimuths())
            frames[key], conditions[key] = {'lidar': tokens}, (light, 'clear')
            examples += [Example(question.text, question.answer, ANSWERS, question.type, question.hops, key)
                         for question in scene_questions(frame, per_kind=6,
                                                         scope=Scope(30., 1, anchors=False))]
    return TokenDataset(frames, tuple(examples), conditions)


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """What the benchmark takes from a study: questions by day and at night, a test at night, an encoder."""
    encoder = PolarEncoder(LidarConfig(backbone='polar'),
                           new_head(LidarInput(), PretrainingConfig(hidden=4, ring=16, depth=1)))
    root = NuScenes(write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, key_frames=1))
    night = asked_about(range(4), encoder.fingerprint)
    day = asked_about(range(1), encoder.fingerprint, 'day')
    test = asked_about(range(10, 12), encoder.fingerprint)
    return SimpleNamespace(
        config=SimpleNamespace(), encoders={'lidar': encoder},
        root=lambda name: root, test=StudyTest(test.examples, {'night': test.frames}),
        sensor_training=TokenDataset({**night.frames, **day.frames}, night.examples + day.examples,
                                     {**night.conditions, **day.conditions}))


@pytest.fixture(scope='module')
def config(tmp_path_factory, tiny_lm_folder):
    """The recipe from a file, and the file."""
    path = tmp_path_factory.mktemp('recipe') / 'methods.yaml'
    path.write_text(yaml.safe_dump({**RECIPE, 'language_model': str(tiny_lm_folder)}))
    return SimpleNamespace(path=path, read=MethodsConfig.load(path))


@pytest.fixture(scope='module')
def data(study, config, own_cache) -> BenchData:
    """What all methods are trained and tested on."""
    return BenchData.of_study(study, config.read)


@pytest.fixture(scope='module')
def bench(study, config, tmp_path_factory, own_cache):
    """The whole program, once; gives its exit code, its folders, and a function that runs it again."""
    folder = tmp_path_factory.mktemp('bench')

    def run(*more: str) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(methods, 'study_of', lambda *_: study)
            return methods.main(['--study', str(folder), '--work', str(folder / 'work'), '--config',
                                 str(config.path), '--output', str(folder / 'docs'), *more])
    return SimpleNamespace(code=run(), folder=folder, run=run,
                           written=json.loads((folder / 'docs/methods.json').read_text()))


def results(bench) -> list[dict]:
    """What the runs wrote."""
    return [json.loads(path.read_bytes()) for path in bench.folder.glob('work/runs/*/result.json')]


def test_no_scene_of_the_curve_or_the_light_of_day_is_trained_on(data, study, config):
    trained, curve, test = ({scene_of(example.frame) for example in part.examples}
                            for part in (data.train, data.curve, data.test))
    assert trained == {f'world-000{seed}-night-clear' for seed in range(3)}
    assert curve == {'world-0003-night-clear'} and not test & trained
    assert len({example.question for example in data.train.examples}) == config.read.texts
    assert 0 < len(data.curve.examples) <= 15 and 0 < len(data.test.examples) <= 40
    assert distinct_frames(data.train, 'lidar') <= 6 and data.encoder_macs > 0


def test_data_are_made_once_and_come_back_the_same(study, config, data, tmp_path, monkeypatch):
    folder = prepare_data(study, config.read, tmp_path / 'data')
    monkeypatch.setattr(BenchData, 'of_study', None)
    again = BenchData.load(prepare_data(study, config.read, folder))
    for name in ('train', 'curve', 'test'):
        assert getattr(again, name).examples == getattr(data, name).examples
    assert again.encoder_macs == data.encoder_macs
    assert distinct_frames(again.train, 'lidar') == distinct_frames(data.train, 'lidar')


TASK = Task(types=('exist', 'object'), directions=False, most_objects=12, train=(0, 8), curve=(8, 14),
            test=(14, 20), key_frames=4, per_kind=20, of_each_type=60)


def test_a_task_asks_what_it_describes(tmp_path):
    config = MethodsConfig({'mpnp': MethodPlan()}, ours=('mpnp',), task=TASK, modality=OBJECTS, test=40)
    data = BenchData.load(prepare_data(None, config, tmp_path / 'data'))
    for part, limit in ((data.train, 60), (data.test, 20)):
        meanings = [parse_question(example.question) for example in part.examples]
        assert all(meaning and meaning.direction is None for meaning in meanings)
        assert {meaning.type for meaning in meanings} <= {'exist', 'object'}
        assert all(part.frames[example.frame][OBJECTS].count <= 12 for example in part.examples)
        assert max(Counter(example.type for example in part.examples).values()) <= limit
    scenes = [{scene_of(example.frame) for example in part.examples}
              for part in (data.train, data.curve, data.test)]
    assert all(scenes) and not scenes[0] & scenes[1] and not scenes[1] & scenes[2]
    assert data.encoder_macs == 0
    with pytest.raises(DatasetError, match='have no question of the task'):
        prepare_data(None, replace(config, task=replace(TASK, types=('comparison',))), tmp_path / 'none')


@pytest.mark.parametrize(('wrong', 'said'), [
    ({'types': ['exist'], 'train': [0, 9], 'test': [8, 12]}, 'train and test overlap'),
    ({'types': ['exist'], 'curve': [9, 9]}, 'curve has no scenes from 9 to 9'),
    ({'types': ['exits']}, 'one of exist, count')])
def test_a_task_that_cannot_be_asked_is_refused(wrong, said):
    with pytest.raises(OptionError, match=said):
        MethodsConfig.from_mapping({**RECIPE, 'modality': OBJECTS, 'task': wrong})


def test_a_task_is_of_true_objects_and_what_is_no_task_needs_a_study(config, tmp_path, capsys):
    with pytest.raises(OptionError, match='about objects; leave modality lidar out'):
        MethodsConfig.from_mapping({**RECIPE, 'modality': 'lidar', 'task': {'types': ['exist']}})
    assert methods.main(['--work', str(tmp_path), '--config', str(config.path)]) == methods.FAILED
    assert 'give --study' in capsys.readouterr().err


@pytest.fixture
def training(study, config, data, tiny_lm_folder):
    """Give a function: row -> its training with so many steps, always the same."""
    def make(row: str = 'mpnp', method: str = 'mpnp', plan: MethodPlan | None = None,
             rates: tuple[float, ...] = ()) -> MethodTraining:
        plan = plan or MethodPlan(link=SMALL, batch=4, checkpoint_every=2)
        run = Run(row, method, 0, plan, 'lidar', 1e9, 7, 3, .1, str(tiny_lm_folder),
                  identity(study, config.read), rates, 6)
        return MethodTraining(run, data, load_language_model(str(tiny_lm_folder)))
    return make


def stopping_after(count: int):
    """Give a function that says yes when it was asked that often."""
    asked = iter(range(10 ** 9))
    return lambda: next(asked) >= count


def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(training, tmp_path):
    for name in ('whole', 'stopped'):
        (tmp_path / name).mkdir()
    whole = training().work(tmp_path / 'whole', lambda: False)
    assert training().work(tmp_path / 'stopped', stopping_after(4)) is None
    assert (tmp_path / 'stopped' / CHECKPOINT).is_dir()
    again = training().work(tmp_path / 'stopped', lambda: False)
    measured = ('right', 'curve', 'macs', 'steps', 'parameters')
    assert {name: again[name] for name in measured} == {name: whole[name] for name in measured}
    assert whole['steps'] == 7 and len(whole['curve']) == 3


def test_a_rate_is_chosen_by_short_trainings_of_the_same_link(training, tmp_path):
    """The lowest loss wins; one that is not finite is the worst."""
    result = training(rates=(1e-9, 3e-3, 1e30)).work(tmp_path, lambda: False)
    losses = json.loads((tmp_path / 'rates.json').read_text())
    assert result['learning_rate'] == 3e-3 and losses[1] < losses[0] < losses[2] == math.inf
    for name in ('alone', 'stopped'):
        (tmp_path / name).mkdir()
    alone = training(plan=MethodPlan(link=SMALL, batch=4, checkpoint_every=2, learning_rate=3e-3)).work(
        tmp_path / 'alone', lambda: False)
    assert (alone['curve'], alone['macs']) == (result['curve'], result['macs'])
    rates = (1e-9, 3e-3, 1e30)
    assert training(rates=rates).work(tmp_path / 'stopped', stopping_after(9)) is None
    assert len(json.loads((tmp_path / 'stopped/rates.json').read_text())) == 1
    assert training(rates=rates).work(tmp_path / 'stopped', lambda: False)['curve'] == result['curve']


@pytest.mark.parametrize(('row', 'method', 'reader'), [('mpnp', 'mpnp', True), (BLIND, 'mpnp', False)])
def test_trials_of_rates_leave_a_link_as_it_was(training, tmp_path, row, method, reader):
    """One that counts keeps its reader; the blind have learned constants."""
    plan = COUNTING if reader else MethodPlan(link=SMALL, batch=4, checkpoint_every=2)
    for name in ('searched', 'given'):
        (tmp_path / name).mkdir()
    searched = training(row, method, plan, (1e-3,)).work(tmp_path / 'searched', lambda: False)
    given = training(row, method, replace(plan, learning_rate=1e-3)).work(tmp_path / 'given', lambda: False)
    assert searched['curve'] == given['curve'] and searched['right'] == given['right']


def test_the_end_of_the_curve_is_the_whole_cost(training, tmp_path):
    result = training().work(tmp_path, lambda: False)
    macs, last = result['macs'], result['curve'][-1]
    assert last[0] == pytest.approx(sum(macs.values()))
    assert macs['optimiser'] == 6 * result['parameters'] * result['steps']
    assert macs['encoders'] > 0 < macs['reading'] and macs['calibration'] == 0
    assert [point[0] for point in result['curve']] == sorted(point[0] for point in result['curve'])


COUNTING = MethodPlan(link={'last': 2, 'hidden': 16, 'pooling_width': 16, 'pooling_heads': 2, 'entries': 2,
                            'harmonics': 4}, batch=4, checkpoint_every=2, part='aligners',
                      reader={'word_steps': 3, 'word_batch': 8, 'number_steps': 3, 'number_batch': 8})


def test_the_reader_of_links_that_count_learns_once_and_its_cost_is_counted(training, tmp_path, monkeypatch):
    first = training(plan=COUNTING).work(tmp_path, lambda: False)
    assert first['macs']['reader'] > 0 < first['macs']['reading']
    assert first['curve'][-1][0] == pytest.approx(sum(first['macs'].values()))
    monkeypatch.setattr(ReaderTraining, 'run', None)  # another process finds it trained
    again = training(plan=COUNTING).work(tmp_path, lambda: False)
    assert again['macs'] == first['macs'] and again['right'] == first['right']


def test_the_blind_have_no_reader(training, tmp_path):
    assert training(BLIND, plan=COUNTING).work(tmp_path, lambda: False)['macs']['reader'] == 0


def test_the_blind_encode_nothing_and_answer_from_the_text_alone(training, data, tmp_path):
    blind = training(BLIND)
    assert blind.work(tmp_path, lambda: False)['macs']['encoders'] == 0
    example = data.test.examples[0]
    seen = [blind.method.answer(blind.book.question(example), frame) for frame in
            (data.test.frames[example.frame], {})]
    assert seen[0].probabilities == seen[1].probabilities


@pytest.mark.timeout(400)
def test_a_method_that_fails_is_named_and_the_others_go_on(bench):
    assert bench.code == methods.FAILED
    assert set(bench.written['failed']) == {'mpnp_published, seed 1'}
    assert all('99 linked blocks' in why for why in bench.written['failed'].values())
    assert set(bench.written['rows']) == set(TRAINED)
    assert '99 linked blocks' in (bench.folder / 'docs/methods.md').read_text()


@pytest.mark.timeout(400)
def test_every_row_was_measured_on_the_same_questions_within_the_budget(bench):
    ran = results(bench)
    assert sorted((result['row'], result['seed']) for result in ran) == sorted((row, 1) for row in TRAINED)
    assert len({len(result['right']) for result in ran}) == 1
    assert all(0 < sum(result['macs'].values()) <= RECIPE['budget'] for result in ran)
    assert all(result['steps'] <= 6 and result['peak_bytes'] > 1e6 for result in ran)
    assert all(result['parameters'] > 0 and result['seconds'] > 0 for result in ran)
    reading = {result['row']: result['macs']['reading'] for result in ran}
    assert reading['mpnp'] > 0 == reading['eas']
    for row in TRAINED:
        written = bench.written['rows'][row]
        low, high = written['right']['ci95']
        assert 0 <= low <= written['right']['mean'] <= high <= 100
        assert np.shape(written['curve']['right']) == (1, 3)


@pytest.mark.timeout(400)
def test_every_method_answers_single_questions_in_turn(bench):
    forms = {(form['row'], form['form']): form for form in bench.written['answering']['forms']}
    assert set(forms) == {('mpnp', ''), ('eas', 'folded'), ('eas', 'unfolded')}
    assert all(0 < form[way]['p50'] <= form[way]['p95']
               for form in forms.values() for way in ('frame', 'question'))


@pytest.mark.timeout(400)
def test_skipping_is_measured_before_training_and_folded_after(bench):
    calibration = {result['row']: result['macs']['calibration'] for result in results(bench)}
    assert calibration['eas'] > 0 == calibration['mpnp'] == calibration[BLIND]
    assert 0 < bench.written['answering']['folding']['eas'] < 1e-4
    assert '| eas, unfolded |' in (bench.folder / 'docs/methods.md').read_text()


@pytest.mark.timeout(400)
def test_what_is_finished_is_not_trained_again(bench, capfd):
    before = {path: path.stat().st_mtime_ns for path in bench.folder.glob('work/**/result.json')}
    assert len(before) == 4
    assert bench.run('--methods', 'mpnp', 'eas') == 0
    assert before == {path: path.stat().st_mtime_ns for path in bench.folder.glob('work/**/result.json')}
    shown = capfd.readouterr().out
    assert ': started' not in shown and all(row in shown for row in (*TRAINED, 'rule', 'majority'))
    assert (bench.folder / 'docs/methods.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.timeout(400)
def test_links_that_were_trained_are_kept_and_checkpoints_are_not(bench):
    for path in bench.folder.glob('work/runs/*/result.json'):
        assert (path.parent / 'link').is_dir() and not (path.parent / CHECKPOINT).exists()


@pytest.mark.timeout(400)
def test_an_unknown_method_is_an_exit_code_with_the_names_there_are(bench, capsys):
    assert bench.run('--methods', 'telepathy') == methods.FAILED
    assert 'telepathy' in (said := capsys.readouterr().err) and 'eas' in said


def test_no_two_runs_share_a_folder(config):
    runs = list(config.read.runs(('mpnp', 'eas'), (0, 1), 'data'))
    changed = list(config.read.runs(('mpnp',), (0,), 'other data'))
    assert len({run.name for run in (*runs, *changed)}) == len(runs) + len(changed) == 8
    assert [run.row for run in runs] == ['mpnp', 'eas', BLIND] * 2


def test_some_methods_are_trained_with_the_first_seed_only(config):
    chosen = replace(config.read, once=('eas',))
    assert [(run.row, run.seed) for run in chosen.runs(('mpnp', 'eas'), (4, 2), 'data')] == [
        ('mpnp', 4), ('eas', 4), (BLIND, 4), ('mpnp', 2), (BLIND, 2)]
    with pytest.raises(OptionError, match='once has lavin'):
        replace(config.read, once=('lavin',))


def test_a_run_comes_back_from_its_folder(config, tmp_path):
    run = next(iter(config.read.runs(('mpnp',), (0,), 'data')))
    run.save(tmp_path / run.name)
    assert Run.load(tmp_path / run.name) == run
