"""Questions: prompts, their run up to the lowest link, and its completion for one frame."""
from __future__ import annotations

import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

import torch

from mpnp_ros.errors import ConfigurationError, LinksError, QuestionError
from mpnp_ros.llm.attention import Prefix
from mpnp_ros.llm.choices import ChoiceTrie
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_CHARACTERS = 2000
SLOT = '{question}'
PLAIN = f'question: {SLOT}\nanswer:'

#: Which rows of a text see a prefix: all of them, or those that decide the answer.
Reach = Literal['all', 'answer']
MOST_PROMPT_TOKENS = 2048
"""Reading time is proportional: 2000 characters are 500 tokens of English, but up to 6000 of emoji."""


@dataclass(frozen=True)
class PromptTemplate:
    """A text around the question that ends where the answer begins.

    text: holds `{question}` once; ends without a space, so that answers start with one (" car") and with
    a token of their own.  Raises ConfigurationError otherwise.
    """

    text: str = PLAIN

    def __post_init__(self) -> None:
        if self.text.count(SLOT) != 1:
            raise ConfigurationError(f'prompt template {self.text!r} must hold {SLOT} exactly once')
        if self.text[-1].isspace() or self.text.endswith(SLOT):
            raise ConfigurationError(f'prompt template {self.text!r} must end in what the answer follows, '
                                     'such as "answer:", without a space behind it')

    def ids(self, tokenizer: PreTrainedTokenizerBase, question: str) -> torch.Tensor:
        """Return the token ids [T] of the prompt, on the CPU.

        Names of special tokens in the question are read as plain text.  Raises QuestionError.
        """
        prompt = self.text.replace(SLOT, clean_question(question))
        ids = tokenizer(prompt, split_special_tokens=True).input_ids
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]
        return torch.tensor(ids)


def clean_question(question: str) -> str:
    """Return the question on one line without control characters; QuestionError if empty or too long."""
    if len(question) > MAX_CHARACTERS:
        raise QuestionError(f'the question has {len(question)} characters; at most {MAX_CHARACTERS} are read')
    plain = ''.join(' ' if unicodedata.category(c) in ('Cc', 'Cs', 'Zl', 'Zp') else c for c in question)
    plain = ' '.join(plain.split())
    if not plain:
        raise QuestionError('the question is empty; send a text')
    return plain


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
    def choice_tree(self) -> ChoiceTrie:
        """The tree of its choices; raises QuestionError if it was prepared without choices."""
        if self.trie is None:
            raise QuestionError('the question was prepared without choices; generate its answer instead')
        return self.trie

    @property
    def nbytes(self) -> int:
        """Bytes of hidden states and cached keys and values."""
        return self.hidden.nbytes + self.cache.nbytes + self.rows.cache.nbytes


@torch.no_grad()
def prepare(lm: LanguageModel, template: PromptTemplate, question: str, choices: Sequence[str],
            first: int, reach: Reach = 'all') -> PreparedQuestion:
    """Run a question through blocks 0..first-1, and with reach 'answer' its text through the rest.

    choices: closed list of answers; empty for an answer that is generated.  reach: the rows that will see a
    prefix.  Raises QuestionError.
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
    """The text of a question with the tree of its choices.

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
        """Return the prepared question; hidden: [1, T, d]; cache: of the columns before the start."""
        start = self.start(reach)
        rows = OpenRows(reach, self.layout.tail(start), hidden[:, start:], start, cache)
        return PreparedQuestion(self.layout, self.prompt_tokens, hidden, first, rows, self.trie, TextCache())


@torch.no_grad()
def prepare_batch(lm: LanguageModel, texts: Sequence[ChoiceText], first: int,
                  reach: Reach = 'all') -> list[PreparedQuestion]:
    """Read several questions in one pass, with the results of reading each alone, within rounding.

    Questions of similar length need little padding.
    """
    layout = TextLayout.stack([text.layout for text in texts])
    hidden = lm.run_blocks(lm.embed(layout), layout, 0, first)
    each = [hidden[row:row + 1, :text.layout.tokens].clone() for row, text in enumerate(texts)]
    starts, caches = [text.start(reach) for text in texts], [TextCache() for _ in texts]
    if any(starts):  # what no prefix changes is run to the last block now, for its keys and values
        cache = TextCache()
        heads = [text.layout.head(start) for text, start in zip(texts, starts, strict=True)]
        lm.run_blocks(hidden[:, :max(starts)], TextLayout.stack(heads), first, lm.blocks, cache=cache)
        caches = [cache.text(row, start) for row, start in enumerate(starts)]
    return [text.prepared(own, first, reach, cache)
            for text, own, cache in zip(texts, each, caches, strict=True)]


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
    """Return the rows of a text that a prefix may change: all, or those from the prompt's last token on.

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
    """Return log-probabilities [choices] of a prepared question's choices, differentiable in the prefix.

    Raises QuestionError if it was prepared without choices.
    """
    trie = prepared.choice_tree
    deciding = trie.positions(prepared.prompt_tokens - prepared.rows.start).to(prepared.hidden.device)
    hidden = complete(lm, prepared, prefix)[0, deciding]
    return trie.log_probabilities(lm.logits(hidden, trie.vocabulary.to(hidden.device)))


class Held(Protocol):
    """What a QuestionCache holds."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""


Kept = TypeVar('Kept', bound=Held)


class QuestionCache(Generic[Kept]):
    """The most recently used prepared questions, or what was made of them, limited by bytes; thread-safe.

    hits, misses: number of found questions, and of prepared ones.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._entries: OrderedDict[Hashable, Kept] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """Return what is kept for `key`, or the result of `make`, which is then kept.

        `make` runs outside the lock, so other questions need not wait.
        """
        with self._lock:
            if key in self._entries:
                self.hits += 1
                self._entries.move_to_end(key)
                return self._entries[key]
            self.misses += 1
        made = make()
        with self._lock:
            if key in self._entries:  # made by another thread meanwhile
                self._bytes -= self._entries.pop(key).nbytes
            if made.nbytes <= self._capacity:
                self._entries[key] = made
                self._bytes += made.nbytes
            while self._bytes > self._capacity:
                self._bytes -= self._entries.popitem(last=False)[1].nbytes
        return made

    def clear(self) -> None:
        """Remove all questions, for instance because other blocks are linked now."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes held, never more than the capacity."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)
