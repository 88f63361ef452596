"""Records questions and answers, to check that every question gets exactly one consistent answer.

An answer is torn if its parts are inconsistent: the probabilities are not a distribution, the text is not the
likeliest choice, or links for one encoder answered from tokens of another.  This module does not use ROS.
Times are seconds of the monotonic clock.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

OK, REJECTED, NO_SENSOR = 0, 1, 3
ANSWER_TIMEOUT = 30.
"""Seconds after which a question to a running node counts as lost."""
RECOVERY_GRACE = 5.
"""Seconds after the first answer of a restarted node, before questions to the killed node are asked again."""
ROUNDING = 1e-3


@dataclass(frozen=True)
class ReceivedAnswer:
    """A received answer; fields as in msg/Answer.

    used: modality -> stamp in nanoseconds.  links: version by modality.
    """

    name: str
    question: str
    status: int
    error: str = ''
    text: str = ''
    confidence: float = 0.
    choices: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    used: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    stamp_ns: int = 0
    latency: float = 0.


@dataclass(frozen=True)
class EncoderLookup:
    """Encoder fingerprints of tokens by (modality, stamp in ns), and of links by (modality, version).

    Both return None for unknown keys.
    """

    of_tokens: Callable[[str, int], str | None]
    of_links: Callable[[str, str], str | None]


def versions(text: str) -> dict[str, str]:
    """Versions by modality, from text such as `camera=000001 lidar=000007`."""
    return dict(part.split('=', 1) for part in text.split())


def faults(reply: ReceivedAnswer, question: str, choices: Sequence[str], makers: EncoderLookup) -> list[str]:
    """The inconsistencies of an answer with status OK: of its words, its numbers and its sources."""
    wrong = {f'it is about {reply.question!r}, asked was {question!r}': reply.question != question,
             'its choices are not those asked': reply.choices != tuple(choices),
             f'{reply.text!r} is none of its choices': reply.text not in reply.choices}
    found = [text for text, is_so in wrong.items() if is_so]

    values = reply.probabilities
    if len(values) != len(reply.choices) or not values:
        found.append(f'{len(values)} probabilities for {len(reply.choices)} choices')
    elif not all(map(math.isfinite, values)) or min(values) < 0:
        found.append('probabilities that are none')
    elif abs(math.fsum(values) - 1) > ROUNDING:
        found.append(f'probabilities add up to {math.fsum(values):.4f}')
    elif reply.text != reply.choices[values.index(max(values))]:
        found.append('the text is not the likeliest choice')
    elif abs(reply.confidence - max(values)) > ROUNDING:
        found.append('the confidence is not the probability of the text')

    if {*reply.used} & {*reply.missing} or {*reply.used} | {*reply.missing} != {*reply.links}:
        found.append(f'it used {sorted(reply.used)}, missed {sorted(reply.missing)}, '
                     f'and had links of {sorted(reply.links)}')
    if reply.used and reply.stamp_ns != min(reply.used.values()):
        found.append('its stamp is not that of the oldest it rests on')
    for name, stamp in reply.used.items():
        made, read = makers.of_tokens(name, stamp), makers.of_links(name, reply.links.get(name, ''))
        if None in (made, read) or made != read:
            found.append(f'{name} tokens of {made} answered by links {reply.links.get(name)}, '
                         f'which read {read}')
    return found


@dataclass
class _Open:
    """A question without an answer.  excused: the node was killed before it could answer."""

    text: str
    asked: float
    excused: bool


class QuestionLedger:
    """Records of questions and answers.  Not thread-safe."""

    def __init__(self, choices: Sequence[str], makers: EncoderLookup) -> None:
        self.counts: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.torn: list[str] = []
        self.lost: list[str] = []
        self._choices, self._makers = tuple(choices), makers
        self._open: dict[str, _Open] = {}
        self._closed: set[str] = set()
        self._again: list[str] = []
        self._killed: float | None = None
        self._back = -math.inf
        self._number = 0

    @property
    def waiting(self) -> int:
        """Number of questions that a running node has not answered."""
        return sum(not question.excused for question in self._open.values())

    @property
    def answered(self) -> int:
        """Number of answered questions, including rejected ones."""
        return self.counts['ok'] + self.counts['rejected']

    @property
    def silent(self) -> bool:
        """Whether the answering node was killed and has not answered since."""
        return self._killed is not None

    @property
    def good(self) -> bool:
        """Whether no question is lost, doubled, failed or torn."""
        return not (self.lost or self.torn or self.counts['doubled'] or self.counts['failed'])

    def ask(self, text: str, now: float) -> tuple[str, str]:
        """Record the next question; returns its name and text.  Unheard texts come before `text`."""
        text = self._again.pop(0) if self._again else text
        self._number += 1
        name = f'q{self._number:05}'
        self._open[name] = _Open(text, now, self.silent)
        self.counts['asked'] += 1
        return name, text

    def killed(self, now: float) -> None:
        """Record that the answering node was killed; waiting questions are excused."""
        self._killed = now
        for question in self._open.values():
            question.excused = True

    def take(self, reply: ReceivedAnswer, now: float) -> bool:
        """Record an answer; returns whether it is the first of a restarted node."""
        question = self._open.pop(reply.name, None)
        if question is None:
            self.counts['doubled' if reply.name in self._closed else 'unasked'] += 1
            return False
        self._closed.add(reply.name)
        if reply.status == OK:
            self.counts['ok'] += 1
            self.latencies.append(reply.latency)
            self.torn += [f'{reply.name}: {fault}'
                          for fault in faults(reply, question.text, self._choices, self._makers)]
        elif reply.status in (REJECTED, NO_SENSOR) and reply.error:
            self.counts['rejected'] += 1
        else:
            self.counts['failed'] += 1
        back = self._killed is not None and question.asked > self._killed and reply.status == OK
        if back:
            self._killed, self._back = None, now
        return back

    def look(self, now: float) -> None:
        """Record lost questions and those to ask again; call it regularly."""
        for name, question in list(self._open.items()):
            since = max(question.asked, self._back)
            if question.excused and not self.silent and now - since > RECOVERY_GRACE:
                del self._open[name]
                self._closed.add(name)
                self.counts['unheard'] += 1
                self._again.append(question.text)
            elif not question.excused and now - question.asked > ANSWER_TIMEOUT:
                del self._open[name]
                self._closed.add(name)
                self.lost.append(name)
