"""Confidence: its error is measured as defined, and a fitted temperature lowers it and changes no answer."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.link_files import load_link, save_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.generator import Scope
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.calibration import calibration_error, fit_temperature
from mpnp_ros.training.painted_frames import Painter
from mpnp_ros.training.painted_questions import PaintedDataset, painted_questions
from mpnp_ros.training.true_objects import CHANNELS, OBJECTS, counting
from mpnp_world.dataset.objects_only import scene_key_frames

SMALL = {'last': 2, 'hidden': 16, 'pooling_width': 24, 'pooling_heads': 4, 'entries': 2, 'harmonics': 6}


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

    answers = [reply.text for reply in replies()]
    before, after = fit_temperature(method, OBJECTS, examples, book,
                                    lambda one: data.dataset.frames[one.frame])
    fitted = replies()
    assert after < before and float(link.doubt.weight.abs().sum()) > 0
    assert [reply.text for reply in fitted] == answers
    assert all(sum(reply.probabilities) == pytest.approx(1, abs=1e-4) for reply in fitted)
    alone = method.answer(book.question(examples[0]), data.dataset.frames[examples[0].frame])
    assert np.allclose(alone.probabilities, fitted[0].probabilities, atol=1e-4)
    save_link(link, tmp_path / 'link')
    method.replace(load_link(tmp_path / 'link', lm=method.lm))
    assert np.allclose(replies()[0].probabilities, fitted[0].probabilities, atol=1e-6)


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
