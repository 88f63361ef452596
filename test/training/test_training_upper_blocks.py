"""Training with the upper blocks alone is training with the whole model."""
from __future__ import annotations

import pytest
import torch

from mpnp_ros.errors import QuestionError, WeightsError
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.upper_blocks import load_upper_blocks
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.registry import create_method
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.trainer import Trainer, TrainerConfig

SMALL = {'last': 2, 'hidden': 16, 'pooling_width': 16, 'pooling_layers': 1, 'pooling_heads': 2, 'entries': 2}


def with_link(lm, reach):
    """A method with an untrained link, always the same."""
    method = create_method('mpnp', lm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method.plug(method.new_link('camera', 'camera-encoder', 8, **SMALL, reach=reach))
    return method


def gradients(method, book, dataset):
    """Losses of all examples, and gradients of their mean."""
    questions = [book[example] for example in dataset.examples]
    method.calibrate(questions, list(dataset.frames.values()))
    losses = method.answer_losses(questions, [dataset.frames[one.frame] for one in dataset.examples])
    losses.mean().backward()
    return losses.detach(), [one.grad for one in method.trainable_parameters()]


@pytest.mark.parametrize('reach', ['answer', 'all'])
@pytest.mark.parametrize('answers_only', [True, False])
def test_a_step_is_the_same_to_the_last_bit(tiny_lm_folder, tmp_path, toy, reach, answers_only):
    dataset = toy(4, 0)
    whole = with_link(load_language_model(tiny_lm_folder, 'cpu', 'float32'), reach)
    choices = {one.choices for one in dataset.examples} if answers_only else None
    upper = with_link(load_upper_blocks(tiny_lm_folder, 2, 'cpu', 'float32', choices), reach)
    losses, expected = gradients(whole, PreparedQuestions(whole, QuestionFiles(tmp_path)), dataset)
    same, found = gradients(upper, PreparedQuestions(upper, QuestionFiles(tmp_path)), dataset)
    assert torch.equal(losses, same)
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert sum(bool(one.any()) for one in found) > 10


def test_a_training_run_ends_with_the_same_links_and_accuracy(tiny_lm_folder, tmp_path, toy):
    config, train, validation = TrainerConfig(steps=6, batch=4, evaluate_every=3), toy(6, 0), toy(4, 1)
    whole = with_link(load_language_model(tiny_lm_folder, 'cpu', 'float32'), 'answer')
    upper = with_link(load_upper_blocks(tiny_lm_folder, 2, 'cpu', 'float32', [train.examples[0].choices]),
                      'answer')
    books = [PreparedQuestions(method, QuestionFiles(tmp_path)) for method in (whole, upper)]
    first, second = (Trainer(method, config, book).fit(train, validation)
                     for method, book in zip((whole, upper), books, strict=True))
    assert (first.losses, first.accuracies) == (second.losses, second.accuracies)
    assert first.macs_per_step == second.macs_per_step
    assert all(torch.equal(one, other) for one, other in
               zip(whole.trainable_parameters(), upper.trainable_parameters(), strict=True))


def test_questions_that_nobody_read_are_named(tiny_lm_folder, tmp_path, toy):
    method = with_link(load_upper_blocks(tiny_lm_folder, 2, 'cpu', 'float32'), 'answer')
    with pytest.raises(QuestionError, match='what is'):
        PreparedQuestions(method, QuestionFiles(tmp_path)).read(toy(1, 0).examples)
    with pytest.raises(WeightsError, match='keep them in QuestionFiles'):
        PreparedQuestions(method).read(toy(1, 0).examples)
