"""Influence: what answers would be with gates closed, told by further rows of one pass."""
from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch.autograd.graph import increment_version

from mpnp_ros.methods.method import Method, total_variation
from mpnp_ros.methods.registry import create_method, methods
from mpnp_ros.tokens import SECTORS, ModalityTokens, sector_azimuths

NAMES = ('car: moving', 'car: parked', 'cone')
SMALL = {'last': 2, 'hidden': 16, 'pooling_width': 24, 'pooling_heads': 4, 'entries': 2, 'harmonics': 4}
COUNTING = MappingProxyType({'pooling': 'counting', 'channels': NAMES})
QUESTION, CHOICES = 'how many cars are to the front?', ('0', '1', '2')
TOLERANCE = 2e-5


def linked(tiny_lm, links: dict[str, dict], family: str = 'llama') -> Method:
    method = create_method('mpnp', tiny_lm(family))
    for name, options in links.items():
        torch.manual_seed(0)
        method.plug(method.new_link(name, 'e', 3, **{**SMALL, **options}))
    return method


def tokens(name: str, seed: int) -> ModalityTokens:
    values = np.random.default_rng(seed).gamma(.1, 1., (SECTORS, 3)).astype(np.float32)
    return ModalityTokens(name, 'e', values, sector_azimuths())


def nothing(name: str) -> ModalityTokens:
    """Tokens of a sensor that counts nothing and looks nowhere."""
    return ModalityTokens(name, 'e', np.zeros((SECTORS, 3), np.float32), sector_azimuths(),
                          looked=np.zeros(SECTORS, bool))


@pytest.mark.parametrize('family', ['llama', 'opt', 'bloom', 'gpt2'])
@pytest.mark.parametrize('reach', ['answer', 'all'])
@pytest.mark.parametrize('links', [
    {'camera': COUNTING}, {'camera': COUNTING, 'lidar': COUNTING},
    {'camera': COUNTING, 'lidar': COUNTING, 'radar': {'pooling': 'question'}},
    {'lidar': {'pooling': 'none'}, 'radar': {'pooling': 'question', 'last': 3}}])
def test_influence_is_the_change_by_closing_a_modality(tiny_lm, links, reach, family):
    method = linked(tiny_lm, {name: {**options, 'reach': reach} for name, options in links.items()}, family)
    asked = method.prepare(QUESTION, CHOICES)
    for seed in range(2):  # the second frame has the guess and the text alone from the first
        frame = {name: tokens(name, seed * 10 + place) for place, name in enumerate(links)}

        def of(*names: str, frame: dict = frame) -> tuple[float, ...]:
            """Probabilities with only some modalities open."""
            counting = {name: nothing(name) for name in links if links[name]['pooling'] == 'counting'}
            return method.answer(asked, {**counting, **{name: frame[name] for name in names}}).probabilities

        reply, plain = method.answer(asked, frame, influence=True), method.answer(asked, frame)
        assert plain.influence is None
        assert [(token.modality, token.token) for token in reply.grounding] == [
            (token.modality, token.token) for token in plain.grounding]
        assert reply.probabilities == pytest.approx(plain.probabilities, abs=TOLERANCE)
        told, full, none = reply.influence, plain.probabilities, of()
        assert list(told.of) == list(told.alone) == sorted(links)
        for name in links:
            without = of(*(other for other in links if other != name))
            assert told.of[name] == pytest.approx(total_variation(full, without), abs=TOLERANCE)
            assert told.alone[name] == pytest.approx(total_variation(of(name), none), abs=TOLERANCE)
        assert told.sensors == pytest.approx(total_variation(full, none), abs=TOLERANCE)
        alone = method.answer(asked, {})
        assert (told.text, told.confidence) == (alone.text, pytest.approx(alone.confidence, abs=TOLERANCE))


def test_closing_one_of_several_is_not_linked_to_the_bit_of_the_counts(tiny_lm):
    method = linked(tiny_lm, {'camera': COUNTING, 'lidar': COUNTING})
    asked, frame = method.prepare(QUESTION, CHOICES), {name: tokens(name, 3) for name in ('camera', 'lidar')}
    told = method.answer(asked, frame, influence=True)
    gone = method.answer(asked, {'lidar': frame['lidar']})
    assert told.influence.of['camera'] == pytest.approx(
        total_variation(told.probabilities, gone.probabilities), abs=TOLERANCE)


def test_a_modality_that_sees_nothing_of_it_has_no_influence(tiny_lm):
    method = linked(tiny_lm, {'camera': COUNTING, 'lidar': COUNTING})
    asked = method.prepare(QUESTION, CHOICES)
    told = method.answer(asked, {'camera': tokens('camera', 1), 'lidar': nothing('lidar')}, True).influence
    assert max(told.of['lidar'], told.alone['lidar']) < 1e-6 < 1e-3 < told.of['camera']
    told = method.answer(asked, {'lidar': nothing('lidar')}, True).influence
    assert max(told.of['lidar'], told.sensors) < 1e-6


