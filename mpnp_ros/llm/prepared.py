"""A question read as far as no modality has a say, and its completion for one frame."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mpnp_ros.errors import LinksError, QuestionError
from mpnp_ros.llm.choices import ChoiceTrie
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prefix import Prefix
from mpnp_ros.llm.prompt import PromptTemplate
from mpnp_ros.llm.text_cache import TextCache


@dataclass(frozen=True, eq=False)
class PreparedQuestion:
    """A question after blocks 0..first-1, which depend on its text only.

    layout: one text, [1, T] or with the tree of its choices behind it.  prompt_tokens: length of the
    prompt alone.  hidden: [1, T, d], the input of block `first`.  trie: of its choices; None where the
    answer is generated, and then `cache` holds the keys and values of the lower blocks.
    """

    layout: TextLayout
    prompt_tokens: int
    hidden: torch.Tensor
    first: int
    trie: ChoiceTrie | None
    cache: TextCache

    @property
    def nbytes(self) -> int:
        """Bytes of hidden states and cached keys and values."""
        return self.hidden.nbytes + self.cache.nbytes


@torch.no_grad()
def prepare(lm: LanguageModel, template: PromptTemplate, question: str, choices: Sequence[str],
            first: int) -> PreparedQuestion:
    """Run a question through blocks 0..first-1.

    choices: closed list of answers; empty for one that is generated.  Raises QuestionError.
    """
    prompt = template.ids(lm.tokenizer, question)
    trie = ChoiceTrie(lm.tokenizer, choices) if choices else None
    layout = trie.layout_with_branches(prompt) if trie else TextLayout.causal(prompt[None])
    if lm.max_tokens is not None and layout.tokens > lm.max_tokens:
        raise QuestionError(f'the question has {layout.tokens} tokens with its choices; {lm.name} reads '
                            f'at most {lm.max_tokens}')
    layout, cache = layout.to(lm.device), TextCache()
    hidden = lm.run_blocks(lm.embed(layout), layout, 0, first, cache=None if trie else cache)
    return PreparedQuestion(layout, len(prompt), hidden, first, trie, cache)


def complete(lm: LanguageModel, prepared: PreparedQuestion, prefix: Prefix | None = None,
             cache: TextCache | None = None) -> torch.Tensor:
    """Run the remaining blocks with the prefix of one frame; gives the last block's output [1, T, d].

    Raises LinksError if the prefix links a block below `prepared.first`.
    """
    lowest = min(prefix, default=lm.blocks) if prefix else lm.blocks
    if lowest < prepared.first:
        raise LinksError(f'block {lowest} is linked but the question is prepared up to block '
                         f'{prepared.first}; prepare it again for these links')
    return lm.run_blocks(prepared.hidden, prepared.layout, prepared.first, lm.blocks, prefix, cache)


def choice_log_probabilities(lm: LanguageModel, prepared: PreparedQuestion,
                             prefix: Prefix | None = None) -> torch.Tensor:
    """Log-probabilities [choices] of a prepared question's choices, differentiable in the prefix.

    Raises QuestionError if it was prepared without choices.
    """
    trie = prepared.trie
    if trie is None:
        raise QuestionError('the question was prepared without choices; generate its answer instead')
    deciding = trie.positions(prepared.prompt_tokens).to(prepared.hidden.device)
    hidden = complete(lm, prepared, prefix)[0, deciding]
    return trie.log_probabilities(lm.logits(hidden, trie.vocabulary.to(hidden.device)))
