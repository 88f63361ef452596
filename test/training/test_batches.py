"""Batches, questions read once, and modality dropout."""
from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import QuestionError
from mpnp_ros.training.batches import POOL, READ_AT_ONCE, BatchPlan, PreparedQuestions, drop_modalities


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=300), st.integers(1, 32), st.integers(0, 5))
def test_every_epoch_sees_every_example_once(lengths, batch, seed):
    plan = BatchPlan(lengths, batch, seed)
    steps = max(1, round(len(lengths) / batch))
    for epoch in range(2):
        seen = [place for step in range(steps) for place in plan[epoch * steps + step]]
        assert sorted(seen) == list(range(len(lengths)))


def test_a_step_does_not_depend_on_those_before():
    lengths = [n % 7 for n in range(200)]
    plan = BatchPlan(lengths, 8, 3)
    in_turn = [plan[step] for step in range(60)]
    assert [BatchPlan(lengths, 8, 3)[step] for step in (59, 0, 31)] == [in_turn[59], in_turn[0], in_turn[31]]
    assert in_turn[:25] != in_turn[25:50]


def test_batches_hold_similar_lengths():
    lengths = list(range(8 * POOL))
    random.Random(0).shuffle(lengths)
    plan = BatchPlan(lengths, 8, 0)
    assert all(max(lengths[i] for i in plan[step]) - min(lengths[i] for i in plan[step]) == 7
               for step in range(POOL))


def test_any_part_of_the_modalities_but_none(toy):
    frame = toy(1, 0, ('camera', 'lidar')).frames['f0']
    names, rng = ('camera', 'lidar', 'radar'), random.Random(0)
    seen = Counter(tuple(drop_modalities(frame, names, 1., rng)) for _ in range(300))
    assert set(seen) == {('camera',), ('lidar',), ('camera', 'lidar')} and min(seen.values()) > 60
    assert drop_modalities(frame, names, 0., rng) == frame
    assert list(drop_modalities(frame, ('lidar',), 1., rng)) == ['lidar']


def test_a_text_is_read_once_and_its_answers_are_told_apart(toy, toy_method, monkeypatch):
    dataset, method = toy(8, 0), toy_method()
    read_all, calls = method.prepare_answers, []
    monkeypatch.setattr(method, 'prepare_answers',
                        lambda pairs, *more: calls.extend(pairs) or read_all(pairs, *more))
    book = PreparedQuestions(method)
    read = [book[example] for example in dataset.examples]
    assert len(calls) == 2
    for example, one in zip(dataset.examples, read, strict=True):
        expected = method.prepare_answer(example.question, example.answer, example.choices)
        assert (one.answer, one.target) == (expected.answer, expected.target)
    with pytest.raises(QuestionError, match='bus'):
        book[replace(dataset.examples[0], answer='bus')]


def many(toy, count):
    """So many examples with texts of their own, long ones and short ones in turn."""
    example = toy(1, 0).examples[0]
    return [replace(example, question=f'what is number {n}{" of the trucks" * (n % 2)}?')
            for n in range(count)]


def test_reading_goes_in_batches_of_similar_length(toy, toy_method, monkeypatch):
    method, batches, heard = toy_method(), [], []
    read_all = method.prepare_answers
    monkeypatch.setattr(method, 'prepare_answers',
                        lambda pairs, *more: batches.append([len(text) for text, _ in pairs])
                        or read_all(pairs, *more))
    book, examples = PreparedQuestions(method), many(toy, 2 * READ_AT_ONCE)
    assert book.read(examples + examples, progress=lambda *so_far: heard.append(so_far))
    assert heard == [(READ_AT_ONCE, 2 * READ_AT_ONCE), (2 * READ_AT_ONCE, 2 * READ_AT_ONCE)]
    assert max(batches[0]) < min(batches[1])
    assert book.read(examples) and len(batches) == 2


def test_reading_is_cancelled_between_two_batches_and_goes_on_there(toy, toy_method):
    book, examples, heard = PreparedQuestions(toy_method()), many(toy, 3 * READ_AT_ONCE), []
    assert not book.read(examples, lambda: len(heard) == 2, lambda *so_far: heard.append(so_far))
    assert book.read(examples, progress=lambda *so_far: heard.append(so_far))
    assert heard[2:] == [(READ_AT_ONCE, READ_AT_ONCE)]


def test_open_answers_are_read_one_by_one(toy, toy_method):
    book = PreparedQuestions(toy_method())
    first, second = (book[replace(toy(4, 0).examples[place], choices=())] for place in (0, 2))
    assert (first.answer, second.answer) == ('yes', 'no') and first.target != second.target
