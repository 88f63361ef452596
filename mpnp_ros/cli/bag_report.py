"""What came of the questions of a bag: accuracy by type, beside what needs no look, and latencies."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mpnp_ros.cli.exchanges import Exchange, Score, interval, milliseconds, of_type, p95
from mpnp_ros.cli.output import UNKNOWN as DASH
from mpnp_ros.questions.generator import LabelledQuestion
from mpnp_ros.questions.wording import TYPES

ANSWERED, UNKNOWN, REFUSED, LOST = 'answered', 'unknown', 'refused', 'lost'
KINDS = (ANSWERED, UNKNOWN, REFUSED, LOST)
HEADS = ('question about', 'right of asked', '%', '95 % interval', 'majority %', 'blind %')
CAPTION = ('majority: the most frequent answer to each type of question in this bag; blind: the same model '
           'without its sensors')


@dataclass(frozen=True)
class AskedOutcome:
    """A question and what came of it.

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
        """Note a question without an answer that counts."""
        return cls(Exchange(question.text, question.type, question.answer, guess, '', 0., (), math.nan), LOST,
                   reason)


@dataclass
class BagReport:
    """What has been measured so far.

    key_frames, questions: how many there are to ask about and to ask.  frames: key frames asked about.
    blind: answer to each wording without sensors; empty until all the rest is done.
    """

    bag: str
    key_frames: int
    questions: int
    frames: int = 0
    outcomes: list[AskedOutcome] = field(default_factory=list)
    blind: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: AskedOutcome) -> None:
        """Note what came of another question."""
        self.outcomes.append(outcome)

    @property
    def exchanges(self) -> list[Exchange]:
        """All that was asked; whatever was not answered counts as wrong."""
        return [one.exchange if one.kind in (ANSWERED, UNKNOWN) else replace(one.exchange, answer='')
                for one in self.outcomes]

    @property
    def latencies(self) -> np.ndarray:
        """[n] seconds, of questions that were answered."""
        return np.array([one.latency for one in self.outcomes if one.kind in (ANSWERED, UNKNOWN)])

    def progress(self) -> str:
        """Accuracy so far, in a few words."""
        score = Score.of(self.exchanges)
        return f'{score.percent:.0f} % right, majority {score.guess_percent:.0f} %'

    def reasons(self, kind: str) -> Counter[str]:
        """Why questions were refused or lost, and how many."""
        return Counter(one.reason for one in self.outcomes if one.kind == kind)

    def blind_right(self, exchanges: Sequence[Exchange]) -> int | None:
        """How many are right without sensors; None where that was not asked, or not of all."""
        if any(one.question not in self.blind for one in exchanges):
            return None
        return sum(self.blind[one.question] == one.truth for one in exchanges)

    def text(self) -> str:
        """The report in words."""
        used = sorted({name for one in self.outcomes for name in one.exchange.used})
        lines = [f'{self.bag}: {len(self.outcomes)} of {self.questions} questions at {self.frames} of '
                 f'{self.key_frames} key frames; answers rest on {" and ".join(used) or "nothing"}']
        if not self.outcomes:
            return lines[0]
        rows = [HEADS, *(self._cells(kind) for kind in self._types())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ['  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        lines.append(CAPTION)
        counts = Counter(one.kind for one in self.outcomes)
        lines.append(', '.join(f'{kind} {counts[kind]}' for kind in KINDS))
        lines += [f'  {kind} {number}: {reason}' for kind in (REFUSED, LOST)
                  for reason, number in self.reasons(kind).most_common()]
        p50 = float(np.median(self.latencies)) if len(self.latencies) else math.nan
        lines.append(f'latency: median {milliseconds(p50)}, 95 % within {milliseconds(p95(self.latencies))}')
        return '\n'.join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data; what was not measured is None.  Accuracies: 0..1."""
        links = sorted({one.exchange.links for one in self.outcomes} - {''})
        latencies = self.latencies
        return {
            'bag': self.bag, 'key_frames': {'asked': self.frames, 'of': self.key_frames},
            'questions': {'asked': len(self.outcomes), 'of': self.questions},
            'modalities': sorted({name for one in self.outcomes for name in one.exchange.used}),
            'links_versions': links, 'accuracy': {kind or 'all': self._measured(kind)
                                                  for kind in self._types()},
            **{kind: sum(one.kind == kind for one in self.outcomes) for kind in KINDS},
            'reasons': {kind: dict(self.reasons(kind)) for kind in (REFUSED, LOST)},
            'latency': {'p50': float(np.median(latencies)) if len(latencies) else None,
                        'p95': p95(latencies) if len(latencies) else None}}

    def _types(self) -> list[str | None]:
        """Types that were asked about, and None for all of them."""
        asked = {one.exchange.type for one in self.outcomes}
        known = [kind for kind in TYPES if kind in asked]
        return [*known, *sorted(asked - set(known)), None]

    def _cells(self, kind: str | None) -> tuple[str, ...]:
        exchanges = of_type(self.exchanges, kind)
        score, blind = Score.of(exchanges), self.blind_right(exchanges)
        return (kind or 'all', f'{score.right} of {score.asked}', f'{score.percent:.1f}', interval(score),
                f'{score.guess_percent:.1f}', DASH if blind is None else f'{100 * blind / score.asked:.1f}')

    def _measured(self, kind: str | None) -> dict[str, Any]:
        exchanges = of_type(self.exchanges, kind)
        score, blind = Score.of(exchanges), self.blind_right(exchanges)
        if not exchanges:
            return {'n': 0, 'right': 0, 'accuracy': None, 'majority': None, 'blind': None}
        return {'n': score.asked, 'right': score.right, 'accuracy': score.right / score.asked,
                'majority': score.guessed / score.asked,
                'blind': None if blind is None else blind / score.asked}
