from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from mpnp_ros.errors import QuestionError
from mpnp_ros.llm.choices import MAX_CHARACTERS, MAX_CHOICES, ChoiceTrie, answer_tokens
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout

NESTED = ('1', '10', '2', 'with rider', 'without rider', 'car', 'yes', 'no')
PROMPT = torch.tensor([5, 9, 40, 7, 21])


def branch_logits(lm: LanguageModel, trie: ChoiceTrie) -> torch.Tensor:
    layout = trie.layout_with_branches(PROMPT)
    hidden = lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks)
    return lm.logits(hidden[0, trie.positions(len(PROMPT))], trie.vocabulary)


def slow_log_probability(lm: LanguageModel, choices: tuple[str, ...], index: int) -> float:
    """Token by token, each in a forward pass of its own, among the tokens that any choice goes on with."""
    end = lm.tokenizer.eos_token_id
    paths = [(*answer_tokens(lm.tokenizer, choice), end) for choice in choices]
    total = 0.
    for depth in range(len(paths[index])):
        done = paths[index][:depth]
        rivals = sorted({path[depth] for path in paths if path[:depth] == done})
        layout = TextLayout.causal(torch.cat([PROMPT, torch.tensor(done, dtype=torch.long)])[None])
        logits = lm.logits(lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks))[0, -1, rivals]
        total += float(logits.log_softmax(0)[rivals.index(paths[index][depth])])
    return total


def test_probabilities_are_those_of_choices_read_one_by_one(tiny_lm: Callable) -> None:
    lm = tiny_lm()
    trie = ChoiceTrie(lm.tokenizer, NESTED)
    fast = trie.log_probabilities(branch_logits(lm, trie))
    slow = torch.tensor([slow_log_probability(lm, NESTED, index) for index in range(len(NESTED))])
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text('ab 10é', min_size=1, max_size=5).map(lambda text: ' '.join(text.split())),
                min_size=1, max_size=12, unique=True), st.integers(0, 1000))
def test_probabilities_add_up_to_one(tiny_tokenizer: object, choices: list[str], seed: int) -> None:
    assume(all(choices))
    trie = ChoiceTrie(tiny_tokenizer, choices)
    branches = len(trie.positions(1))
    logits = 5 * torch.randn(2, branches, len(trie.vocabulary), generator=torch.Generator().manual_seed(seed))
    probabilities = trie.log_probabilities(logits).exp()
    assert probabilities.shape == (2, len(choices))
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(NESTED), min_size=1, unique=True), st.integers(0, 1000))
def test_targets_give_the_same_loss(tiny_tokenizer: object, choices: list[str], seed: int) -> None:
    trie = ChoiceTrie(tiny_tokenizer, choices)
    tokens, generator = 7, torch.Generator().manual_seed(seed)
    columns = trie.layout_with_branches(torch.arange(tokens)).tokens
    logits = torch.randn(columns, len(tiny_tokenizer), generator=generator)
    wanted = trie.log_probabilities(logits[trie.positions(tokens)][:, trie.vocabulary])
    for index, choice in enumerate(choices):
        losses = [cross_entropy(logits[target.position, list(target.candidates)][None],
                                torch.tensor([target.target])) for target in trie.targets(choice, tokens)]
        torch.testing.assert_close(sum(losses, torch.tensor(0.)), -wanted[index], rtol=1e-4, atol=1e-5)


def test_choices_that_part_at_once_cost_no_position(tiny_tokenizer: object) -> None:
    trie = ChoiceTrie(tiny_tokenizer, ['yes', 'no', 'car'])
    assert trie.layout_with_branches(PROMPT).ids.tolist() == [PROMPT.tolist()]
    assert trie.positions(len(PROMPT)).tolist() == [len(PROMPT) - 1]


def test_one_choice_is_certain(tiny_tokenizer: object) -> None:
    trie = ChoiceTrie(tiny_tokenizer, ['yes'])
    assert trie.log_probabilities(torch.zeros(0, 0)).tolist() == [0.]
    assert trie.targets('yes', 4) == []


def test_a_choice_that_begins_another_competes_by_ending(tiny_tokenizer: object) -> None:
    trie = ChoiceTrie(tiny_tokenizer, ['1', '10'])
    (target,) = trie.targets('1', 4)
    assert target.candidates[target.target] == tiny_tokenizer.eos_token_id
    (other,) = trie.targets('10', 4)
    assert other.candidates == target.candidates
    assert other.target != target.target


def test_names_of_special_tokens_are_plain_text(tiny_tokenizer: object) -> None:
    assert tiny_tokenizer.eos_token_id not in answer_tokens(tiny_tokenizer, '</s>')


@pytest.mark.parametrize('choices, reason', [
    ([], '0 choices'),
    ([str(i) for i in range(MAX_CHOICES + 1)], f'{MAX_CHOICES + 1} choices'),
    (['yes', ' '], 'empty'),
    (['yes', 'no', ' yes '], "'yes' is given twice"),
    (['a' * (MAX_CHARACTERS + 1)], 'characters'),
])
def test_bad_choices_are_refused(tiny_tokenizer: object, choices: list[str], reason: str) -> None:
    with pytest.raises(QuestionError, match=reason):
        ChoiceTrie(tiny_tokenizer, choices)


def test_an_answer_outside_the_list_has_no_target(tiny_tokenizer: object) -> None:
    with pytest.raises(QuestionError, match="'maybe'"):
        ChoiceTrie(tiny_tokenizer, ['yes', 'no']).targets('maybe', 3)
