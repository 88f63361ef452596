"""The worth of counts is what a trusted sensor says; a temperature mends confidence and changes no answer."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.link_files import load_link, save_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.counting import Counts, sector_centres
from mpnp_ros.methods.mpnp.link import Worth, in_sectors
from mpnp_ros.methods.questions import Reply
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import SECTORS, sector_of
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.calibration import (
    MIN_FRAMES,
    calibration_error,
    fit_agreement,
    fit_temperature,
    fit_worth,
)
from mpnp_ros.training.dataset import Example, Frame
from mpnp_ros.training.painted_frames import Painter, observed
from mpnp_ros.training.painted_questions import PaintedDataset, painted_questions
from mpnp_ros.training.true_objects import OBJECTS, counting
from mpnp_world.dataset.objects_only import scene_key_frames

SMALL = {'last': 2, 'hidden': 16, 'pooling_width': 24, 'pooling_heads': 4, 'entries': 2, 'harmonics': 6}
SORTS = 4
NAMES = tuple(f'sort {number}' for number in range(SORTS))


@pytest.fixture(scope='module')
def data() -> PaintedDataset:
    painter = Painter(scene_key_frames(0, 3, 4.), Scope(20., 5, anchors=False))
    return painted_questions(map(painter.paint, range(8)), of_each_type=25)


@pytest.fixture
def method(tiny_lm, data) -> Method:
    method = create_method('mpnp', tiny_lm('llama'))
    torch.manual_seed(0)
    encoder = next(iter(data.dataset.frames.values()))[OBJECTS].encoder
    method.plug(method.new_link(OBJECTS, encoder, len(CHANNELS), **counting(CHANNELS), **SMALL))
    book = PreparedQuestions(method)
    method.calibrate([book[one] for one in data.dataset.examples[:40]], [])
    return method


def test_the_error_is_that_of_the_definition():
    assert calibration_error([.8] * 10, [True] * 8 + [False] * 2) == pytest.approx(0)
    assert calibration_error([.9] * 10, [True] * 5 + [False] * 5) == pytest.approx(.4)
    assert calibration_error([.9] * 5 + [.5] * 5, [True] * 5 + [False] * 5) == pytest.approx(.3)
    assert calibration_error([1.], [True]) == 0
    assert math.isnan(calibration_error([], []))


def test_a_fitted_temperature_suits_the_answers_better_and_changes_none(method, data, tmp_path):
    examples = data.dataset.examples
    book = PreparedQuestions(method)
    link = method.links()[OBJECTS]

    def replies(asked: Method = method) -> list:
        return asked.answer_batch([book.question(one) for one in examples],
                                  [data.dataset.frames[one.frame] for one in examples])

    def error() -> float:
        said = replies()
        right = [reply.text == one.answer for reply, one in zip(said, examples, strict=True)]
        return calibration_error([reply.confidence for reply in said], right)

    answers, as_made = [reply.text for reply in replies()], error()
    before, after = fit_temperature(method, OBJECTS, examples, book,
                                    lambda one: data.dataset.frames[one.frame])
    fitted = replies()
    assert after < before and error() < as_made
    assert float(link.doubt.weight.abs().sum()) > 0
    assert [reply.text for reply in fitted] == answers
    assert all(sum(reply.probabilities) == pytest.approx(1, abs=1e-4) for reply in fitted)
    alone = method.answer(book.question(examples[0]), data.dataset.frames[examples[0].frame])
    assert np.allclose(alone.probabilities, fitted[0].probabilities, atol=1e-4)
    save_link(link, tmp_path / 'link')
    method.replace(load_link(tmp_path / 'link', lm=method.lm))
    assert np.allclose(replies()[0].probabilities, fitted[0].probabilities, atol=1e-6)


@pytest.fixture
def pair(method, data) -> tuple[Method, Callable[[Example], Frame]]:
    """Two links that read alike, and what both see: the second some of the objects of the first."""
    link, frames = method.links()[OBJECTS], {}
    other = method.new_link('other', link.config.encoder, len(CHANNELS), **counting(CHANNELS), **SMALL)
    other.start_from(link)
    method.plug(other)
    for key, frame in data.dataset.frames.items():
        seen = observed(frame[OBJECTS], np.random.default_rng(int(key)), .8, .9, .7)
        frames[key] = {**frame, 'other': replace(seen, modality='other')}
    return method, lambda example: frames[example.frame]


def test_two_sensors_have_an_agreement_that_changes_no_answer_and_nothing_of_one_alone(pair, data, tmp_path):
    method, see = pair
    examples, book = data.dataset.examples, PreparedQuestions(method)

    def replies(names: Sequence[str]) -> list[Reply]:
        return method.answer_batch([book.question(one) for one in examples],
                                   [{name: see(one)[name] for name in names} for one in examples])

    both, alone = replies((OBJECTS, 'other')), replies((OBJECTS,))
    before, after = fit_agreement(method, (OBJECTS, 'other'), examples, book, see)
    assert after < before
    fitted = replies((OBJECTS, 'other'))
    assert [reply.text for reply in fitted] == [reply.text for reply in both]
    assert not np.allclose(fitted[0].probabilities, both[0].probabilities, atol=1e-3)
    assert [reply.probabilities for reply in replies((OBJECTS,))] == [reply.probabilities for reply in alone]
    save_link(method.links()[OBJECTS], tmp_path / 'link')
    method.replace(load_link(tmp_path / 'link', lm=method.lm))
    assert np.allclose(replies((OBJECTS, 'other'))[0].probabilities, fitted[0].probabilities, atol=1e-6)


def test_a_sensor_that_looks_nowhere_has_no_say_in_how_sure_an_answer_is(pair, data):
    method, see = pair
    book, example = PreparedQuestions(method), data.dataset.examples[0]
    frame = see(example)
    nothing = replace(frame['other'], values=np.zeros_like(frame['other'].values),
                      looked=np.zeros(SECTORS, bool))
    nn.init.constant_(method.links()['other'].doubt.bias, 2.)
    asked = book[example].question
    alone = method.answer(asked, {OBJECTS: frame[OBJECTS]})
    assert method.answer(asked, {**frame, 'other': nothing}).confidence == pytest.approx(
        alone.confidence, abs=1e-4)
    assert method.answer(asked, frame).confidence < alone.confidence - .01


def test_sensors_that_look_nowhere_or_at_different_places_do_not_agree(pair, data):
    method, see = pair
    for link in method.links().values():
        link.agreement = link.new_agreement()
        nn.init.constant_(link.agreement.bias, -2.)
    frame = {name: replace(tokens, values=np.zeros_like(tokens.values), looked=np.zeros(SECTORS, bool))
             for name, tokens in see(data.dataset.examples[0]).items()}
    asked = PreparedQuestions(method)[data.dataset.examples[0]].question
    both, alone = (method.answer(asked, {name: frame[name] for name in names}).probabilities
                   for names in ((OBJECTS, 'other'), (OBJECTS,)))
    assert both == pytest.approx(alone, abs=1e-5)
    seen = see(data.dataset.examples[0])
    halves = {}
    for name, half in zip(seen, (slice(0, SECTORS // 2), slice(SECTORS // 2, SECTORS)), strict=True):
        looked = np.zeros(SECTORS, bool)
        looked[half] = True
        tokens = seen[OBJECTS]
        there = tokens.values * looked[sector_of(tokens.azimuth)][:, None]
        halves[name] = replace(tokens, modality=name, values=there, looked=looked)
    whole = method.answer(asked, {OBJECTS: seen[OBJECTS]}).confidence
    assert method.answer(asked, halves).confidence < whole + .1
    assert method.answer(asked, seen).confidence > method.answer(asked, {OBJECTS: seen[OBJECTS]}).confidence


def test_training_leaves_the_temperature_alone(method, data):
    book, examples = PreparedQuestions(method), data.dataset.examples[:4]
    losses = method.answer_losses([book[one] for one in examples],
                                  [data.dataset.frames[one.frame] for one in examples])
    losses.sum().backward()
    doubt: nn.Linear = method.links()[OBJECTS].doubt
    assert doubt.weight.grad is None and doubt.bias.grad is None


def test_a_link_that_does_not_count_has_none(tiny_lm):
    method = create_method('mpnp', tiny_lm('llama'))
    method.plug(method.new_link(OBJECTS, 'e', len(CHANNELS), last=2))
    with pytest.raises(TrainingError, match='does not count'):
        fit_temperature(method, OBJECTS, (), PreparedQuestions(method), lambda one: {})


def street(frames: int, seed: int = 0) -> Counts:
    """Some things of four sorts in every frame, one token a sector."""
    drawn = torch.Generator().manual_seed(seed)
    numbers = torch.poisson(torch.full((frames, SECTORS, SORTS), .08), generator=drawn)
    azimuth = sector_centres().expand(frames, -1)
    return Counts(numbers, azimuth, torch.full_like(azimuth, math.nan), torch.ones(frames, SECTORS, SORTS))


def error(worth: Worth, seen: Counts, there: Counts) -> float:
    """Mean difference by sort in windows of 60 degrees."""
    corrected, _ = in_sectors(worth(seen))
    apart = (corrected - in_sectors(there)[0]).unflatten(1, (6, SECTORS // 6)).sum(2)
    return float(apart.abs().mean())


def test_a_perfect_sensor_stays_as_it_is():
    there = street(200)
    worth = fit_worth(Worth(NAMES), there, there)
    assert abs(float(worth.turn)) < .02
    assert torch.allclose(worth.confusion, torch.eye(SORTS), atol=.05)
    assert worth.missed.max().item() < .01


def test_wrong_scale_confusion_and_direction_are_found():
    there, other = street(200), street(100, seed=1)

    def damaged(counts: Counts) -> Counts:
        numbers = counts.numbers * torch.tensor([1., 1.5, 1., 1.])
        numbers = torch.cat([numbers[..., :2], torch.zeros_like(numbers[..., :1]),
                             numbers[..., 2:].sum(-1, keepdim=True)], -1)  # the third is taken for the fourth
        return counts._replace(numbers=numbers, azimuth=counts.azimuth - math.radians(15))

    before = Worth(NAMES)
    worth = fit_worth(Worth(NAMES), damaged(there), there)
    assert math.degrees(float(worth.turn)) == pytest.approx(15, abs=1)
    assert worth.confusion[1, 1].item() == pytest.approx(1 / 1.5, abs=.05)
    assert worth.confusion[2, 3].item() == pytest.approx(.5, abs=.1)
    assert error(worth, damaged(other), other) < .6 * error(before, damaged(other), other)


def test_only_places_where_both_look_are_compared():
    there = street(200)
    half = there.covered.clone()
    half[:, :SECTORS // 2] = 0
    blind = there._replace(numbers=there.numbers * half[..., :1], covered=half)
    worth = fit_worth(Worth(NAMES), blind, there)
    assert torch.allclose(worth.confusion, torch.eye(SORTS), atol=.1)


def test_what_is_missed_at_random_is_made_up_for():
    there = street(300)
    kept = torch.rand(there.numbers.shape, generator=torch.Generator().manual_seed(3)) > .4
    worth = fit_worth(Worth(NAMES), there._replace(numbers=there.numbers * kept), there)
    corrected, _ = in_sectors(worth(there._replace(numbers=there.numbers * kept)))
    assert float(corrected.sum() / there.numbers.sum()) == pytest.approx(1, abs=.05)


def test_too_few_frames_are_told():
    few = street(MIN_FRAMES - 1)
    with pytest.raises(TrainingError, match='too few'):
        fit_worth(Worth(NAMES), few, few)
