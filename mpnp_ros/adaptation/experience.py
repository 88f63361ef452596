"""The replay buffer as data sets for training and evaluation."""
from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from mpnp_ros.adaptation.dataset import Example, Frame, TokenDataset
from mpnp_ros.adaptation.key_frames import turn_tokens
from mpnp_ros.adaptation.moments import FEEDBACK, LABELLED, BufferedQuestion, Moment
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.nuscenes.questions import LabelledQuestion, balance
from mpnp_ros.nuscenes.wording import turned_question

SECOND = 1_000_000_000
TURNS = (1, 2, 3, 6)


@dataclass(frozen=True, eq=False)
class Experience:
    """Moments in the order of their stamps."""

    moments: tuple[Moment, ...]

    def dataset(self, modalities: Collection[str] = (), sources: Collection[str] = (LABELLED, FEEDBACK),
                turns: int = 6) -> TokenDataset:
        """The questions of some sources about moments that have tokens of some modalities, as asked.

        modalities: default all.  turns: headings, 1, 2, 3 or 6, evenly spread; from the others than the
        recorded one the vehicle asks the same in other words (see turned_question), which leaves out what
        cannot be turned.  Frames are named replay/<stamp in ns>/<heading>, as in key_frames.py.  Of a
        modality whose encoder has changed, only the tokens of the newest one are there.
        Examples of questions without a known answer have the answer ''.
        Raises ConfigurationError for another number of turns.
        """
        if turns not in TURNS:
            raise ConfigurationError(f'{turns} turns; questions turn by sixths, so use one of {TURNS}')
        frames: dict[str, Frame] = {}
        examples: list[Example] = []
        conditions: dict[str, tuple[str, ...]] = {}
        for moment, tokens in self._seen(modalities):
            asked = [one for one in moment.questions if one.source in sources]
            for heading in range(0, 6, 6 // turns) if asked else ():
                key = f'replay/{moment.stamp_ns}/{heading:03d}'
                frames[key] = {name: turn_tokens(one, heading * math.tau / 6) for name, one in tokens.items()}
                conditions[key] = moment.conditions
                examples += _turned(asked, heading, key)
        return TokenDataset(frames, tuple(examples), conditions)

    def split(self, every: int = 4, block: float = 10., gap: float = 1.) -> tuple[Experience, Experience]:
        """Return (rest, held out): the last of every `every` blocks of time is held out.

        block: seconds of stamps.  gap: seconds; held-out moments are at least this far from all others, so
        moments at the edges are in neither.  Later additions and evictions do not change which moments are
        held out.
        """
        period, start, margin = (round(value * SECOND) for value in
                                 (every * block, (every - 1) * block, gap))
        phases = {moment.stamp_ns: moment.stamp_ns % period for moment in self.moments}
        held = {stamp for stamp, phase in phases.items() if start + margin <= phase < period - margin}
        rest = {stamp for stamp, phase in phases.items() if phase < start}
        return self._of(rest), self._of(held)

    def halves(self) -> tuple[Experience, Experience]:
        """Return every other moment with true answers, and those between: enough for a trial."""
        told = [one for one in self.moments if any(asked.answer for asked in one.questions)]
        return Experience(tuple(told[::2])), Experience(tuple(told[1::2]))

    def asking(self, questions: Sequence[BufferedQuestion], each: int, seed: int = 0) -> Experience:
        """Return the same moments with `each` other questions, drawn at random."""
        def drawn(stamp_ns: int) -> tuple[BufferedQuestion, ...]:
            return tuple(random.Random(f'{seed}/{stamp_ns}').sample(questions, min(each, len(questions))))

        return Experience(tuple(replace(one, questions=drawn(one.stamp_ns)) for one in self.moments))

    def together(self, modalities: Collection[str], quality: float = 0.) -> Experience:
        """Return the moments with tokens of all these modalities, of at least a quality."""
        return self._of({moment.stamp_ns for moment, tokens in self._seen(modalities)
                         if set(modalities) <= tokens.keys()
                         and not any(one.quality < quality for one in tokens.values())})

    def _seen(self, modalities: Collection[str]) -> Iterator[tuple[Moment, Frame]]:
        encoders = {name: tokens.encoder for moment in self.moments for name, tokens in moment.tokens.items()}
        for moment in self.moments:
            tokens = {name: one for name, one in moment.tokens.items()
                      if one.encoder == encoders[name] and (not modalities or name in modalities)}
            if tokens:
                yield moment, tokens

    def _of(self, stamps: Collection[int]) -> Experience:
        return Experience(tuple(moment for moment in self.moments if moment.stamp_ns in stamps))


def balanced(dataset: TokenDataset, by: str = 'text', seed: int = 0) -> TokenDataset:
    """Return it with the most frequent answer of every group capped at the second most frequent one.

    by: as in :func:`~mpnp_ros.nuscenes.questions.balance`; 'text' for many frames, otherwise 'type', because
    few texts are repeated.
    """
    asked = [LabelledQuestion(one.question, one.answer, one.type, one.hops, '', str(place))
             for place, one in enumerate(dataset.examples)]
    kept = balance(asked, seed, by)
    return replace(dataset, examples=tuple(dataset.examples[int(one.sample_token)] for one in kept))


def _turned(questions: Sequence[BufferedQuestion], heading: int, key: str) -> Iterator[Example]:
    for one in questions:
        text = turned_question(one.question, heading) if heading else one.question
        if text is not None:
            yield Example(text, one.answer, one.choices, one.type, one.hops, key)
