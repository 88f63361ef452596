"""Teaching a link to count: words first, then numbers; a stopped training goes on as if it had not been."""
from __future__ import annotations

import pytest
import torch

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.training.painted_frames import Painter
from mpnp_ros.training.painted_questions import PaintedDataset, painted_questions
from mpnp_ros.training.reader_trainer import ReaderConfig, ReaderTraining
from mpnp_ros.training.true_objects import OBJECTS, counting
from mpnp_world.dataset.objects_only import scene_key_frames

SMALL = {'last': 2, 'hidden': 16, 'pooling_width': 24, 'pooling_heads': 4, 'entries': 2, 'harmonics': 6}
CONFIG = ReaderConfig(word_steps=30, word_batch=32, word_rate=1e-2, number_steps=30, number_batch=32,
                      number_rate=1e-2, warm_up=5)


@pytest.fixture(scope='module')
def data() -> PaintedDataset:
    painter = Painter(scene_key_frames(0, 3, 4.), Scope(20., 5, anchors=False))
    return painted_questions(map(painter.paint, range(12)), of_each_type=60, beyond=40, wordings=50)


@pytest.fixture
def method(tiny_lm) -> Method:
    method = create_method('mpnp', tiny_lm('llama'))
    torch.manual_seed(0)
    method.plug(method.new_link(OBJECTS, 'e', len(CHANNELS), **counting(CHANNELS), **SMALL))
    return method


def trained(method: Method, data: PaintedDataset, config: ReaderConfig = CONFIG, **options) -> dict:
    """Train, and give the losses by stage."""
    losses: dict[str, list[float]] = {'reading': [], 'words': [], 'numbers': []}
    training = ReaderTraining(method, OBJECTS, data, config, **options)
    assert training.run(lambda step: losses[step.stage].append(step.loss))
    assert set(losses.pop('reading')) == {0.}
    return losses


def test_both_stages_learn(method, data):
    losses = trained(method, data)
    for stage in losses.values():
        assert len(stage) == 30
        assert sum(stage[-5:]) < .95 * sum(stage[:5])
    assert method.links()[OBJECTS].pooling.measured


def test_nothing_but_the_reader_is_trained(method, data):
    link = method.links()[OBJECTS]
    before = {name: tensor.clone() for name, tensor in link.state_dict().items()}
    trained(method, data)
    changed = {name.split('.')[0] for name, tensor in link.state_dict().items()
               if not torch.equal(tensor, before[name])}
    assert changed == {'pooling'}


def test_a_stopped_training_goes_on_as_if_it_had_not_been(tiny_lm, method, data, tmp_path):
    config = ReaderConfig(word_steps=6, word_batch=16, number_steps=6, number_batch=16, warm_up=2)
    whole = trained(method, data, config)
    other = create_method('mpnp', tiny_lm('llama'))
    torch.manual_seed(0)
    other.plug(other.new_link(OBJECTS, 'e', len(CHANNELS), **counting(CHANNELS), **SMALL))
    done: list[float] = []
    training = ReaderTraining(other, OBJECTS, data, config, tmp_path / 'ck')
    assert not training.run(lambda step: step.stage == 'reading' or done.append(step.loss),
                            lambda: len(done) == 6)
    again = trained(other, data, config, checkpoint=tmp_path / 'ck')
    assert again == {'words': [], 'numbers': whole['numbers']} and done == whole['words']


def test_a_link_that_does_not_count_is_refused(tiny_lm, data):
    method = create_method('mpnp', tiny_lm('llama'))
    method.plug(method.new_link(OBJECTS, 'e', len(CHANNELS), last=2))
    with pytest.raises(TrainingError, match='pooling: counting'):
        ReaderTraining(method, OBJECTS, data)
