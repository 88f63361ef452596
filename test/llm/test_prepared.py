
from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError, LinksError, QuestionError
from mpnp_ros.llm.choices import ChoiceTrie, answer_tokens
from mpnp_ros.llm.generation import stream
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prepared import (
    MAX_CHARACTERS,
    ChoiceText,
    PreparedQuestion,
    PromptTemplate,
    QuestionCache,
    choice_log_probabilities,
    clean_question,
    complete,
    open_rows,
    prepare,
    prepare_batch,
)
from mpnp_ros.llm.text_cache import TextCache

CHOICES = ('1', '10', 'with rider', 'without rider', 'car')
QUESTION = 'how many cars?'
FAMILIES = ('llama', 'mistral', 'gemma2', 'opt', 'gpt2', 'bloom')


def close(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-4, atol=2e-5)


def seeing(reach: str, prompt_tokens: int, tokens: int) -> torch.Tensor:
    """[1, T]: the rows of a text that see the prefix."""
    return torch.arange(tokens)[None] >= (0 if reach == 'all' else prompt_tokens - 1)


def slow_answer(lm: LanguageModel, prefix: object, tokens: int, reach: str, long_way: Callable) -> list[int]:
    """Greedy decoding that reads everything again for each token."""
    ids = PromptTemplate().ids(lm.tokenizer, QUESTION)
    start = len(ids)
    for _ in range(tokens):
        hidden = long_way(lm, TextLayout.causal(ids[None]), prefix, seeing(reach, start, len(ids)))
        ids = torch.cat([ids, lm.logits(hidden)[0, -1].argmax()[None]])
    return ids[start:].tolist()


def slow_scores(lm: LanguageModel, question: str, prefix: object, long_way: Callable) -> torch.Tensor:
    """Log-probabilities of the choices with reach 'answer', from the whole text in one pass."""
    whole = prepare(lm, PromptTemplate(), question, CHOICES, 0)
    sees = seeing('answer', whole.prompt_tokens, whole.layout.tokens)
    hidden = long_way(lm, whole.layout, prefix, sees)[0, whole.trie.positions(whole.prompt_tokens)]
    return whole.trie.log_probabilities(lm.logits(hidden, whole.trie.vocabulary))


def test_split_run_scores_choices_as_the_whole_run(tiny_lm: Callable, family: str,
                                                   make_prefix: Callable) -> None:
    lm, prefix = tiny_lm(family), None
    split, whole = (prepare(lm, PromptTemplate(), QUESTION, CHOICES, first) for first in (2, 0))
    for prefix in (None, make_prefix(lm)):
        scores = choice_log_probabilities(lm, split, prefix)
        torch.testing.assert_close(scores, choice_log_probabilities(lm, whole, prefix))
        torch.testing.assert_close(scores.exp().sum(), torch.tensor(1.))


def test_a_prefix_changes_the_answer_and_its_gradient_arrives(tiny_lm: Callable,
                                                              make_prefix: Callable) -> None:
    lm = tiny_lm()
    prepared, prefix = prepare(lm, PromptTemplate(), QUESTION, CHOICES, 2), make_prefix(lm)
    prefix[2].keys.requires_grad_()
    scores = choice_log_probabilities(lm, prepared, prefix)
    scores[0].backward()
    assert prefix[2].keys.grad.abs().max() > 0
    assert not torch.allclose(scores, choice_log_probabilities(lm, prepared), atol=1e-3)


@pytest.mark.parametrize('reach', ['all', 'answer'])
def test_generation_is_greedy_refeeding(tiny_lm: Callable, tiny_tokenizer: object, family: str,
                                        make_prefix: Callable, long_way: Callable, reach: str) -> None:
    lm, prefix = tiny_lm(family), make_prefix(tiny_lm(family))
    prepared = prepare(lm, PromptTemplate(), QUESTION, (), 2, reach)
    expected = slow_answer(lm, prefix, 6, reach, long_way)
    ends = [i for i, token in enumerate(expected)
            if token in lm.end_tokens or '\n' in tiny_tokenizer.decode([token])]
    expected = expected[:ends[0]] if ends else expected
    for _ in range(2):  # a second time: the prepared question is not used up
        fragments = list(stream(lm, prepared, prefix, max_new_tokens=6))
        assert len(fragments) == len(expected)
        whole = tiny_tokenizer.decode(expected).lstrip(' ')
        text = ''.join(fragment.text for fragment in fragments)
        assert whole.startswith(text)
        assert set(whole[len(text):]) <= {'\N{REPLACEMENT CHARACTER}'}
        assert all(0 < fragment.probability <= 1 for fragment in fragments)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.sampled_from(FAMILIES), st.sampled_from(['what?', QUESTION, 'is the truck to the front moving?']),
       st.integers(0, 4), st.floats(-4., 1.), st.integers(0, 9))
