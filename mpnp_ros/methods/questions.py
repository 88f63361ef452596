"""What goes into a method and what comes out: questions, batches of them, answers and what they rest on."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.attention import Prefix
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prepared import PreparedQuestion
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.link import QuestionStates
from mpnp_ros.tokens import ModalityTokens

Tokens = Mapping[str, ModalityTokens]


@dataclass(frozen=True, eq=False)
class AskedQuestion:
    """A question as :meth:`Method.prepare` read it; good for any number of frames and across plugging."""

    text: str
    choices: tuple[str, ...]
    prepared: PreparedQuestion


@dataclass(frozen=True, eq=False)
class AnsweredQuestion:
    """A question with its true answer, for training: as text, and as a choice or token ids."""

    question: AskedQuestion
    answer: str
    target: int | tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Counted:
    """What one probe counted for one question: where, of what, and what came out.

    modality: of one sensor; empty: of all together.  sectors: bool [SECTORS], where it looked; reach:
    metres up to which things count, inf: all.  sort: of what, e.g. "parked car".  expected: number.  none:
    probability that nothing is there.  covered: how much of it is looked at and can be told, 0..1.
    """

    modality: str
    sectors: np.ndarray
    reach: float
    sort: str
    expected: float
    none: float
    covered: float


@dataclass
class Evidence:
    """What links that count have to say beside a prefix.

    alone: whether the prefix is of a single question, of which it is told what was counted: of every reader
    all its sensors together, then each of several.  answerable: probability that counts can answer that
    question at all; 1 where no link counts.  temperature: [B], by which the log-probabilities of answers are
    to be divided, or None.
    """

    alone: bool = False
    counted: list[Counted] = field(default_factory=list)
    answerable: float = 1.
    temperature: torch.Tensor | None = None


@dataclass(frozen=True)
class Reply:
    """An answer.

    confidence: in [0, 1], of the choice, or the geometric mean over generated tokens.  probabilities:
    one per choice in their order; they add up to 1; empty for a generated answer.  used: modalities it
    rests on, sorted.  seconds: of computing, shared evenly where several were answered at once.  counted:
    what links that count have counted for it.  answerable: probability that counts can answer it at all, 1
    where no link counts; both only of questions that are answered alone.
    """

    text: str
    confidence: float
    probabilities: tuple[float, ...]
    used: tuple[str, ...]
    seconds: float
    counted: tuple[Counted, ...] = ()
    answerable: float = 1.


@dataclass(frozen=True, eq=False)
class QuestionBatch:
    """Questions prepared up to the same block, padded on the right.

    Of all rows that a prefix may change, layout: [B, R], hidden: [B, R, d], the input of block `first`,
    and cache: the columns before them.
    """

    questions: tuple[PreparedQuestion, ...]
    layout: TextLayout
    hidden: torch.Tensor
    cache: TextCache
    first: int

    @classmethod
    def stack(cls, questions: Sequence[PreparedQuestion]) -> QuestionBatch:
        """At least one question.  Raises LinksError unless all are prepared up to the same block."""
        first = _first(questions)
        rows = [question.rows for question in questions]
        layout = TextLayout.stack([one.layout for one in rows])
        return cls(tuple(questions), layout, _padded([one.hidden for one in rows]),
                   TextCache.stack([one.cache for one in rows], layout.cached), first)

    def complete(self, lm: LanguageModel, prefix: Prefix) -> torch.Tensor:
        """The last block's output, [B, R, d]."""
        return lm.run_blocks(self.hidden, self.layout, self.first, lm.blocks, prefix, self.cache.fork())

    def choice_log_probabilities(self, lm: LanguageModel, hidden: torch.Tensor) -> list[torch.Tensor]:
        """Of each question, [choices].  Questions with the same choices are scored together."""
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row, question in enumerate(self.questions):
            groups[question.trie.choices].append(row)
        scored: list[torch.Tensor] = [hidden] * len(self.questions)
        for rows in groups.values():
            for row, scores in zip(rows, self._score(lm, hidden, rows), strict=True):
                scored[row] = scores
        return scored

    def answer_log_probabilities(self, lm: LanguageModel, hidden: torch.Tensor,
                                 answers: Sequence[int]) -> torch.Tensor:
        """Of one choice of each question, [B]; only the rows that decide it are needed."""
        decisions = [(row, decision) for row, (question, answer)
                     in enumerate(zip(self.questions, answers, strict=True)) for decision
                     in question.trie.targets(question.trie.choices[answer], _open_prompt(question))]
        if not decisions:
            return 0 * hidden.float().sum((1, 2))
        competing = sorted({token for _, decision in decisions for token in decision.candidates})
        column = {token: place for place, token in enumerate(competing)}
        known = torch.zeros(len(decisions), len(competing), dtype=torch.bool)
        for place, (_, decision) in enumerate(decisions):
            known[place, [column[token] for token in decision.candidates]] = True
        rows = torch.tensor([row for row, _ in decisions], device=hidden.device)
        places = torch.tensor([decision.position for _, decision in decisions], device=hidden.device)
        right = torch.tensor([column[decision.candidates[decision.target]] for _, decision in decisions],
                             device=hidden.device)
        logits = lm.logits(hidden[rows, places], torch.tensor(competing, device=hidden.device)).float()
        scores = logits.masked_fill(~known.to(hidden.device), -torch.inf).log_softmax(-1)
        each = scores.gather(-1, right[:, None])[:, 0]
        return each.new_zeros(len(answers)).index_add(0, rows, each)

    def text_log_probabilities(self, lm: LanguageModel, hidden: torch.Tensor,
                               answers: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Of each answer that the layout holds behind its prompt, [B], over the full vocabulary."""
        rows = [row for row, answer in enumerate(answers) for _ in answer]
        columns = [question.prompt_tokens - question.rows.start - 1 + place
                   for question, answer in zip(self.questions, answers, strict=True)
                   for place in range(len(answer))]
        tokens = torch.tensor([token for answer in answers for token in answer], device=hidden.device)
        scores = lm.logits(hidden[rows, columns]).float().log_softmax(-1)
        each = scores.gather(-1, tokens[:, None])[:, 0]
        return each.new_zeros(len(answers)).index_add(0, torch.tensor(rows, device=each.device), each)

    def _score(self, lm: LanguageModel, hidden: torch.Tensor, rows: list[int]) -> torch.Tensor:
        """Log-probabilities [rows, choices] of questions with the same choices."""
        trie = self.questions[rows[0]].trie
        questions = [self.questions[row] for row in rows]
        columns = torch.stack([trie.positions(_open_prompt(question))
                               for question in questions])
        deciding = hidden[torch.tensor(rows)[:, None], columns]
        return trie.log_probabilities(lm.logits(deciding, trie.vocabulary.to(hidden.device)))


def question_states(lm: LanguageModel, questions: Sequence[PreparedQuestion],
                    blocks: Sequence[int]) -> QuestionStates | None:
    """What links with question pooling read, at the input of some blocks, ascending from `first`.

    At `first`, up to which all questions are prepared, they are at hand; blocks above are run here
    without any prefix.
    """
    if not blocks:
        return None
    lengths = torch.tensor([question.prompt_tokens for question in questions], device=lm.device)
    layout = TextLayout.stack([question.layout.head(question.prompt_tokens) for question in questions])
    hidden = _padded([question.hidden[:, :question.prompt_tokens] for question in questions])
    states, at = {}, _first(questions)
    with torch.no_grad():
        for block in blocks:
            hidden, at = lm.run_blocks(hidden, layout, at, block), block
            states[block] = hidden
    mask = torch.arange(hidden.shape[1], device=lengths.device) < lengths[:, None]
    return QuestionStates(states, mask)


def rows_to_decide(question: PreparedQuestion, answer: int) -> int:
    """How many of a question's open rows the probability of one of its choices needs, at least 1."""
    decisions = question.trie.targets(question.trie.choices[answer], _open_prompt(question))
    return max((decision.position + 1 for decision in decisions), default=_open_prompt(question))


def _first(questions: Sequence[PreparedQuestion]) -> int:
    """The block up to which all questions are prepared."""
    firsts = sorted({question.first for question in questions})
    if len(firsts) > 1:
        raise LinksError(f'the questions of a batch are prepared up to different blocks, {firsts}; prepare '
                         'all of them after plugging')
    return firsts[0]


def _open_prompt(question: PreparedQuestion) -> int:
    """How many of the open rows are of the prompt."""
    return question.prompt_tokens - question.rows.start


def _padded(hidden: Sequence[torch.Tensor]) -> torch.Tensor:
    """Hidden states [1, R, d] of single texts as one batch."""
    if len(hidden) == 1:
        return hidden[0]
    return pad_sequence([one[0] for one in hidden], batch_first=True)