def test_sensors_that_tell_the_same_have_support_without_influence(tiny_lm):
    method = linked(tiny_lm, {'camera': COUNTING, 'lidar': COUNTING})
    asked, same = method.prepare(QUESTION, CHOICES), tokens('camera', 1)
    told = method.answer(asked, {'camera': same, 'lidar': replace(same, modality='lidar')}, True).influence
    assert max(told.of.values()) < 1e-4 < 1e-3 < min(told.alone.values())


def test_the_rows_cost_one_pass_and_what_frames_do_not_change_is_computed_once(tiny_lm, monkeypatch):
    method = linked(tiny_lm, {'camera': COUNTING, 'lidar': COUNTING})
    asked, batches = method.prepare(QUESTION, CHOICES), []
    run = type(method.lm).run_blocks
    monkeypatch.setattr(type(method.lm), 'run_blocks', lambda lm, hidden, *others, **named: (
        batches.append(len(hidden)), run(lm, hidden, *others, **named))[1])
    frames = [{name: tokens(name, seed) for name in ('camera', 'lidar')} for seed in range(3)]
    method.answer(asked, frames[0], influence=True)  # it reads the question, and has a pass more
    batches.clear()
    told = [method.answer(asked, frame, influence=True).influence for frame in frames[1:]][-1]
    assert batches == [3, 3]
    with torch.no_grad():
        next(method.links()['lidar'].parameters()).add_(1.)  # links that are trained guess anew
    changed = method.answer(asked, frames[-1], influence=True).influence
    assert batches == [3, 3, 3, 2]
    assert changed.text == told.text and changed.sensors != told.sensors


def test_what_is_kept_for_a_question_goes_with_training_and_pruning(tiny_lm):
    """A fused step of AdamW changes weights without a new version of the tensors."""
    method, asked = linked(tiny_lm, {'camera': COUNTING, 'lidar': COUNTING}), None
    frame = {name: tokens(name, 3) for name in ('camera', 'lidar')}

    def answers() -> tuple:
        reply = method.answer(asked, frame, influence=True)
        return (*reply.probabilities, reply.influence.sensors)

    asked = method.prepare(QUESTION, CHOICES)
    before = answers()
    link = method.links()['camera']
    parameters = list(method.trainable_parameters())
    optimiser = torch.optim.AdamW(parameters, lr=.1, fused=True)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    increment_version(parameters)
    trained, kept = answers(), method
    method = create_method('mpnp', tiny_lm('llama'))
    for each in kept.links().values():
        method.plug(each)
    asked = method.prepare(QUESTION, CHOICES)
    assert trained == pytest.approx(answers(), abs=TOLERANCE) != pytest.approx(before, abs=TOLERANCE)
    with torch.no_grad():
        link.gate_weights[0] = -20.
    method.prune(.01)
    pruned, method = answers(), kept
    assert pruned == pytest.approx(answers(), abs=TOLERANCE)


@pytest.mark.parametrize('shared', ['lidar', 'camera'])
def test_frames_of_one_batch_may_share_the_tokens_of_one_sensor(tiny_lm, shared):
    method = linked(tiny_lm, {'camera': COUNTING, 'lidar': COUNTING})
    asked, seen = method.prepare(QUESTION, CHOICES), {name: tokens(name, 3) for name in ('camera', 'lidar')}
    frames = [seen, {shared: seen[shared]}]
    together = method.answer_batch([asked, asked], frames)
    for reply, frame in zip(together, frames, strict=True):
        assert reply.probabilities == pytest.approx(method.answer(asked, frame).probabilities, abs=TOLERANCE)


def test_a_link_without_tokens_does_not_say_how_sure_an_answer_is(tiny_lm):
    method = linked(tiny_lm, {'camera': COUNTING, 'lidar': COUNTING})
    asked, seen = method.prepare(QUESTION, CHOICES), {name: tokens(name, 3) for name in ('camera', 'lidar')}
    text = method.answer(asked, {}).confidence
    torch.nn.init.constant_(method.links()['camera'].doubt.bias, 2.)
    told = method.answer(asked, seen, influence=True)
    assert told.influence.confidence == pytest.approx(text, abs=TOLERANCE)
    alone = method.answer(asked, {'lidar': seen['lidar']}).probabilities
    assert method.answer_batch([asked, asked], [seen, {'lidar': seen['lidar']}])[1].probabilities == \
        pytest.approx(alone, abs=TOLERANCE)


def test_methods_that_cannot_close_gates_say_so_with_nothing(tiny_lm, new_method, frame):
    assert [name for name, spec in methods().items() if spec.method.tells_influence
            and spec.method.__module__.startswith('mpnp_ros.')] == ['mpnp']
    method = new_method(name='mpnp_published')
    reply = method.answer(method.prepare(QUESTION, CHOICES), {'camera': frame()}, influence=True)
    assert reply.influence is None and reply.used == ('camera',)
    method = new_method()
    assert method.answer(method.prepare(QUESTION), {'camera': frame()}, influence=True).influence is None
    assert method.answer(method.prepare(QUESTION, CHOICES), {}, influence=True).influence is None
