"""What a reader says that it can answer is learned anew, and nothing else of it changes."""
from __future__ import annotations

import pytest
import torch

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.registry import create_method
from mpnp_ros.training.answerable import AnswerableConfig, claim, fit_answerable, probes_of, reader_of

CHANNELS = ('car: moving', 'car: parked', 'bus: moving')
LINK = {'last': 2, 'hidden': 16, 'pooling_width': 24, 'pooling_heads': 4, 'entries': 2, 'harmonics': 6}
CAN = ['how many cars are there?', 'is there a bus?', 'are there any cars to the left?', 'is the bus moving?']
CANNOT = ['do we brake?', 'who won?', 'what do you hear?', 'is it cold?']


@pytest.fixture
def method(tiny_lm):
    method = create_method('mpnp', tiny_lm('llama'))
    torch.manual_seed(0)
    for name in ('camera', 'lidar'):
        method.plug(method.new_link(name, 'e', 3, pooling='counting', channels=CHANNELS, **LINK))
    return method


def test_probes_are_those_that_answers_read(method):
    done = []
    probes = probes_of(method, ['camera', 'lidar'], CAN, lambda count, of: done.append((count, of)))
    assert done == [(4, 4)] and probes['camera'].shape == (4, 6, 24)
    asked = method.prepare(CAN[1], ('yes', 'no'))
    states = method._read([asked.prepared], method._connections.snapshot(), False)
    pooling = reader_of(method.links()['camera'])
    torch.testing.assert_close(probes['camera'][1:2], pooling.asked(states, 2), rtol=1e-3, atol=1e-4)


def test_only_what_is_answerable_is_learned(method):
    pooling = reader_of(method.links()['camera'])
    before = {name: tensor.clone() for name, tensor in pooling.state_dict().items()}
    can, cannot = (probes_of(method, ['camera'], texts)['camera'] for texts in (CAN, CANNOT))
    config = AnswerableConfig(steps=300, batch=16, share=.5, dropout=0., rate=1e-2)
    fit_answerable(pooling, can, cannot, config)
    assert (pooling.can_answer(can) > 0).all() and (pooling.can_answer(cannot) < 0).all()
    changed = {name.split('.')[0] for name, tensor in pooling.state_dict().items()
               if not torch.equal(tensor, before[name])}
    assert changed == {'answerable'}


def test_the_border_moves_until_all_are_claimed_and_never_back(method):
    pooling = reader_of(method.links()['camera'])
    can = probes_of(method, ['camera'], CAN)['camera']
    with torch.no_grad():
        pooling.answerable[-1].bias -= pooling.can_answer(can).max() + 5.
    order = pooling.can_answer(can).argsort()
    claim(pooling, can)
    claimed = pooling.can_answer(can)
    assert float(claimed.min()) == pytest.approx(.01, abs=1e-4) and torch.equal(claimed.argsort(), order)
    with torch.no_grad():
        pooling.answerable[-1].bias += 3.
    claim(pooling, can)
    torch.testing.assert_close(pooling.can_answer(can), claimed + 3.)


def test_readers_that_differ_in_what_they_can_answer_only_are_shared(method):
    camera, lidar = method.links()['camera'], method.links()['lidar']
    lidar.start_from(camera)
    assert lidar.reads_like(camera)
    with torch.no_grad():
        lidar.pooling.answerable[2].bias += 1.
    assert lidar.reads_like(camera)
    with torch.no_grad():
        lidar.pooling.probes.queries += 1.
    assert not lidar.reads_like(camera)


def test_links_that_do_not_count_are_refused(tiny_lm):
    method = create_method('mpnp', tiny_lm('llama'))
    method.plug(method.new_link('camera', 'e', 3, last=2))
    with pytest.raises(TrainingError, match='pooling: counting'):
        probes_of(method, ['camera'], CAN)
