"""Shares, intervals, derangements and the majority."""
from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import TrainingError
from mpnp_ros.training.evaluation import Accuracy, Share, bootstrap, evaluate, majority, other_frames


@pytest.mark.parametrize(('right', 'n', 'low', 'high'), [
    (0, 10, 0., .2775), (5, 10, .2366, .7634), (10, 10, .7225, 1.), (263, 300, .8347, .9092)])
def test_wilson_intervals_as_tabulated(right, n, low, high):
    assert Share(right, n).interval == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share_and_mirrors(pair):
    right, n = pair
    low, high = Share(right, n).interval
    assert 0 <= low <= right / n + 1e-12 and right / n - 1e-12 <= high <= 1
    assert Share(n - right, n).interval == pytest.approx((1 - high, 1 - low))


def test_nothing_is_known_of_no_questions():
    assert math.isnan(Share(0, 0).value) and Share(0, 0).interval == (0., 1.)


def test_intervals_are_over_key_frames_where_they_are_known(toy):
    examples = toy(8, 0).examples
    answers = ['car' if example.frame < 'f4' else 'none' for example in examples]
    by_question = Accuracy.of(examples, answers)
    assert by_question.overall.resampled is None
    assert Accuracy.of(examples, answers, sample_of=lambda key: 'one') == by_question
    resampled = Accuracy.of(examples, answers, sample_of=lambda key: key)
    low, high = resampled.overall.interval
    assert low < resampled.value == by_question.value < high
    assert resampled.by_type['object'].interval == resampled.overall.interval
    fewer = Accuracy.of(examples, answers, sample_of=lambda key: f'{int(key[1:]) % 2}')
    assert fewer.overall.interval != (low, high)


def test_a_bootstrap_of_what_never_varies_is_one_point():
    assert bootstrap([('a', True), ('a', False), ('b', False), ('b', True)]) == (.5, .5)


def test_counts_by_type_and_hops(toy):
    examples = toy(4, 0).examples
    answers = [example.answer if example.hops == 0 else 'car' for example in examples]
    found = Accuracy.of(examples, answers)
    assert found.overall == Share(5, 8) and found.n == 8
    assert found.by_type == {'object': Share(4, 4), 'status': Share(1, 4)}
    assert found.by_hops == {0: Share(4, 4), 1: Share(1, 4)}


@given(st.integers(0, 10 ** 6))
def test_shuffled_questions_never_see_their_own_frame(toy, seed):
    dataset = toy(5, 0)
    other = other_frames(dataset, seed)
    assert all(other[example] in dataset.frames and other[example] != example.frame
               for example in dataset.examples)


def test_shuffling_one_frame_is_refused(toy):
    with pytest.raises(TrainingError, match='two frames'):
        other_frames(toy(1, 0), 0)


def test_every_question_sees_its_own_frame(toy, toy_method):
    method, dataset = toy_method(), toy(6, 0)
    one_by_one = [method.answer(method.prepare(example.question, example.choices),
                                dataset.frames[example.frame]).text for example in dataset.examples]
    assert evaluate(method, dataset, batch=5) == Accuracy.of(dataset.examples, one_by_one)


def test_open_questions_are_answered_too(toy, toy_method):
    dataset = toy(2, 0)
    dataset = replace(dataset, examples=tuple(replace(one, choices=()) for one in dataset.examples))
    assert evaluate(toy_method(), dataset).n == 4


def test_cancelled_evaluation_counts_what_was_answered(toy, toy_method):
    calls = []
    found = evaluate(toy_method(), toy(6, 0), batch=5, cancelled=lambda: calls.append(1) or len(calls) > 1)
    assert found.n == 5


def test_the_majority_goes_by_text_and_then_by_type(toy):
    train = toy(5, 0)
    assert majority(train, train).overall == Share(4, 10)
    unseen = replace(train, examples=tuple(replace(one, question='new?') for one in train.examples))
    assert majority(train, unseen).overall == Share(4, 10)


def test_an_empty_set_is_refused(toy, toy_method):
    with pytest.raises(TrainingError, match='no questions'):
        evaluate(toy_method(), replace(toy(2, 0), examples=()))
