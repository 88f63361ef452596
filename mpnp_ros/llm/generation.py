"""Free text answers, token by token."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from mpnp_ros.errors import QuestionError
from mpnp_ros.llm.attention import Prefix
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import PreparedQuestion, complete


class Fragment(NamedTuple):
    """One generated token: the text it adds (empty within a multi-token character) and its probability."""

    text: str
    probability: float


@torch.no_grad()
def stream(lm: LanguageModel, prepared: PreparedQuestion, prefix: Prefix | None = None,
           max_new_tokens: int = 32, cancelled: Callable[[], bool] | None = None) -> Iterator[Fragment]:
    """Generate the answer to a question prepared without choices, the most probable token each time.

    Ends at the model's end of text, a newline, `max_new_tokens`, the model's longest text, or as soon as
    `cancelled()` is true (for a threading.Event, pass its is_set).  The prepared question is not changed.
    Raises QuestionError, with the first token asked for, if it was prepared with choices, and LinksError
    for a prefix below its blocks.
    """
    if prepared.trie is not None:
        raise QuestionError('the question was prepared with choices; score them instead of generating')
    text, layout = _GrowingText(lm), prepared.layout
    cache = prepared.cache.merged(prepared.rows.cache)
    hidden = complete(lm, prepared, prefix, cache)
    if lm.max_tokens is not None:
        max_new_tokens = min(max_new_tokens, lm.max_tokens - prepared.prompt_tokens)
    for left in range(max_new_tokens, 0, -1):
        probability, token = lm.logits(hidden[:, -1]).float().softmax(-1).max(-1)
        if cancelled is not None and cancelled():
            return
        if int(token) in lm.end_tokens:
            return
        added, newline, _rest = text.add(int(token)).partition('\n')
        if added or not newline:
            yield Fragment(added, float(probability))
        if newline:
            return
        if left > 1:
            layout = layout.next(token[:, None])
            hidden = lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks, prefix, cache)


class _GrowingText:
    """Text of the tokens so far, returned in whole characters."""

    def __init__(self, lm: LanguageModel) -> None:
        self._decode = lm.tokenizer.decode
        self._ids: list[int] = []
        self._given = 0

    def add(self, token: int) -> str:
        """Add a token; returns the new complete text."""
        self._ids.append(token)
        text = self._decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        text = text.lstrip(' ')
        if text.endswith('\N{REPLACEMENT CHARACTER}'):
            return ''
        added, self._given = text[self._given:], len(text)
        return added