def test_answer_rows_alone_equal_the_long_way(tiny_lm: Callable, make_prefix: Callable, long_way: Callable,
                                              family: str, question: str, first: int, gate: float,
                                              seed: int) -> None:
    lm = tiny_lm(family)
    prefix = make_prefix(lm, gate, blocks=tuple(range(first, lm.blocks)), seed=seed)
    prepared = prepare(lm, PromptTemplate(), question, CHOICES, first, 'answer')
    assert prepared.rows.layout.tokens == prepared.layout.tokens - prepared.prompt_tokens + 1 < 6
    expected = slow_scores(lm, question, prefix, long_way)
    for _ in range(2):  # a second time: the prepared question is not used up
        close(choice_log_probabilities(lm, prepared, prefix), expected)
    close(choice_log_probabilities(lm, prepared),
          choice_log_probabilities(lm, prepare(lm, PromptTemplate(), question, CHOICES, 0)))


@pytest.mark.parametrize('reach', ['all', 'answer'])
def test_a_batch_reads_as_one_by_one(tiny_lm: Callable, family: str, make_prefix: Callable,
                                     reach: str) -> None:
    lm, trie = tiny_lm(family), ChoiceTrie(tiny_lm(family).tokenizer, CHOICES)
    questions = ['what is to the front left of the truck with rider?', 'what?', QUESTION]
    texts = [ChoiceText(lm, PromptTemplate(), question, trie) for question in questions]
    batch = prepare_batch(lm, texts, 2, reach)
    for question, read in zip(questions, batch, strict=True):
        alone = prepare(lm, PromptTemplate(), question, CHOICES, 2, reach)
        assert (read.prompt_tokens, read.rows.start) == (alone.prompt_tokens, alone.rows.start)
        assert read.nbytes == alone.nbytes, 'nothing of the padding is kept'
        close(read.hidden, alone.hidden)
        for prefix in (None, make_prefix(lm)):
            close(choice_log_probabilities(lm, read, prefix), choice_log_probabilities(lm, alone, prefix))


def test_what_sees_the_prefix_differs_between_reaches(tiny_lm: Callable, make_prefix: Callable) -> None:
    lm, prefix = tiny_lm(), make_prefix(tiny_lm())
    prepared = (prepare(lm, PromptTemplate(), QUESTION, CHOICES, 2, reach) for reach in ('answer', 'all'))
    answer, everywhere = (choice_log_probabilities(lm, question, prefix) for question in prepared)
    assert not torch.allclose(answer, everywhere, atol=1e-3)


def test_gradients_through_answer_rows_equal_those_of_the_long_way(
        tiny_lm: Callable, family: str, make_prefix: Callable, long_way: Callable) -> None:
    lm, gradients = tiny_lm(family), []
    prepared = prepare(lm, PromptTemplate(), QUESTION, CHOICES, 2, 'answer')
    for split in (True, False):
        prefix = make_prefix(lm, -1.)
        leaves = [getattr(block, name).requires_grad_() for block in prefix.values()
                  for name in ('keys', 'values', 'log_gate')]
        scores = choice_log_probabilities(lm, prepared, prefix) if split else slow_scores(
            lm, QUESTION, prefix, long_way)
        scores[0].backward()
        gradients.append([leaf.grad for leaf in leaves])
    for split, whole in zip(*gradients, strict=True):
        assert split.abs().max() > 0
        close(split, whole)


@pytest.mark.parametrize('reach', ['all', 'answer'])
def test_closed_gates_are_the_text_only_model_to_the_bit(tiny_lm: Callable, family: str,
                                                         make_prefix: Callable, reach: str) -> None:
    lm = tiny_lm(family)
    prepared = prepare(lm, PromptTemplate(), QUESTION, CHOICES, 2, reach)
    alone = complete(lm, prepared)
    assert torch.equal(complete(lm, prepared, make_prefix(lm, -math.inf)), alone)
    assert not torch.allclose(complete(lm, prepared, make_prefix(lm)), alone, atol=1e-3)


