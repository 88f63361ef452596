"""Questions with true answers that a robot was asked: answers, scores, and the report on a bag."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mpnp_ros.cli.ask import describe_counted
from mpnp_ros.cli.output import UNKNOWN as DASH
from mpnp_ros.questions.generator import LabelledQuestion
from mpnp_ros.questions.wording import TYPES
from mpnp_ros.training.evaluation import Share

ANSWERED, UNKNOWN, REFUSED, LOST = 'answered', 'unknown', 'refused', 'lost'
KINDS = (ANSWERED, UNKNOWN, REFUSED, LOST)
HEADS = ('question about', 'right of asked', '%', '95 % interval', 'majority %', 'blind %')
CAPTION = ('majority: the most frequent answer to each type of question in this bag; blind: the same model '
           'without its sensors')


@dataclass(frozen=True)
class Exchange:
    """A question with its true answer, the received answer, and the answer of the majority (guess).

    used: modalities the answer rests on.  latency: seconds from the question to the answer.  training:
    whether links were trained meanwhile.  links: version of those in use, as in Answer.  counted: the counts
    of the answer as text.
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
        """The exchange of an Answer message."""
        return cls(question.text, question.type, question.answer, guess, answer.text, answer.confidence,
                   tuple(answer.used_modalities), answer.latency, training, answer.links_version,
                   '; '.join(map(describe_counted, answer.counted[:2])))

    @property
    def is_right(self) -> bool:
        """Whether the answer is the true one."""
        return self.answer == self.truth


@dataclass(frozen=True)
class Score:
    """Sums over exchanges.  guessed: right answers of the majority.  latency: median, seconds."""

    asked: int
    right: int
    guessed: int
    latency: float

    @classmethod
    def of(cls, exchanges: Sequence[Exchange]) -> Score:
        """The score of some exchanges."""
        latencies = [exchange.latency for exchange in exchanges] or [float('nan')]
        return cls(len(exchanges), sum(exchange.is_right for exchange in exchanges),
                   sum(exchange.guess == exchange.truth for exchange in exchanges),
                   float(np.median(latencies)))

    @property
    def percent(self) -> float:
        """Right answers in percent; NaN without questions."""
        return 100 * self.right / self.asked if self.asked else float('nan')

    @property
    def guess_percent(self) -> float:
        """Right answers of the majority in percent; NaN without questions."""
        return 100 * self.guessed / self.asked if self.asked else float('nan')


def p95(latencies: np.ndarray) -> float:
    """The 95th percentile of latencies [n]; NaN for none."""
    return float(np.percentile(latencies, 95)) if len(latencies) else math.nan


def interval(score: Score) -> str:
    """The 95 % Wilson interval of the percentage."""
    low, high = Share(score.right, score.asked).interval
    return f'{100 * low:.0f} to {100 * high:.0f}' if score.asked else ''


def milliseconds(latency: float) -> str:
    """A latency in seconds as text; a dash for NaN."""
    return DASH if math.isnan(latency) else f'{1e3 * latency:.0f} ms'


def of_type(exchanges: Iterable[Exchange], kind: str | None) -> list[Exchange]:
    """The exchanges about a type of question; None: all."""
    return [exchange for exchange in exchanges if kind in (None, exchange.type)]


@dataclass(frozen=True)
class AskedOutcome:
    """The outcome of a question.

    kind: answered; unknown (what the sensors tell does not answer it); refused (no sensor can be used, or the
    question was rejected or failed); lost (no answer, or none about the key frame).  reason: of the last two.
    latency: seconds from the question to the answer as the asker measures it.
    """

    exchange: Exchange
    kind: str
    reason: str = ''
    latency: float = math.nan

    @classmethod
    def lost(cls, question: LabelledQuestion, guess: str, reason: str) -> AskedOutcome:
        """The outcome of a question without an answer that counts."""
        return cls(Exchange(question.text, question.type, question.answer, guess, '', 0., (), math.nan), LOST,
                   reason)

    @property
    def counts(self) -> bool:
        """Whether there is an answer that counts."""
        return self.kind in (ANSWERED, UNKNOWN)


