"""Questions read up to the links, and their completion for one frame."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from mpnp_ros.errors import LinksError, QuestionError
from mpnp_ros.llm.attention import Prefix
from mpnp_ros.llm.choices import ChoiceTrie
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prompt import PromptTemplate
from mpnp_ros.llm.text_cache import TextCache

#: Which rows of a text see a prefix: all of them, or those that decide the answer.
Reach = Literal['all', 'answer']
MOST_PROMPT_TOKENS = 2048
"""The time of reading is proportional: 2000 characters are 500 tokens of English, but up to 6000 of emoji."""


@dataclass(frozen=True, eq=False)
class OpenRows:
    """The rows of a question that a prefix may still change, at the input of block `first`.

    reach: which rows those are.  layout: R rows against S columns.  hidden: [1, R, d].  start: column of
    the first row.  cache: keys and values of the columns before it in blocks first..L-1.
    """

    reach: Reach
    layout: TextLayout
    hidden: torch.Tensor
    start: int
    cache: TextCache

    def head(self, count: int) -> OpenRows:
        """Return the first `count` rows; their results are the same."""
        return replace(self, layout=self.layout.head(count), hidden=self.hidden[:, :count])


@dataclass(frozen=True, eq=False)
class PreparedQuestion:
    """A question after blocks 0..first-1, which depend on its text only.

    layout: one text, [1, T] or with the tree of its choices behind it.  prompt_tokens: length of the
    prompt alone.  hidden: [1, T, d], the input of block `first`.  rows: what remains to be run for a frame:
    all of it, or the rows that decide the answer, where only these see a prefix.  trie: of its choices; None
    where the answer is generated, and then `cache` holds the keys and values of the lower blocks.
    """

    layout: TextLayout
    prompt_tokens: int
    hidden: torch.Tensor
    first: int
    rows: OpenRows
    trie: ChoiceTrie | None
    cache: TextCache

    @property
    def nbytes(self) -> int:
        """Bytes of hidden states and cached keys and values."""
        return self.hidden.nbytes + self.cache.nbytes + self.rows.cache.nbytes


@torch.no_grad()
def prepare(lm: LanguageModel, template: PromptTemplate, question: str, choices: Sequence[str],
            first: int, reach: Reach = 'all') -> PreparedQuestion:
    """Run a question through blocks 0..first-1, and with reach 'answer' its text through the rest.

    choices: closed list of answers; empty for one that is generated.  reach: which rows a prefix will
    be seen by.  Raises QuestionError.
    """
    if choices:
        return prepare_batch(lm, [ChoiceText(lm, template, question, ChoiceTrie(lm.tokenizer, choices))],
                             first, reach)[0]
    prompt = template.ids(lm.tokenizer, question)
    layout, cache = TextLayout.causal(prompt[None]).to(lm.device), TextCache()
    _check_length(lm, layout, len(prompt))
    hidden = lm.run_blocks(lm.embed(layout), layout, 0, first, cache=cache)
    rows = open_rows(lm, layout, hidden, first, len(prompt), reach)
    return PreparedQuestion(layout, len(prompt), hidden, first, rows, None, cache)


class ChoiceText:
    """A question with the tree of its choices as a text to be read.

    trie: of the choices; one for all questions that share them.  layout: one text, on the model's device.
    prompt_tokens: length of the prompt alone.
    """

    def __init__(self, lm: LanguageModel, template: PromptTemplate, question: str, trie: ChoiceTrie) -> None:
        """Raises QuestionError."""
        prompt = template.ids(lm.tokenizer, question)
        self.trie, self.prompt_tokens = trie, len(prompt)
        self.layout = trie.layout_with_branches(prompt).to(lm.device)
        _check_length(lm, self.layout, len(prompt))

    def start(self, reach: Reach) -> int:
        """Return the first row that a prefix can change."""
        return 0 if reach == 'all' else self.prompt_tokens - 1

    def prepared(self, hidden: torch.Tensor, first: int, reach: Reach, cache: TextCache) -> PreparedQuestion:
        """The question with what reading gave: hidden [1, T, d] and the cached columns before the start."""
        start = self.start(reach)
        rows = OpenRows(reach, self.layout.tail(start), hidden[:, start:], start, cache)
        return PreparedQuestion(self.layout, self.prompt_tokens, hidden, first, rows, self.trie, TextCache())


@torch.no_grad()
def prepare_batch(lm: LanguageModel, texts: Sequence[ChoiceText], first: int,
                  reach: Reach = 'all') -> list[PreparedQuestion]:
    """Read several questions in one pass; each as if it were read alone, within rounding.

    Little is padded where they are of similar length.
    """
    layout = TextLayout.stack([text.layout for text in texts])
    hidden = lm.run_blocks(lm.embed(layout), layout, 0, first)
    each = [hidden[row:row + 1, :text.layout.tokens].clone() for row, text in enumerate(texts)]
    caches = _columns_before(lm, texts, hidden, first, reach)
    return [text.prepared(own, first, reach, cache)
            for text, own, cache in zip(texts, each, caches, strict=True)]


def _columns_before(lm: LanguageModel, texts: Sequence[ChoiceText], hidden: torch.Tensor, first: int,
                    reach: Reach) -> list[TextCache]:
    """Keys and values in blocks first..L-1 of what comes before the first row that a prefix changes."""
    starts = [text.start(reach) for text in texts]
    if not any(starts):
        return [TextCache() for _ in texts]
    cache = TextCache()
    layout = TextLayout.stack([text.layout.head(start) for text, start in zip(texts, starts, strict=True)])
    lm.run_blocks(hidden[:, :max(starts)], layout, first, lm.blocks, cache=cache)
    return [cache.text(row, start) for row, start in enumerate(starts)]


def _check_length(lm: LanguageModel, layout: TextLayout, prompt: int) -> None:
    if prompt > MOST_PROMPT_TOKENS:
        raise QuestionError(f'the question is {prompt} tokens long to {lm.name}; at most '
                            f'{MOST_PROMPT_TOKENS} are read; say it in fewer or plainer words')
    if lm.max_tokens is not None and layout.tokens > lm.max_tokens:
        raise QuestionError(f'the question has {layout.tokens} tokens with its choices; {lm.name} reads '
                            f'at most {lm.max_tokens}')


@torch.no_grad()
def open_rows(lm: LanguageModel, layout: TextLayout, hidden: torch.Tensor, first: int, prompt_tokens: int,
              reach: Reach) -> OpenRows:
    """The rows of a text that a prefix may change: all, or those from the prompt's last token on.

    layout, hidden [1, T, d]: the whole text at the input of block `first`.  With reach 'answer' the
    prompt before its last token sees no prefix, so its keys and values in the remaining blocks are
    computed here, once.
    """
    start = 0 if reach == 'all' else prompt_tokens - 1
    cache = TextCache()
    if start:
        lm.run_blocks(hidden[:, :start], layout.head(start), first, lm.blocks, cache=cache)
    return OpenRows(reach, layout.tail(start), hidden[:, start:], start, cache)


def complete(lm: LanguageModel, prepared: PreparedQuestion, prefix: Prefix | None = None,
             cache: TextCache | None = None) -> torch.Tensor:
    """Run the open rows through the remaining blocks with the prefix of one frame; gives [1, R, d].

    cache: the caller's own copy of what `prepared` holds, to go on generating from; default: none is kept.
    Raises LinksError if the prefix links a block below `prepared.first`.
    """
    lowest = min(prefix, default=lm.blocks) if prefix else lm.blocks
    if lowest < prepared.first:
        raise LinksError(f'block {lowest} is linked but the question is prepared up to block '
                         f'{prepared.first}; prepare it again for these links')
    rows = prepared.rows
    cache = rows.cache.fork() if cache is None else cache
    return lm.run_blocks(rows.hidden, rows.layout, prepared.first, lm.blocks, prefix, cache)


def choice_log_probabilities(lm: LanguageModel, prepared: PreparedQuestion,
                             prefix: Prefix | None = None) -> torch.Tensor:
    """Log-probabilities [choices] of a prepared question's choices, differentiable in the prefix.

    Raises QuestionError if it was prepared without choices.
    """
    trie = prepared.trie
    if trie is None:
        raise QuestionError('the question was prepared without choices; generate its answer instead')
    deciding = trie.positions(prepared.prompt_tokens - prepared.rows.start).to(prepared.hidden.device)
    hidden = complete(lm, prepared, prefix)[0, deciding]
    return trie.log_probabilities(lm.logits(hidden, trie.vocabulary.to(hidden.device)))