def test_a_prompt_of_one_token_has_nothing_before_its_answer(
        tiny_lm: Callable, family: str, make_prefix: Callable, long_way: Callable) -> None:
    lm, prefix = tiny_lm(family), make_prefix(tiny_lm(family))
    layout = TextLayout.tree(torch.tensor([9]), [4, 5, 6], [-1, 0, -1])
    hidden = lm.run_blocks(lm.embed(layout), layout, 0, 2)
    rows = open_rows(lm, layout, hidden, 2, 1, 'answer')
    prepared = PreparedQuestion(layout, 1, hidden, 2, rows, None, TextCache())
    assert (rows.start, rows.cache.nbytes, rows.layout.tokens) == (0, 0, 4)
    close(complete(lm, prepared, prefix), long_way(lm, layout, prefix, torch.ones(1, 4).bool()))


def test_bytes_count_the_keys_and_values_of_rows_no_prefix_reaches(tiny_lm: Callable) -> None:
    lm = tiny_lm()
    answer, everywhere = (prepare(lm, PromptTemplate(), QUESTION, CHOICES, 2, reach)
                          for reach in ('answer', 'all'))
    columns = answer.prompt_tokens - 1
    assert answer.nbytes - everywhere.nbytes == 2 * 2 * columns * lm.kv_heads * lm.head_dim * 4


def test_generation_is_cancelled_between_tokens(tiny_lm: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, cancel = tiny_lm(), threading.Event()
    monkeypatch.setattr(LanguageModel, 'end_tokens', frozenset())
    prepared = prepare(lm, PromptTemplate(), QUESTION, (), 2)
    fragments = stream(lm, prepared, max_new_tokens=50, cancelled=cancel.is_set)
    next(fragments)
    cancel.set()
    assert list(fragments) == []


def test_generation_does_not_pass_the_longest_text(tiny_lm: Callable,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm('gpt2')
    prepared = prepare(lm, PromptTemplate(), QUESTION, (), 2)
    monkeypatch.setattr(LanguageModel, 'max_tokens', prepared.prompt_tokens + 1)
    assert len(list(stream(lm, prepared, max_new_tokens=50))) <= 1


def test_what_does_not_fit_is_refused(tiny_lm: Callable, make_prefix: Callable) -> None:
    lm = tiny_lm()
    closed, opened = (prepare(lm, PromptTemplate(), QUESTION, choices, 2) for choices in (CHOICES, ()))
    with pytest.raises(LinksError, match='block 1 is linked'):
        choice_log_probabilities(lm, closed, make_prefix(lm, blocks=(1, 3)))
    with pytest.raises(QuestionError, match='without choices'):
        choice_log_probabilities(lm, opened)
    with pytest.raises(QuestionError, match='with choices'):
        next(stream(lm, closed))
    with pytest.raises(QuestionError, match='at most 256'):
        prepare(lm, PromptTemplate(), 'a1' * 300, (), 2)


def test_cache_keeps_the_recent_within_its_bytes(tiny_lm: Callable) -> None:
    lm = tiny_lm()
    sample = prepare(lm, PromptTemplate(), QUESTION, CHOICES, 2)
    cache = QuestionCache(2 * sample.nbytes)
    made: list[str] = []

    def get(key: str) -> None:
        def make() -> object:
            made.append(key)
            return prepare(lm, PromptTemplate(), QUESTION, CHOICES, 2)
        cache.get(key, make)

    for key in ('a', 'b', 'a', 'c', 'a', 'b'):
        get(key)
        assert cache.nbytes <= 2 * sample.nbytes
    assert made == ['a', 'b', 'c', 'b']
    assert (cache.hits, cache.misses, len(cache)) == (2, 4, 2)
    cache.clear()
    assert (cache.nbytes, len(cache)) == (0, 0)


def test_a_question_larger_than_the_cache_is_not_kept(tiny_lm: Callable) -> None:
    sample = prepare(tiny_lm(), PromptTemplate(), QUESTION, CHOICES, 2)
    cache = QuestionCache(sample.nbytes - 1)
    assert cache.get('a', lambda: sample) is sample
    assert (cache.nbytes, len(cache)) == (0, 0)


def test_cache_is_safe_among_threads(tiny_lm: Callable) -> None:
    sample = prepare(tiny_lm(), PromptTemplate(), QUESTION, CHOICES, 2)
    cache = QuestionCache(3 * sample.nbytes)

    def work(seed: int) -> None:
        for step in range(300):
            cache.get((seed * step) % 7, lambda: sample)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert cache.hits + cache.misses == 1200
    assert cache.nbytes == len(cache) * sample.nbytes <= 3 * sample.nbytes


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
