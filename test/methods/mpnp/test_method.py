"""Readers of several subjects beside each other: of those that can answer, the surest has the say."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.counting import sector_centres
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import ModalityTokens

CHOICES = ('yes', 'no', 'car', 'truck')
QUESTIONS = ('is the car moving?', 'how many cars are there?')


@pytest.fixture
def method(tiny_lm, new_link) -> Method:
    """A camera and an IMU, whose readers differ."""
    method = create_method('mpnp', tiny_lm('llama'))
    for seed, name in enumerate(('camera', 'imu')):
        method.plug(new_link(method.lm, name, seed, pooling='counting', encoder='encoder'))
    return method


@pytest.fixture
def tokens(frame) -> dict[str, ModalityTokens]:
    return {name: frame(seed, modality=name) for seed, name in enumerate(('camera', 'imu'))}


def set_able(method: Method, **able: float) -> None:
    """Set the log-odds that a reader can answer anything."""
    for name, value in able.items():
        last = method.links()[name].pooling.answerable[2]
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, value)


def test_a_link_that_cannot_answer_is_as_if_not_plugged(method, tokens):
    set_able(method, camera=3., imu=-3.)
    asked = method.prepare(QUESTIONS[0], CHOICES)
    both = method.answer(asked, tokens)
    assert method.answering(asked, tokens) == both.used == ('camera',)
    assert {count.modality for count in both.counted} == {'camera'} and both.answerable > .9
    method.unplug('imu')
    alone = method.answer(asked, {'camera': tokens['camera']})
    assert alone.probabilities == both.probabilities, 'bit for bit'
    assert alone.text == both.text and alone.answerable == both.answerable


def test_where_none_can_answer_it_is_unknown_and_all_are_used(method, tokens):
    set_able(method, camera=-3., imu=-4.)
    asked = method.prepare(QUESTIONS[0], CHOICES)
    reply = method.answer(asked, tokens)
    assert reply.used == method.answering(asked, tokens) == ('camera', 'imu') and reply.answerable < .1
    set_able(method, camera=3., imu=4.)
    both = method.answer(asked, tokens)
    assert both.used == ('camera', 'imu') and both.answerable > .9, 'of the same subject'
    assert both.probabilities == pytest.approx(reply.probabilities, abs=1e-6)


def test_of_two_subjects_the_surest_answers(tiny_lm, new_link, tokens):
    method = create_method('mpnp', tiny_lm('llama'))
    for seed, (name, channels) in enumerate((('camera', 'abcdef'), ('imu', 'ghijkl'))):
        method.plug(new_link(method.lm, name, seed, pooling='counting', encoder='encoder',
                             channels=tuple(channels)))
    set_able(method, camera=1., imu=4.)
    asked = method.prepare(QUESTIONS[0], CHOICES)
    assert method.answer(asked, tokens).used == method.answering(asked, tokens) == ('imu',)
    set_able(method, camera=5., imu=4.)
    assert method.answer(asked, tokens).used == ('camera',)
    assert method.answer(asked, {'imu': tokens['imu']}).used == ('imu',), 'the surest sees nothing'


def test_one_that_could_answer_but_has_no_tokens_silences_nobody(method, tokens):
    set_able(method, camera=-3., imu=3.)
    asked = method.prepare(QUESTIONS[0], CHOICES)
    alone = method.answer(asked, {'camera': tokens['camera']})
    assert alone.used == ('camera',) and alone.answerable < .1
    assert method.answer(asked, tokens).used == ('imu',)


def test_of_a_batch_each_question_is_answered_by_those_who_can(method, tokens, monkeypatch):
    asked = [method.prepare(text, CHOICES) for text in QUESTIONS]
    readers = [link.pooling for link in method.links().values()]
    for reader, sign in zip(readers, (1, -1), strict=True):  # the shorter question is the camera's
        def can_answer(probes: torch.Tensor, sign: int = sign) -> torch.Tensor:
            return sign * torch.tensor([3., -3.])[:len(probes)]

        monkeypatch.setattr(reader, 'can_answer', can_answer)
    first, second = method.answer_batch(asked, [tokens, tokens])
    assert (first.used, second.used) == (('camera',), ('imu',))
    lone = method.answer(asked[0], {'camera': tokens['camera']})
    assert first.probabilities == pytest.approx(lone.probabilities, abs=1e-6)
    monkeypatch.undo()
    lone = method.answer(asked[1], {'imu': tokens['imu']})
    assert second.probabilities == pytest.approx(lone.probabilities, abs=1e-6)


def test_links_of_one_reader_are_never_silent(tiny_lm, new_link):
    method = create_method('mpnp', tiny_lm('llama'))
    for name in ('camera', 'lidar'):
        method.plug(new_link(method.lm, name, 1, pooling='counting', encoder='encoder'))
    set_able(method, camera=-3.)
    seen = TokenBatch(torch.rand(1, 3, 6), sector_centres()[None, :3])
    connections = method._connections.snapshot()
    assert not connections.several_readers
    assert connections.silent({'camera': seen, 'lidar': seen}, None) == frozenset()
