from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from mpnp_ros.errors import LinksError, QuestionError
from mpnp_ros.llm.generation import stream
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prepared import choice_log_probabilities, prepare
from mpnp_ros.llm.prompt import PromptTemplate
from mpnp_ros.llm.question_cache import QuestionCache

CHOICES = ('1', '10', 'with rider', 'without rider', 'car')
QUESTION = 'how many cars?'


def slow_answer(lm: LanguageModel, prefix: object, tokens: int) -> list[int]:
    """Greedy decoding that reads everything again for each token."""
    ids = PromptTemplate().ids(lm.tokenizer, QUESTION)
    start = len(ids)
    for _ in range(tokens):
        layout = TextLayout.causal(ids[None])
        logits = lm.logits(lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks, prefix))
        ids = torch.cat([ids, logits[0, -1].argmax()[None]])
    return ids[start:].tolist()


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


def test_generation_is_greedy_refeeding(tiny_lm: Callable, tiny_tokenizer: object, family: str,
                                        make_prefix: Callable) -> None:
    lm, prefix = tiny_lm(family), make_prefix(tiny_lm(family))
    prepared = prepare(lm, PromptTemplate(), QUESTION, (), 2)
    expected = slow_answer(lm, prefix, 6)
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
