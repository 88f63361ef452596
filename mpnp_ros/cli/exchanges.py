"""Questions with true answers that a robot was asked, and how many it answered right."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpnp_ros.cli.ask import describe_counted
from mpnp_ros.cli.output import UNKNOWN
from mpnp_ros.questions.generator import LabelledQuestion
from mpnp_ros.training.evaluation import Share


@dataclass(frozen=True)
class Exchange:
    """A question with its true answer, the answer that came, and what the majority would have said.

    used: modalities the answer rests on.  latency: seconds from the question to the answer.  training:
    whether links were being trained meanwhile.  links: version of those in use, as in Answer.  counted: what
    was counted for it, in words.
    """

    question: str
    type: str
    truth: str
    guess: str
    answer: str
    confidence: float
    used: tuple[str, ...]
    latency: float
    training: bool = False
    links: str = ''
    counted: str = ''

    @classmethod
    def of(cls, question: LabelledQuestion, guess: str, answer: Any, training: bool = False) -> Exchange:
        """Note an Answer message."""
        return cls(question.text, question.type, question.answer, guess, answer.text, answer.confidence,
                   tuple(answer.used_modalities), answer.latency, training, answer.links_version,
                   '; '.join(map(describe_counted, answer.counted[:2])))

    @property
    def is_right(self) -> bool:
        """Whether the answer is the true one."""
        return self.answer == self.truth


@dataclass(frozen=True)
class Score:
    """Sums over exchanges.  guessed: how many the majority gets right.  latency: median, seconds."""

    asked: int
    right: int
    guessed: int
    latency: float

    @classmethod
    def of(cls, exchanges: Sequence[Exchange]) -> Score:
        """Count."""
        latencies = [one.latency for one in exchanges] or [float('nan')]
        return cls(len(exchanges), sum(one.is_right for one in exchanges),
                   sum(one.guess == one.truth for one in exchanges), float(np.median(latencies)))

    @property
    def percent(self) -> float:
        """Answers that are right; NaN without questions."""
        return 100 * self.right / self.asked if self.asked else float('nan')

    @property
    def guess_percent(self) -> float:
        """What the majority reaches on the same questions."""
        return 100 * self.guessed / self.asked if self.asked else float('nan')


def p95(latencies: np.ndarray) -> float:
    """What 95 % of latencies [n] do not exceed; NaN of none."""
    return float(np.percentile(latencies, 95)) if len(latencies) else math.nan


def interval(score: Score) -> str:
    """Of the percentage: 95 %, Wilson."""
    low, high = Share(score.right, score.asked).interval
    return f'{100 * low:.0f} to {100 * high:.0f}' if score.asked else ''


def milliseconds(latency: float) -> str:
    """A latency in seconds; a dash for NaN."""
    return UNKNOWN if math.isnan(latency) else f'{1e3 * latency:.0f} ms'


def of_type(exchanges: Iterable[Exchange], kind: str | None) -> list[Exchange]:
    """Those of a type; None: all."""
    return [one for one in exchanges if kind in (None, one.type)]
