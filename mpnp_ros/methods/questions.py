"""Input and output of methods: questions, batches of them, answers and their evidence."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.attention import Prefix
from mpnp_ros.llm.choices import ChoiceTrie, Target
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prepared import PreparedQuestion
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.link import QuestionStates
from mpnp_ros.tokens import ModalityTokens

Tokens = Mapping[str, ModalityTokens]


@dataclass(frozen=True, eq=False)
class AskedQuestion:
    """A question read by :meth:`Method.prepare`, for any number of frames; it survives plugging."""

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
    """The count of one probe for one question.

    modality: of one sensor; empty: of all together.  sectors: bool [SECTORS], the sectors it looked at.
    reach: metres up to which things count, inf: all.  sort: what is counted, e.g. "parked car".  expected:
    number.  none: probability that nothing is there.  covered: share of it that sensors look at and can
    tell, 0..1.
    """

    modality: str
    sectors: np.ndarray
    reach: float
    sort: str
    expected: float
    none: float
    covered: float


@dataclass(frozen=True)
class Grounding:
    """A token that an answer rests on.

    token: its index among the tokens of the modality.  sort: what was counted, e.g. "parked car".  expected:
    number of those in it.  weight: its share in what the answer rests on; those of all tokens add up to 1.
    """

    modality: str
    token: int
    sort: str
    expected: float
    weight: float


@dataclass(frozen=True)
class Influence:
    """How far the probabilities of an answer change when modalities are closed.

    A closed modality counts nothing and looks nowhere; where its link does not count, its gates are closed.
    Each number is a total variation distance, 0.5 sum |p - q|, in 0..1, between two distributions:
    of: for each used modality, the answer as given and with that modality closed.  alone: for each, with all
    others closed and with all closed.  sensors: the answer as given and with all closed, which is a guess by
    what the links have learned of such questions.
    text, confidence: the most probable choice of the text alone, without any link, and its probability.
    """

    of: Mapping[str, float]
    alone: Mapping[str, float]
    sensors: float
    text: str
    confidence: float


@dataclass
class Evidence:
    """Statements of links beside their prefix, and what is wanted of them.

    told: number of questions, the first of the batch, for each of which `counted`, `answerable` and
    `grounding` are filled in.
    counted: for each, of every reader first all its sensors together, then each of several.
    answerable: for each the probability that counts can answer it at all; 1 where no link counts.
    grounding: for each the heaviest tokens of each reader.
    temperature: [B], divisor of the log-probabilities of answers, or None.
    silent: for modalities whose reader cannot answer every question while another one can, the questions in
    which they have no say, bool [B].
    """

    told: int = 0
    counted: list[list[Counted]] = field(init=False)
    answerable: list[float] = field(init=False)
    grounding: list[list[Grounding]] = field(init=False)
    temperature: torch.Tensor | None = None
    silent: dict[str, torch.Tensor] = field(default_factory=dict)

    def has_say(self, modality: str, row: int) -> bool:
        """Return whether a modality has a say in the question of a row."""
        silent = self.silent.get(modality)
        return silent is None or not bool(silent[row if len(silent) > 1 else 0])

    def __post_init__(self) -> None:
        self.counted, self.answerable = [[] for _ in range(self.told)], [1.] * self.told
        self.grounding = [[] for _ in range(self.told)]


@dataclass(frozen=True)
class Reply:
    """An answer.

    confidence: in [0, 1], of the choice, or the geometric mean over generated tokens.  probabilities:
    one per choice in their order; they add up to 1; empty for a generated answer.  used: modalities it
    rests on, sorted.  seconds: of computing, shared evenly where several were answered at once.  counted,
    answerable, grounding: see Evidence; only where they were asked for.  influence: None where it was not
    wanted, or the method cannot tell.
    """

    text: str
    confidence: float
    probabilities: tuple[float, ...]
    used: tuple[str, ...]
    seconds: float
    counted: tuple[Counted, ...] = ()
    answerable: float = 1.
    grounding: tuple[Grounding, ...] = ()
    influence: Influence | None = None


@dataclass(frozen=True, eq=False)
class QuestionBatch:
    """Questions prepared up to the same block `first`, padded on the right."""

    questions: tuple[PreparedQuestion, ...]
    first: int

    @classmethod
    def stack(cls, questions: Sequence[PreparedQuestion]) -> QuestionBatch:
        """Return a batch of at least one question; LinksError unless all are prepared up to one block."""
        return cls(tuple(questions), _first(questions))

    @cached_property
    def layout(self) -> TextLayout:
        """The rows that a prefix may change, [B, R]."""
        return TextLayout.stack([question.rows.layout for question in self.questions])

    @cached_property
    def hidden(self) -> torch.Tensor:
        """The input of block `first`, [B, R, d]."""
        return _padded([question.rows.hidden for question in self.questions])

    @property
    def cache(self) -> TextCache:
        """Keys and values of the columns before the rows, stacked anew; packed blocks keep their own."""
        return TextCache.stack([question.rows.cache for question in self.questions], self.layout.cached)

    @cached_property
    def decisions(self) -> list[tuple[ChoiceTrie, torch.Tensor, torch.Tensor]]:
        """Of each list of choices its tree, its questions [b, 1] and the rows that decide, [b, branches]."""
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row, question in enumerate(self.questions):
            groups[question.choice_tree.choices].append(row)
        return [(self.questions[rows[0]].choice_tree, torch.tensor(rows)[:, None],
                 torch.stack([self.questions[row].choice_tree.positions(_open_prompt(self.questions[row]))
                              for row in rows])) for rows in groups.values()]

    @property
    def nbytes(self) -> int:
        """Bytes held, as packed texts too: those of the rows and their cache in float32, padded."""
        longest = max(question.rows.hidden.nbytes + question.rows.cache.nbytes for question in self.questions)
        return len(self.questions) * longest * 4 // self.questions[0].hidden.element_size()

    def complete(self, lm: LanguageModel, prefix: Prefix) -> torch.Tensor:
        """Return the last block's output, [B, R, d]."""
        return lm.run_blocks(self.hidden, self.layout, self.first, lm.blocks, prefix, self.cache.fork())

    def choice_log_probabilities(self, lm: LanguageModel, hidden: torch.Tensor) -> list[torch.Tensor]:
        """Return log-probabilities [choices] of each question; equal choices are scored together."""
        scored: list[torch.Tensor] = [hidden] * len(self.questions)
        for trie, rows, columns in self.decisions:
            logits = lm.logits(hidden[rows, columns], trie.vocabulary.to(hidden.device))
            for row, own in zip(rows[:, 0].tolist(), trie.log_probabilities(logits), strict=True):
                scored[row] = own
        return scored

    def answer_log_probabilities(self, lm: LanguageModel, hidden: torch.Tensor,
                                 answers: Sequence[int]) -> torch.Tensor:
        """Return log-probabilities [B] of one choice of each question; only its deciding rows are needed."""
        decisions = [(row, decision) for row, (question, answer)
                     in enumerate(zip(self.questions, answers, strict=True)) for decision
                     in _decisions(question, answer)]
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
        """Return log-probabilities [B] of the answers behind the prompts, over the full vocabulary."""
        rows = [row for row, answer in enumerate(answers) for _ in answer]
        columns = [question.prompt_tokens - question.rows.start - 1 + place
                   for question, answer in zip(self.questions, answers, strict=True)
                   for place in range(len(answer))]
        tokens = torch.tensor([token for answer in answers for token in answer], device=hidden.device)
        scores = lm.logits(hidden[rows, columns]).float().log_softmax(-1)
        each = scores.gather(-1, tokens[:, None])[:, 0]
        return each.new_zeros(len(answers)).index_add(0, torch.tensor(rows, device=each.device), each)


