"""Questions kept on disk: the same as read, for the same model and reach only, within a bound."""
from __future__ import annotations

import logging
import os

import pytest
import torch

from mpnp_ros.errors import QuestionError
from mpnp_ros.llm import question_files
from mpnp_ros.llm.choices import ChoiceTrie
from mpnp_ros.llm.prepared import ChoiceText, PromptTemplate, choice_log_probabilities, prepare_batch
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.upper_blocks import load_upper_blocks
from mpnp_ros.llm.weights import load_language_model

QUESTIONS = ('what?', 'how many cars?', 'is the truck to the front left moving?')


def texts(lm, *questions, choices=('yes', 'no', 'car')):
    """Texts to be read."""
    trie = ChoiceTrie(lm.tokenizer, choices)
    return [ChoiceText(lm, PromptTemplate(), question, trie) for question in questions or QUESTIONS]


@pytest.fixture
def read(monkeypatch):
    """How many texts each call of the model read."""
    counts = []
    monkeypatch.setattr(question_files, 'prepare_batch',
                        lambda lm, some, *more: counts.append(len(some)) or prepare_batch(lm, some, *more))
    return counts


@pytest.mark.parametrize('reach', ['all', 'answer'])
@pytest.mark.parametrize('first', [0, 2, 4])
def test_a_second_run_reads_nothing_and_gets_the_same(tiny_lm, tmp_path, read, make_prefix, reach, first):
    lm = tiny_lm()
    expected = prepare_batch(lm, texts(lm), first, reach)
    for _ in range(2):
        prepared = QuestionFiles(tmp_path).prepare(lm, texts(lm), first, reach)
        for question, same in zip(prepared, expected, strict=True):
            assert torch.equal(question.hidden, same.hidden)
            prefix = make_prefix(lm) if first <= 2 else None
            assert torch.equal(choice_log_probabilities(lm, question, prefix),
                               choice_log_probabilities(lm, same, prefix))
    assert read == [3]


def test_only_new_texts_are_read(tiny_lm, tmp_path, read):
    lm, files = tiny_lm(), QuestionFiles(tmp_path)
    files.prepare(lm, texts(lm, *QUESTIONS[:2]), 2, 'answer')
    files.prepare(lm, texts(lm, *QUESTIONS[1:]), 2, 'answer')
    files.prepare(lm, texts(lm, *QUESTIONS), 2, 'answer')
    assert read == [2, 1]


def test_another_model_block_reach_or_choice_is_another_reading(tiny_lm, tmp_path, read):
    lm, files = tiny_lm(), QuestionFiles(tmp_path)
    for reader, first, reach in ((lm, 2, 'answer'), (tiny_lm('opt'), 2, 'answer'), (lm, 1, 'answer'),
                                 (lm, 2, 'all')):
        files.prepare(reader, texts(reader), first, reach)
    files.prepare(lm, texts(lm, choices=('1', '10', 'with rider', 'without rider')), 2, 'answer')
    assert read == [3] * 5


def test_a_damaged_file_is_read_again(tiny_lm, tmp_path, read):
    lm = tiny_lm()
    QuestionFiles(tmp_path).prepare(lm, texts(lm), 2, 'answer')
    file, = tmp_path.glob('*/*.safetensors')
    file.write_bytes(file.read_bytes()[:200])
    QuestionFiles(tmp_path).prepare(lm, texts(lm), 2, 'answer')
    QuestionFiles(tmp_path).prepare(lm, texts(lm), 2, 'answer')
    assert read == [3, 3]


def test_a_file_that_goes_while_in_use_is_read_again(tiny_lm, tmp_path, read):
    lm, files = tiny_lm(), QuestionFiles(tmp_path)
    files.prepare(lm, texts(lm), 2, 'answer')
    next(tmp_path.glob('*/*.safetensors')).unlink()
    files.prepare(lm, texts(lm), 2, 'answer')
    assert read == [3, 3]


def test_the_folder_longest_not_used_makes_room(tiny_lm, tmp_path, read):
    lm = tiny_lm()
    for age, first in ((20, 1), (10, 2)):
        files = QuestionFiles(tmp_path)
        files.prepare(lm, texts(lm), first, 'all')
        shelf, = files._places
        os.utime(shelf, (age, 100 - age))
    held = sum(file.stat().st_size for file in tmp_path.glob('*/*.safetensors'))
    QuestionFiles(tmp_path, limit=int(1.1 * held)).prepare(lm, texts(lm), 3, 'all')
    assert [len(list(tmp_path.glob('*'))), read] == [2, [3, 3, 3]]
    QuestionFiles(tmp_path).prepare(lm, texts(lm), 2, 'all')
    assert read == [3, 3, 3], 'the newer one is still there'


def test_upper_blocks_alone_find_what_the_whole_model_read(tiny_lm_folder, tmp_path, read):
    whole = load_language_model(tiny_lm_folder, 'cpu', 'float32')
    upper = load_upper_blocks(tiny_lm_folder, 2, 'cpu', 'float32')
    expected = QuestionFiles(tmp_path).prepare(whole, texts(whole), 2, 'answer')
    prepared = QuestionFiles(tmp_path).prepare(upper, texts(upper), 2, 'answer')
    assert all(torch.equal(question.hidden, same.hidden)
               for question, same in zip(prepared, expected, strict=True))
    with pytest.raises(QuestionError, match=r'^2 questions .*where are.* not kept .*whole model'):
        QuestionFiles(tmp_path).prepare(upper, texts(upper, 'where are you?', 'what?', 'who?'), 2, 'answer')
    with pytest.raises(QuestionError, match=r'block 3 in torch\.float32'):
        QuestionFiles(tmp_path).prepare(upper, texts(upper), 3, 'answer')
    assert read == [3]


def test_beyond_the_limit_questions_are_read_but_not_kept(tiny_lm, tmp_path, caplog):
    lm, files = tiny_lm(), QuestionFiles(tmp_path, limit=10)
    with caplog.at_level(logging.WARNING):
        for question in QUESTIONS:
            assert len(files.prepare(lm, texts(lm, question), 2, 'answer')) == 1
    assert not list(tmp_path.glob('*/*.safetensors'))
    message, = caplog.messages
    assert str(tmp_path) in message and 'delete the folder' in message
