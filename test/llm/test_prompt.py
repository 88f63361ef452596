from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError, QuestionError
from mpnp_ros.llm.choices import answer_tokens
from mpnp_ros.llm.prepared import MAX_CHARACTERS, PromptTemplate, clean_question


def test_prompt_is_the_template_with_the_question(tiny_tokenizer: object) -> None:
    ids = PromptTemplate().ids(tiny_tokenizer, ' is it\na car? ')
    assert tiny_tokenizer.decode(ids) == 'question: is it a car?\nanswer:'


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=80), st.sampled_from(['car', 'not standing', '10']))
def test_answers_begin_at_a_token_boundary(tiny_tokenizer: object, question: str, answer: str) -> None:
    try:
        prompt = PromptTemplate().ids(tiny_tokenizer, question)
    except QuestionError:
        assert not clean(question)
        return
    text = f'question: {clean(question)}\nanswer: {answer}'
    whole = tiny_tokenizer(text, split_special_tokens=True).input_ids
    assert whole == [*prompt.tolist(), *answer_tokens(tiny_tokenizer, answer)]


def clean(question: str) -> str:
    try:
        return clean_question(question)
    except QuestionError:
        return ''


@pytest.mark.parametrize('question, plain', [('a\x00b\x1b[31m', 'a b [31m'), ('a\ud800b', 'a b'),
                                             ('x\r\n\ty', 'x y'), ('{question} {0}', '{question} {0}')])
def test_control_characters_are_removed(question: str, plain: str) -> None:
    assert clean_question(question) == plain


def test_names_of_special_tokens_are_plain_text(tiny_tokenizer: object) -> None:
    ids = PromptTemplate().ids(tiny_tokenizer, 'is </s> a car?')
    assert tiny_tokenizer.eos_token_id not in ids
    assert ids.dtype == torch.int64


@pytest.mark.parametrize('question', ['', ' \n', '\x00', 'a' * (MAX_CHARACTERS + 1), 'a' * 10**6])
def test_empty_and_long_questions_are_refused(question: str) -> None:
    with pytest.raises(QuestionError, match='empty|characters'):
        clean_question(question)


@pytest.mark.parametrize('text', ['answer:', '{question}{question}:', '{question}', 'q {question} a: '])
def test_templates_without_an_end_or_a_slot_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match='prompt template'):
        PromptTemplate(text)
