"""What goes into a method and what comes out: questions, tokens, answers and what they rest on."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from mpnp_ros.llm.prepared import PreparedQuestion
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