def question_states(lm: LanguageModel, questions: Sequence[PreparedQuestion],
                    blocks: Sequence[int]) -> QuestionStates:
    """Return the states of questions at the input of one or more blocks, ascending from `first`.

    Links with question pooling read them.  States at `first`, up to which all questions are prepared, are
    at hand; blocks above are run here without any prefix.
    """
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
    """Return how many of a question's open rows the probability of one of its choices needs, at least 1."""
    return max((decision.position + 1 for decision in _decisions(question, answer)),
               default=_open_prompt(question))


def _decisions(question: PreparedQuestion, answer: int) -> list[Target]:
    """Return the decisions that lead to one of the choices, counted in open rows."""
    trie = question.choice_tree
    return trie.targets(trie.choices[answer], _open_prompt(question))


def _first(questions: Sequence[PreparedQuestion]) -> int:
    """Return the block up to which all questions are prepared; LinksError if they differ."""
    firsts = sorted({question.first for question in questions})
    if len(firsts) > 1:
        raise LinksError(f'the questions of a batch are prepared up to different blocks, {firsts}; prepare '
                         'all of them after plugging')
    return firsts[0]


def _open_prompt(question: PreparedQuestion) -> int:
    """Return how many of the open rows belong to the prompt."""
    return question.prompt_tokens - question.rows.start


def _padded(hidden: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return hidden states [1, R, d] of single texts as one batch."""
    if len(hidden) == 1:
        return hidden[0]
    return pad_sequence([states[0] for states in hidden], batch_first=True)
