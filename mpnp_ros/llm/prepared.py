"""A question read as far as no modality has a say, and its completion for one frame."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from mpnp_ros.errors import LinksError, QuestionError
from mpnp_ros.llm.choices import ChoiceTrie
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prefix import Prefix
from mpnp_ros.llm.prompt import PromptTemplate
from mpnp_ros.llm.text_cache import TextCache

#: Which rows of a text see a prefix: all of them, or those that decide the answer.
Reach = Literal['all', 'answer']


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


@dataclass(frozen=True, eq=False)
class PreparedQuestion:
    """A question after blocks 0..first-1, which depend on its text only.

    layout: one text, [1, T] or with the tree of its choices behind it.  prompt_tokens: length of the
    prompt alone.  hidden: [1, T, d], the input of block `first`.  rows: what remains to be run for a
    frame: all of it, or the rows that decide the answer, where only these see a prefix.  trie: of its
    choices; None where the answer is generated, and then `cache` holds the keys and values of the lower
    blocks.
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
    prompt = template.ids(lm.tokenizer, question)
    trie = ChoiceTrie(lm.tokenizer, choices) if choices else None
    layout = trie.layout_with_branches(prompt) if trie else TextLayout.causal(prompt[None])
    if lm.max_tokens is not None and layout.tokens > lm.max_tokens:
        raise QuestionError(f'the question has {layout.tokens} tokens with its choices; {lm.name} reads '
                            f'at most {lm.max_tokens}')
    layout, cache = layout.to(lm.device), TextCache()
    hidden = lm.run_blocks(lm.embed(layout), layout, 0, first, cache=None if trie else cache)
    rows = open_rows(lm, layout, hidden, first, len(prompt), reach)
    return PreparedQuestion(layout, len(prompt), hidden, first, rows, trie, cache)


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