@dataclass
class BagReport:
    """The results so far.

    key_frames, questions: numbers of those in the bag.  frames: key frames asked about.  blind: answer to
    each wording without sensors; empty until all the rest is done.
    """

    bag: str
    key_frames: int
    questions: int
    frames: int = 0
    outcomes: list[AskedOutcome] = field(default_factory=list)
    blind: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: AskedOutcome) -> None:
        """Add the outcome of another question."""
        self.outcomes.append(outcome)

    @property
    def exchanges(self) -> list[Exchange]:
        """All exchanges; those without an answer that counts are wrong."""
        return [outcome.exchange if outcome.counts else replace(outcome.exchange, answer='')
                for outcome in self.outcomes]

    @property
    def latencies(self) -> np.ndarray:
        """[n] seconds, of answered questions."""
        return np.array([outcome.latency for outcome in self.outcomes if outcome.counts])

    @property
    def used(self) -> list[str]:
        """The modalities that answers rest on."""
        return sorted({name for outcome in self.outcomes for name in outcome.exchange.used})

    def progress(self) -> str:
        """Accuracy so far in a few words."""
        score = Score.of(self.exchanges)
        return f'{score.percent:.0f} % right, majority {score.guess_percent:.0f} %'

    def reasons(self, kind: str) -> Counter[str]:
        """Reasons of refused or lost questions with their numbers."""
        return Counter(outcome.reason for outcome in self.outcomes if outcome.kind == kind)

    def accuracies(self) -> dict[str, tuple[Score, int | None]]:
        """Score and right answers without sensors, by type of question and of all.

        The latter are None where some of the questions were not asked without sensors.
        """
        exchanges = self.exchanges
        asked, found = {exchange.type for exchange in exchanges}, {}
        known = [kind for kind in TYPES if kind in asked]
        for kind in [*known, *sorted(asked - set(known)), None]:
            chosen = of_type(exchanges, kind)
            blind = None if any(exchange.question not in self.blind for exchange in chosen) else sum(
                self.blind[exchange.question] == exchange.truth for exchange in chosen)
            found[kind or 'all'] = Score.of(chosen), blind
        return found

    def text(self) -> str:
        """The report as text."""
        lines = [f'{self.bag}: {len(self.outcomes)} of {self.questions} questions at {self.frames} of '
                 f'{self.key_frames} key frames; answers rest on {" and ".join(self.used) or "nothing"}']
        if not self.outcomes:
            return lines[0]
        rows = [HEADS, *((kind, f'{score.right} of {score.asked}', f'{score.percent:.1f}', interval(score),
                          f'{score.guess_percent:.1f}',
                          DASH if blind is None else f'{100 * blind / score.asked:.1f}')
                         for kind, (score, blind) in self.accuracies().items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ['  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        lines.append(CAPTION)
        counts = Counter(outcome.kind for outcome in self.outcomes)
        lines.append(', '.join(f'{kind} {counts[kind]}' for kind in KINDS))
        lines += [f'  {kind} {number}: {reason}' for kind in (REFUSED, LOST)
                  for reason, number in self.reasons(kind).most_common()]
        p50 = float(np.median(self.latencies)) if len(self.latencies) else math.nan
        lines.append(f'latency: median {milliseconds(p50)}, 95 % within {milliseconds(p95(self.latencies))}')
        return '\n'.join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data; what was not measured is None.  Accuracies: 0..1."""
        counts, latencies = Counter(outcome.kind for outcome in self.outcomes), self.latencies
        accuracy = {kind: {'n': score.asked, 'right': score.right,
                           'accuracy': score.right / score.asked if score.asked else None,
                           'majority': score.guessed / score.asked if score.asked else None,
                           'blind': blind / score.asked if blind is not None and score.asked else None}
                    for kind, (score, blind) in self.accuracies().items()}
        return {
            'bag': self.bag, 'key_frames': {'asked': self.frames, 'of': self.key_frames},
            'questions': {'asked': len(self.outcomes), 'of': self.questions}, 'modalities': self.used,
            'links_versions': sorted({outcome.exchange.links for outcome in self.outcomes} - {''}),
            'accuracy': accuracy, **{kind: counts[kind] for kind in KINDS},
            'reasons': {kind: dict(self.reasons(kind)) for kind in (REFUSED, LOST)},
            'latency': {'p50': float(np.median(latencies)) if len(latencies) else None,
                        'p95': p95(latencies) if len(latencies) else None}}
