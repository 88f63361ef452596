"""What links that count tell beside the answer."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mpnp_ros.llm.language_model import AlteredModel
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import SECTORS, ModalityTokens, sector_azimuths

NAMES = ('car: moving', 'car: parked', 'cone')
SMALL = {'last': 2, 'hidden': 16, 'pooling_width': 24, 'pooling_heads': 4, 'entries': 2, 'harmonics': 4}
QUESTION, CHOICES = 'how many cars are to the front?', ('0', '1', '2')


def linked(tiny_lm, names: tuple[str, ...]) -> Method:
    """A method with links that read alike."""
    method = create_method('mpnp', tiny_lm('llama'))
    for name in names:
        torch.manual_seed(0)
        method.plug(method.new_link(name, 'e', 3, pooling='counting', channels=NAMES, **SMALL))
    return method


def tokens(name: str, number: float, **more: object) -> ModalityTokens:
    values = np.zeros((SECTORS, 3), np.float32)
    values[36] = number
    return ModalityTokens(name, 'e', values, sector_azimuths(), **more)


def test_an_answer_says_what_was_counted_together_and_by_whom(tiny_lm):
    method = linked(tiny_lm, ('camera', 'lidar'))
    asked = method.prepare(QUESTION, CHOICES)
    reply = method.answer(asked, {'camera': tokens('camera', 0.), 'lidar': tokens('lidar', 1.)})
    by = {count.modality: count for count in reply.counted}
    assert list(by) == ['', 'camera', 'lidar'] and 0 < reply.answerable < 1
    assert by['camera'].expected == 0 and by['camera'].none == pytest.approx(1, abs=1e-3)
    assert by[''].expected == pytest.approx(by['lidar'].expected / 2, rel=1e-3)
    alone = method.answer(asked, {'lidar': tokens('lidar', 1.)}).counted
    assert {count.modality for count in alone} == {'lidar'}


def test_what_nobody_looks_at_changes_nothing_and_what_is_counted_does(tiny_lm):
    method = linked(tiny_lm, ('camera',))
    asked = method.prepare(QUESTION, CHOICES)
    single, two, none = (method.answer(asked, {'camera': tokens('camera', number)})
                         for number in (1., 2., 0.))
    assert len({reply.probabilities for reply in (single, two, none)}) == 3
    assert [reply.counted[0].expected for reply in (two, none)] == pytest.approx(
        [2 * single.counted[0].expected, 0.], rel=1e-3)
    blind = method.answer(asked, {'camera': tokens('camera', 0., looked=np.zeros(SECTORS, bool))})
    assert blind.counted[0].covered == 0 < none.counted[0].covered


def test_other_links_and_batches_say_nothing_of_it(tiny_lm):
    method = linked(tiny_lm, ('camera',))
    asked, seen = method.prepare(QUESTION, CHOICES), {'camera': tokens('camera', 1.)}
    assert replace(method.answer(asked, seen), counted=(), answerable=1., grounding=(),
                   seconds=0) == replace(method.answer_batch([asked], [seen])[0], seconds=0)
    method = create_method('mpnp', tiny_lm('llama'))
    method.plug(method.new_link('camera', 'e', 3, **SMALL))
    reply = method.answer(method.prepare(QUESTION, CHOICES), seen)
    assert (reply.counted, reply.answerable, reply.grounding) == ((), 1., ())


def test_a_question_that_is_asked_again_is_read_once_until_the_reader_changes(tiny_lm, monkeypatch):
    method, fresh = linked(tiny_lm, ('camera',)), linked(tiny_lm, ('camera',))
    link, read = method.links()['camera'], []
    forward = type(link.pooling.probes).forward
    monkeypatch.setattr(type(link.pooling.probes), 'forward',
                        lambda probes, *question: read.append(probes) or forward(probes, *question))
    asked, frames = method.prepare(QUESTION, CHOICES), [{'camera': tokens('camera', n)} for n in (1., 2.)]
    answers = [method.answer(asked, frame).probabilities for frame in frames]
    assert len(read) == 1
    assert answers == [fresh.answer(fresh.prepare(QUESTION, CHOICES), frame).probabilities
                       for frame in frames]
    with torch.no_grad():
        link.pooling.probes.queries.add_(1.)
    changed = method.answer(asked, frames[0]).probabilities
    assert changed != answers[0]
    method.answer(method.prepare('how many cars are there?', CHOICES), frames[0])
    assert len([probes for probes in read if probes is link.pooling.probes]) == 3


@pytest.mark.parametrize('names', [('camera',), ('camera', 'lidar')])
def test_packed_and_together_questions_have_the_replies_of_each_alone(tiny_lm, names):
    plain, packed = linked(tiny_lm, names), linked(tiny_lm, names)
    assert packed.pack()
    packed.packed.prepare(packed.first_block)
    questions = (QUESTION, 'how many cones are to the back?', 'how many cars?')
    for number in (0.5, 2.):
        frame = {name: tokens(name, number, distance=np.full(SECTORS, 9., np.float32)) for name in names}
        wanted = [plain.answer(plain.prepare(question, CHOICES), frame) for question in questions]
        found = packed.answer_each([packed.prepare(question, CHOICES) for question in questions], [frame] * 3)
        for one, other in zip(found, wanted, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
            assert (one.text, one.used) == (other.text, other.used)
            assert one.answerable == pytest.approx(other.answerable)
            assert [count.modality for count in one.counted] == [count.modality for count in other.counted]
            assert [count.expected for count in one.counted] == pytest.approx(
                [count.expected for count in other.counted], rel=1e-4, abs=1e-5)


def test_packed_blocks_follow_plugging_pruning_and_unplugging(tiny_lm):
    plain, packed = linked(tiny_lm, ('camera',)), linked(tiny_lm, ('camera',))
    packed.pack()
    packed.packed.prepare(0)
    frame = {name: tokens(name, 1.) for name in ('camera', 'lidar')}

    def agree() -> None:
        one, other = (method.answer(method.prepare(QUESTION, CHOICES), frame) for method in (packed, plain))
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5) and one.used == other.used

    agree()
    for method in (packed, plain):
        torch.manual_seed(1)
        method.plug(method.new_link('lidar', 'e', 3, pooling='counting', channels=NAMES,
                                    **{**SMALL, 'last': 1}))
    agree()
    with torch.no_grad():
        for method in (packed, plain):
            method.links()['camera'].gate_weights[0] = -9.
    assert packed.prune(0.01) == plain.prune(0.01) == {'camera': 1, 'lidar': 0}
    agree()
    for method in (packed, plain):
        method.unplug('camera')
    agree()


def test_blocks_that_are_altered_are_not_run_packed(tiny_lm):
    class Turned:
        caches = True

        def __call__(self, parts, hidden, context, prefix, cache):
            return -parts.run(hidden, context, prefix, cache)

    plain, packed = linked(tiny_lm, ('camera',)), linked(tiny_lm, ('camera',))
    packed.pack()
    packed.packed.prepare(packed.first_block)
    frame = {'camera': tokens('camera', 1.)}
    before = packed.answer(packed.prepare(QUESTION, CHOICES), frame).probabilities
    for method in (plain, packed):
        method.lm = AlteredModel(method.lm, {3: Turned()})
        method.cache.clear()
    found, wanted = (method.answer(method.prepare(QUESTION, CHOICES), frame).probabilities
                     for method in (packed, plain))
    assert found == wanted != pytest.approx(before, abs=1e-4)
    assert not packed.pack()
