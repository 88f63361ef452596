"""Answers from a closed list: one pass gives the probability of every choice.

The tokens of the choices form a tree, and the model decides only where it branches.  So the probability of a
choice is the product, over the branching nodes of its path, of a softmax restricted to the possible next
tokens.  The probabilities of all choices add up to 1.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from mpnp_ros.errors import QuestionError
from mpnp_ros.llm.layout import TextLayout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_CHOICES = 256
MAX_CHARACTERS = 200
ANCHOR = ':'


@dataclass(frozen=True)
class Target:
    """One decision on the way to an answer, for a loss over the answer only.

    position: column of the layout whose logits decide.  candidates: token ids that compete there.
    target: index of the right one among them.
    """

    position: int
    candidates: tuple[int, ...]
    target: int


@dataclass(eq=False)
class _Node:
    """A prefix of one or more choices. slot: its column behind the prompt, -1 for the end of the prompt."""

    children: dict[int, _Node] = field(default_factory=dict)
    choice: int | None = None
    slot: int = -1

    def candidates(self, end: int) -> tuple[int, ...]:
        """Return the tokens that may follow; `end` among them if a choice is complete but others continue."""
        stops = (end,) if self.choice is not None and self.children else ()
        return (*self.children, *stops)


class ChoiceTrie:
    """The tree of a closed list of answers.

    choices: the answers as given, without surrounding space.  vocabulary: [V'] ids of all tokens that
    compete anywhere, ascending; score these only (`LanguageModel.logits(hidden, trie.vocabulary)`).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, choices: Sequence[str]) -> None:
        """Raises QuestionError for none, too many, too long, empty or equal choices."""
        self.choices = _checked(choices)
        self._end = tokenizer.eos_token_id
        if self._end is None:
            self._end = tokenizer('\n', add_special_tokens=False).input_ids[-1]
        self._paths = [answer_tokens(tokenizer, choice) for choice in self.choices]
        self._root = _Node()
        for index, path in enumerate(self._paths):
            node = self._root
            for token in path:
                node = node.children.setdefault(token, _Node())
            if node.choice is not None:
                raise QuestionError(f'choices {self.choices[node.choice]!r} and {self.choices[index]!r} '
                                    'are the same to the language model; keep one')
            node.choice = index
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._branches: list[_Node] = []
        self._lay_out(self._root)
        self._candidates = [node.candidates(self._end) for node in self._branches]
        self.vocabulary = torch.tensor(sorted({t for tokens in self._candidates for t in tokens}),
                                       dtype=torch.long)
        self._columns, self._steps = self._index_tables()

    def layout_with_branches(self, prompt: torch.Tensor) -> TextLayout:
        """Return a batch of 1: the prompt [T], and behind it the tree of tokens to the branching nodes."""
        return TextLayout.tree(prompt, self._tokens, self._parents)

    def positions(self, prompt_tokens: int) -> torch.Tensor:
        """Return the columns of that layout whose logits decide, [branching nodes]."""
        return torch.tensor([prompt_tokens + node.slot for node in self._branches], dtype=torch.long)

    def log_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities [..., choices] of logits [..., branching nodes, V'] over `vocabulary`."""
        if not self._branches:
            return logits.new_zeros((*logits.shape[:-2], len(self.choices)), dtype=torch.float32)
        columns, steps = self._columns.to(logits.device), self._steps.to(logits.device)
        known = columns >= 0
        index = columns.clamp(min=0).expand(*logits.shape[:-2], *columns.shape)
        scores = logits.float().gather(-1, index).masked_fill(~known, -torch.inf)
        decided = scores.log_softmax(-1).masked_fill(~known, 0).flatten(-2)
        certain = decided.new_zeros((*decided.shape[:-1], 1))
        return torch.cat([decided, certain], -1)[..., steps].sum(-1)

    def targets(self, choice: str, prompt_tokens: int) -> list[Target]:
        """Return the decisions that lead to `choice`; prompt_tokens: length of the prompt in the layout.

        The sum of their cross-entropies is minus the log-probability of the choice.  Raises QuestionError
        if it is not among the choices.
        """
        if choice not in self.choices:
            raise QuestionError(f'the answer {choice!r} is not among the {len(self.choices)} choices')
        return [Target(prompt_tokens + self._branches[branch].slot, self._candidates[branch], candidate)
                for branch, candidate in self._decisions(self.choices.index(choice))]

    def _lay_out(self, node: _Node) -> None:
        """Number the branching nodes below and the tokens that lead to them, parents first."""
        if len(node.candidates(self._end)) > 1:
            self._branches.append(node)
        for token, child in node.children.items():
            if self._branches_below(child):
                child.slot = len(self._tokens)
                self._tokens.append(token)
                self._parents.append(node.slot)
                self._lay_out(child)

    def _branches_below(self, node: _Node) -> bool:
        return (len(node.candidates(self._end)) > 1
                or any(self._branches_below(child) for child in node.children.values()))

    def _decisions(self, choice: int) -> Iterator[tuple[int, int]]:
        """(branching node, candidate) pairs on the path of a choice."""
        number = {id(node): index for index, node in enumerate(self._branches)}
        node = self._root
        for token in (*self._paths[choice], self._end):
            if id(node) in number:
                branch = number[id(node)]
                yield branch, self._candidates[branch].index(token)
            node = node.children.get(token, node)

    def _index_tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vocabulary columns [branching nodes, candidates], and the decisions of each choice.

        Columns are -1 where there is no candidate.  Decisions are indices into the columns, flattened; the
        number of columns where there is no further decision.
        """
        widest = max(map(len, self._candidates), default=0)
        column = {token: index for index, token in enumerate(self.vocabulary.tolist())}
        columns = [[column[token] for token in tokens] + [-1] * (widest - len(tokens))
                   for tokens in self._candidates]
        steps = [[branch * widest + candidate for branch, candidate in self._decisions(choice)]
                 for choice in range(len(self.choices))]
        deepest = max(map(len, steps))
        steps = [path + [len(columns) * widest] * (deepest - len(path)) for path in steps]
        return torch.tensor(columns, dtype=torch.long), torch.tensor(steps, dtype=torch.long)


def answer_tokens(tokenizer: PreTrainedTokenizerBase, answer: str) -> tuple[int, ...]:
    """Return the token ids of an answer behind a prompt: with a space in front, without special tokens."""
    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids

    before, whole = encode(ANCHOR), encode(f'{ANCHOR} {answer}')
    joined = whole[:len(before)] != before
    return tuple(encode(f' {answer}') if joined else whole[len(before):])


def _checked(choices: Sequence[str]) -> tuple[str, ...]:
    stripped = tuple(' '.join(choice.split()) for choice in choices)
    if not 0 < len(stripped) <= MAX_CHOICES:
        raise QuestionError(f'{len(stripped)} choices given; expected 1 to {MAX_CHOICES}')
    if not all(stripped):
        raise QuestionError('a choice is empty; remove it')
    long = next((choice for choice in stripped if len(choice) > MAX_CHARACTERS), None)
    if long:
        raise QuestionError(f'the choice {long[:20]!r}... has {len(long)} characters; '
                            f'at most {MAX_CHARACTERS}')
    twice = next((choice for choice in stripped if stripped.count(choice) > 1), None)
    if twice:
        raise QuestionError(f'the choice {twice!r} is given twice; keep one')
    return stripped
