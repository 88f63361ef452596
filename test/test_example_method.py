"""The method of examples/toy_method, installed as any other package; nothing here is changed for it."""
from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from bench.methods.data import BenchData
from bench.methods.plan import MethodPlan, Run
from bench.methods.train import LINK, MethodTraining
from mpnp_ros.errors import ConfigurationError, LinksError
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import load_link, read_manifest, save_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method, find_method, methods
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.cost_model import CostModel, Speed
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.evaluation import evaluate
from mpnp_ros.training.trainer import Trainer, TrainerConfig, blind_method
from mpnp_ros.training.workload import Workload

if TYPE_CHECKING:
    from ros_harness import RosHarness

EXAMPLE = Path(__file__).parents[1] / 'examples/toy_method'
NAME, WIDTH, ANSWERS = 'mean_prefix', 8, ('yes', 'no', 'car', 'truck')


@pytest.fixture(scope='module')
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that pip has installed the example into, on the path of this process."""
    source, folder = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('installed')
    for file in EXAMPLE.glob('*.*'):
        (source / file.name).write_bytes(file.read_bytes())
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index',
                    '--no-build-isolation', '--target', folder, source], check=True)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop('toy_method', None)


@pytest.fixture
def method(installed: Path, tiny_lm: Callable) -> Method:
    """The method with an untrained camera link."""
    made = create_method(NAME, tiny_lm())
    torch.manual_seed(0)
    made.plug(made.new_link('camera', 'encoder', WIDTH, last=2, hidden=16))
    return made


def dataset(frames: int = 16) -> TokenDataset:
    """Frames of three tokens of which one says the answer."""
    tokens = {}
    for number in range(frames):
        values = .1 * np.random.default_rng(number).standard_normal((3, WIDTH), np.float32)
        values[2, number % 4] += 3
        tokens[str(number)] = {'camera': ModalityTokens('camera', 'encoder', values,
                                                        np.array([0, 1, np.nan], np.float32))}
    return TokenDataset(tokens, tuple(
        Example(text, ANSWERS[number % 4], ANSWERS, 'object', 0, str(number))
        for number in range(frames) for text in ('what is it?', 'what is to the left of the truck?')))


def test_it_is_found_among_the_others(installed):
    assert find_method(NAME) is methods()[NAME] and methods()['mpnp'] is find_method('mpnp')
    with pytest.raises(ConfigurationError, match=f"'magic' is unknown; there are .*{NAME}"):
        find_method('magic')


def test_its_links_are_trained_and_answer(method):
    data = dataset()
    before = evaluate(method, data).value
    report = Trainer(method, TrainerConfig(steps=120, batch=16, warm_up=5, learning_rate=1e-2)).fit(data)
    assert report.losses[-1] < report.losses[0] / 2 and evaluate(method, data).value > max(.9, before)
    reply = method.answer(method.prepare('what is it?', ANSWERS), data.frames['2'])
    assert reply.text == 'car' and reply.used == ('camera',)
    assert list(method.stream(method.prepare('what is it?'), data.frames['2'], 3))


def test_each_answer_is_that_of_its_own_frame(method):
    data = dataset(4)
    asked, frames = method.prepare('what is it?', ANSWERS), [*data.frames.values(), {}, data.frames['0']]
    together = method.answer_batch([asked] * len(frames), frames)
    for answer, frame in zip(together, frames, strict=True):
        np.testing.assert_allclose(answer.probabilities, method.answer(asked, frame).probabilities, atol=1e-5)
    assert together[4].used == () and together[0].probabilities == pytest.approx(together[5].probabilities)


def test_links_are_saved_loaded_and_refused_elsewhere(method, tiny_lm, tmp_path):
    save_link(method.links()['camera'], tmp_path / NAME)
    again = create_method(NAME, tiny_lm())
    again.plug(load_link(tmp_path / NAME, lm=again.lm))
    asked, frame = method.prepare('what is it?', ANSWERS), dataset(1).frames['0']
    assert again.answer(asked, frame).probabilities == method.answer(asked, frame).probabilities
    with pytest.raises(LinksError, match=f"the method mpnp takes 'latent'.*|{NAME}"):
        create_method('mpnp', tiny_lm()).plug(again.links()['camera'])


def test_without_the_package_its_links_are_refused_by_kind(method, tmp_path):
    save_link(method.links()['camera'], tmp_path / NAME)
    program = ('import sys; from mpnp_ros.methods.link_files import read_manifest\n'
               'try: read_manifest(sys.argv[1])\n'
               'except Exception as error: print(type(error).__name__, error)')
    done = subprocess.run([sys.executable, '-c', program, tmp_path / NAME], capture_output=True, text=True,
                          check=True)
    assert done.stdout.startswith('LinksError') and f"kind '{NAME}', but known are" in done.stdout


def test_the_benchmark_trains_it(installed, tiny_lm_folder, tmp_path):
    data = dataset()
    plan = MethodPlan(link={'last': 2, 'hidden': 16}, batch=4, checkpoint_every=2)
    run = Run(NAME, NAME, 0, plan, 'camera', 1e9, 6, 3, .1, str(tiny_lm_folder), 'toy')
    training = MethodTraining(run, BenchData(data, data, data, 0), load_language_model(str(tiny_lm_folder)))
    result = training.work(tmp_path, lambda: False)
    assert result['steps'] > 0 and len(result['right']) == len(data.examples)
    assert read_manifest(tmp_path / LINK).kind == NAME


def test_it_has_a_blind_twin_and_no_price(method):
    blind = blind_method(method)
    assert blind.modalities == () and blind.answer(blind.prepare('is it?', ANSWERS), {}).text in ANSWERS
    data = dataset(4)
    with pytest.raises(ConfigurationError, match=f'{NAME} does not say what its links cost'):
        CostModel.for_model(method.lm, method.spec, [method.links()['camera'].config],
                            Workload.of(data, method.lm.tokenizer), Speed(0, 0, 0, 0))


@pytest.mark.parametrize(('name', 'text', 'reason'), [
    ('broken', 'import no_such_package', 'No module named'), ('mpnp', '', 'the name is taken'),
    ('other', 'SPEC = 5', "no MethodSpec of the name 'other'")])
def test_a_plug_in_that_cannot_be_used_is_left_out(tmp_path, monkeypatch, caplog, name, text, reason):
    (tmp_path / 'some_plug_in.py').write_text(text)
    info = tmp_path / 'some_plug_in-1.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: some_plug_in\nVersion: 1\n')
    (info / 'entry_points.txt').write_text(f'[mpnp_ros.methods]\n{name} = some_plug_in\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'some_plug_in', raising=False)
    with caplog.at_level(logging.WARNING):
        found = methods()
    assert {'mpnp', 'mma'} <= found.keys() and found['mpnp'].method.__module__.startswith('mpnp_ros.')
    assert f'plug-in {name!r} of some_plug_in cannot be used' in caplog.text and reason in caplog.text


def test_the_fusion_node_imports_no_method_before_it_is_told_which():
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    program = ('import sys, mpnp_ros.nodes.fusion\n'
               'print(*(name for name, module in sys.modules.items() if hasattr(module, "SPEC")))')
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert 'mpnp_ros.methods' not in done.stdout


@pytest.mark.ros
def test_a_parameter_of_the_fusion_node_selects_it(installed, tiny_lm_folder, ros_harness: RosHarness,
                                                   tmp_path):
    from mpnp_ros.srv import ListLinks
    from ros_harness import wait_until

    made = create_method(NAME, load_language_model(tiny_lm_folder, 'cpu', 'float32'))
    save_link(made.new_link('camera', 'encoder', WIDTH), tmp_path / 'camera')
    mark = ros_harness.mark()
    environment = {'PYTHONPATH': os.pathsep.join([str(installed), os.environ.get('PYTHONPATH', '')])}
    parameters = {'llm': str(tiny_lm_folder), 'device': 'cpu', 'dtype': 'float32', 'threads': 1,
                  'method': NAME, 'links': [str(tmp_path / 'camera')], 'link_store': ''}
    process = ros_harness.start('mpnp_ros.nodes.fusion', namespace='/toy', environment=environment,
                                parameters=parameters)
    try:
        wait_until(lambda: [link.modality for link in ros_harness.call(
            ListLinks, '/toy/list_links', ListLinks.Request()).links] == ['camera'], 'its link is in use')
    finally:
        process.stop()
        ros_harness.clean(mark)
