"""What skipping attentions of a trained model saves and costs, on tiny random models."""
from __future__ import annotations

import json

import numpy as np
import pytest

from bench import skipping
from bench.methods.data import BenchData
from bench.methods.plan import MethodPlan, Run
from bench.methods.train import LINK
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import save_link
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.dataset import Example, TokenDataset

ANSWERS = ('yes', 'no', 'car')


@pytest.fixture
def work(tmp_path, tiny_lm_folder):
    """What bench.methods leaves behind: data, and a run with links."""
    frames = {f'f{n}': {'lidar': ModalityTokens('lidar', 'encoder', np.full((2, 4), n, np.float32),
                                                np.array([0, 1], np.float32))} for n in range(4)}
    examples = tuple(Example('what is it?' if n % 2 else 'is it a car?', ANSWERS[n % 3], ANSWERS, 'object', 0,
                             f'f{n % 4}') for n in range(8))
    data = TokenDataset(frames, examples)
    (tmp_path / 'data').mkdir()
    BenchData(data, data, data, 0).write(tmp_path / 'data')
    run = Run('mma', 'mma', 0, MethodPlan(), 'lidar', 1e12, 1, 1, 0., str(tiny_lm_folder), 'data')
    run.save(tmp_path / 'runs' / run.name)
    method = create_method('mma', load_language_model(str(tiny_lm_folder), 'cpu', 'float32'))
    save_link(method.new_link('lidar', 'encoder', 4), tmp_path / 'runs' / run.name / LINK)
    return tmp_path


def test_recommends_measures_and_writes(work, capsys):
    arguments = ['--work', str(work), '--output', str(work / 'out'), '--count', '2', '--questions', '4',
                 '--judged', '4']
    (work / 'out').mkdir()
    assert skipping.main([*arguments, '--tolerance', '100']) == 0
    found = json.loads((work / 'out' / 'skipping.json').read_text())
    assert found == json.loads(capsys.readouterr().out)
    assert [(count, n) for count, _, _, n in found['judged']] == [(0, 4), (1, 4), (2, 4)]
    assert found['recommended'] == 2 and 0 not in found['profile']['order']
    assert found['largest difference of probabilities']['torch.float32'] < 1e-5
    assert {n for _, n in found['right'].values()} == {8} and len(found['seconds']) == 3


def test_without_skipping_it_is_what_was_trained(work, tiny_lm_folder):
    lm = load_language_model(str(tiny_lm_folder), 'cpu', 'float32')
    folder = next((work / 'runs').iterdir())
    trained = skipping.load_link(folder / LINK, lm=lm)
    mma = create_method('mma', lm)
    mma.plug(trained)
    tokens = BenchData.load(work / 'data').test.frames['f1']
    replies = [method.answer(method.prepare('what is it?', ANSWERS), tokens)
               for method in (mma, skipping.skipping_method(lm, trained, ()),
                              skipping.skipping_method(lm, trained, (2,)))]
    assert replies[0].probabilities == pytest.approx(replies[1].probabilities, abs=1e-6)
    assert replies[0].probabilities != pytest.approx(replies[2].probabilities, abs=1e-6)


def test_says_what_is_missing(work, capsys):
    for run in (work / 'runs').iterdir():
        run.rename(run.with_name('gone'))
    assert skipping.main(['--work', str(work)]) == 1
    assert 'run bench.methods --methods mma first' in capsys.readouterr().err
