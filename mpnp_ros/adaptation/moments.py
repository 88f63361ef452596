"""Moments of a drive, tokens with questions about them, as files; and data sets of moments."""
from __future__ import annotations

import json
import math
import random
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from mpnp_ros.errors import ConfigurationError, DatasetError, TokensError
from mpnp_ros.questions.balance import balance
from mpnp_ros.questions.generator import LabelledQuestion
from mpnp_ros.questions.wording import read_question, turned_question
from mpnp_ros.tokens import SECOND
from mpnp_ros.training.dataset import (
    ArrayTable,
    Example,
    Frame,
    TokenDataset,
    tokens_from_json,
    tokens_to_json,
)
from mpnp_ros.training.key_frames import turn_tokens

SCHEMA = 1
LABELLED, FEEDBACK, ASKED = 'labelled', 'feedback', 'asked'
SOURCES = (ASKED, LABELLED, FEEDBACK)
"""Origins of a question, by increasing trust for the same text."""
OTHER = 'other'
"""Type of a question without a template."""

Cell = tuple[Any, ...]

TURNS = (1, 2, 3, 6)


@dataclass(frozen=True)
class BufferedQuestion:
    """A question about one moment.

    answer: the true one; empty if unknown (source ASKED).  choices: closed list of answers, empty if the
    answer is generated.  type, hops: kind of question of NuScenes-QA; OTHER and 0 for free words.  source:
    LABELLED with the recording, FEEDBACK from a correction, or ASKED without a true answer.
    """

    question: str
    answer: str
    choices: tuple[str, ...]
    type: str
    hops: int
    source: str

    @classmethod
    def read(cls, question: str, answer: str, choices: Sequence[str], source: str) -> BufferedQuestion:
        """Return a question with the type and hops of its wording."""
        wording = read_question(question)
        kind, hops = wording.kind[:2] if wording else (OTHER, 0)
        return cls(question, answer, tuple(choices), kind, hops, source)


@dataclass(frozen=True, eq=False)
class Moment:
    """Tokens of one moment and the questions about it.

    Each text is kept once, from the most trusted source, and of that source the latest.  conditions: light
    and weather if known, as ('night', 'rain').
    """

    stamp_ns: int
    tokens: Frame
    questions: tuple[BufferedQuestion, ...] = ()
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kept: dict[str, BufferedQuestion] = {}
        for question in self.questions:
            known = kept.get(question.question)
            if known is None or SOURCES.index(known.source) <= SOURCES.index(question.source):
                kept[question.question] = question
        object.__setattr__(self, 'questions', tuple(kept.values()))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Return the cell of each question; the buffer keeps about equally many of each."""
        return tuple((question.source, question.type, question.answer, self.conditions)
                     for question in self.questions)

    def joined(self, other: Moment) -> Moment:
        """Return the moment joined with another one, whose data has precedence."""
        return Moment(self.stamp_ns, {**self.tokens, **other.tokens}, (*self.questions, *other.questions),
                      other.conditions or self.conditions)

    def thinned(self, places: Iterable[int]) -> Moment:
        """Return the moment with some of the questions."""
        return replace(self, questions=tuple(self.questions[place] for place in places))

    def to_bytes(self) -> bytes:
        """Return a safetensors file, with everything that is not an array as JSON metadata."""
        arrays = ArrayTable()
        tokens = {name: tokens_to_json(tokens, arrays) for name, tokens in self.tokens.items()}
        choices = {answers: place for place, answers in enumerate(dict.fromkeys(
            question.choices for question in self.questions))}
        table = json.dumps({
            'schema': SCHEMA, 'stamp_ns': self.stamp_ns, 'conditions': self.conditions, 'tokens': tokens,
            'choices': list(choices), 'questions': [
                [question.question, question.answer, choices[question.choices], question.type, question.hops,
                 question.source] for question in self.questions]})
        return save(arrays.named, {'moment': table, 'check': _checksum(table, arrays.named)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Moment:
        """Read the result of :meth:`to_bytes`.  Raises DatasetError for other and damaged files."""
        try:
            header = int.from_bytes(data[:8], 'little')
            stored = json.loads(data[8:8 + header])['__metadata__']
            arrays, table = load(data), json.loads(stored['moment'])
            if stored['check'] != _checksum(stored['moment'], arrays):
                raise ValueError('its checksum is wrong')
            if table['schema'] != SCHEMA:
                raise ValueError(f'schema {table["schema"]!r}, but this package reads {SCHEMA}')
            choices = [tuple(answers) for answers in table['choices']]
            return cls(table['stamp_ns'],
                       {name: tokens_from_json(entry, arrays) for name, entry in table['tokens'].items()},
                       tuple(BufferedQuestion(text, answer, choices[place], kind, hops, source)
                             for text, answer, place, kind, hops, source in table['questions']),
                       tuple(table['conditions']))
        except (ValueError, KeyError, TypeError, IndexError, SafetensorError, TokensError) as error:
            raise DatasetError(f'not a moment of a replay buffer ({error})') from None


def _checksum(table: str, arrays: dict[str, Any]) -> str:
    check = zlib.crc32(table.encode())
    for name in sorted(arrays):
        check = zlib.crc32(arrays[name], check)
    return f'{check:08x}'


@dataclass(frozen=True, eq=False)
class ReplayDataset:
    """Moments in the order of their stamps."""

    moments: tuple[Moment, ...]

    def dataset(self, modalities: Collection[str] = (), sources: Collection[str] = (LABELLED, FEEDBACK),
                turns: int = 6) -> TokenDataset:
        """Return the questions of some sources about moments that have tokens of some modalities.

        modalities: default all.  turns: number of evenly spread headings, 1, 2, 3 or 6.  In other headings
        than the recorded one, directions in questions are turned (see turned_question), and questions that
        cannot be turned are left out.  Frames are named replay/<stamp in ns>/<heading>, as in key_frames.py.
        Of a modality whose encoder has changed, there are only tokens of the newest one.  Examples of
        questions without a known answer have the answer ''.  Raises ConfigurationError for another number of
        turns.
        """
        if turns not in TURNS:
            raise ConfigurationError(f'{turns} turns; questions turn by sixths, so use one of {TURNS}')
        frames: dict[str, Frame] = {}
        examples: list[Example] = []
        conditions: dict[str, tuple[str, ...]] = {}
        for moment, tokens in self._seen(modalities):
            asked = [question for question in moment.questions if question.source in sources]
            for heading in range(0, 6, 6 // turns) if asked else ():
                key = f'replay/{moment.stamp_ns}/{heading:03d}'
                frames[key] = {name: turn_tokens(recorded, heading * math.tau / 6)
                               for name, recorded in tokens.items()}
                conditions[key] = moment.conditions
                for question in asked:
                    text = turned_question(question.question, heading) if heading else question.question
                    if text is not None:
                        examples.append(Example(text, question.answer, question.choices, question.type,
                                                question.hops, key))
        return TokenDataset(frames, tuple(examples), conditions)

    def split(self, every: int = 4, block: float = 10.,
              gap: float = 1.) -> tuple[ReplayDataset, ReplayDataset]:
        """Return (rest, held out): the last of every `every` blocks of time is held out.

        block: seconds of stamps.  gap: seconds between held-out moments and all others; moments in the gap
        are in neither part.  Later additions and evictions do not change which moments are held out.
        """
        period, start, margin = (round(value * SECOND) for value in
                                 (every * block, (every - 1) * block, gap))
        phases = {moment.stamp_ns: moment.stamp_ns % period for moment in self.moments}
        held = {stamp for stamp, phase in phases.items() if start + margin <= phase < period - margin}
        rest = {stamp for stamp, phase in phases.items() if phase < start}
        return self._of(rest), self._of(held)

    def consecutive(self, shares: Sequence[float], gap: float = 1.) -> tuple[ReplayDataset, ...]:
        """Return parts that follow each other in time; shares: of the moments in each, adding up to 1.

        gap: seconds of stamps between parts; moments in a gap, at the end of a part, are in none.
        """
        stamps = sorted(moment.stamp_ns for moment in self.moments)
        ends = [round(len(stamps) * sum(shares[:place + 1])) for place in range(len(shares))]
        parts = []
        for start, end in zip([0, *ends], ends, strict=False):
            latest = stamps[end] - round(gap * SECOND) if end < len(stamps) else math.inf
            parts.append(self._of({stamp for stamp in stamps[start:end] if stamp <= latest}))
        return tuple(parts)

    def halves(self) -> tuple[ReplayDataset, ReplayDataset]:
        """Return every other moment with true answers, and those between, for a trial on few moments."""
        answered = [moment for moment in self.moments
                    if any(question.answer for question in moment.questions)]
        return ReplayDataset(tuple(answered[::2])), ReplayDataset(tuple(answered[1::2]))

    def asking(self, questions: Sequence[BufferedQuestion], each: int, seed: int = 0) -> ReplayDataset:
        """Return the same moments with `each` of the given questions, drawn at random."""
        count = min(each, len(questions))
        return ReplayDataset(tuple(replace(moment, questions=tuple(
            random.Random(f'{seed}/{moment.stamp_ns}').sample(questions, count))) for moment in self.moments))

    def together(self, modalities: Collection[str], quality: float = 0.) -> ReplayDataset:
        """Return the moments with tokens of all these modalities, of at least a quality."""
        return self._of({moment.stamp_ns for moment, tokens in self._seen(modalities)
                         if set(modalities) <= tokens.keys()
                         and not any(known.quality < quality for known in tokens.values())})

    def _seen(self, modalities: Collection[str]) -> Iterator[tuple[Moment, Frame]]:
        """Yield moments with their tokens of some modalities, default all, of the newest encoder of each."""
        encoders = {name: tokens.encoder for moment in self.moments for name, tokens in moment.tokens.items()}
        for moment in self.moments:
            tokens = {name: known for name, known in moment.tokens.items()
                      if known.encoder == encoders[name] and (not modalities or name in modalities)}
            if tokens:
                yield moment, tokens

    def _of(self, stamps: Collection[int]) -> ReplayDataset:
        return ReplayDataset(tuple(moment for moment in self.moments if moment.stamp_ns in stamps))


def balanced(dataset: TokenDataset, by: str = 'text', seed: int = 0) -> TokenDataset:
    """Return a data set with the most frequent answer of every group capped at the second most frequent one.

    by: as in :func:`~mpnp_ros.questions.balance.balance`; 'text' for many frames, otherwise 'type', because
    few texts are repeated.
    """
    asked = [LabelledQuestion(example.question, example.answer, example.type, example.hops, '', str(place))
             for place, example in enumerate(dataset.examples)]
    kept = balance(asked, seed, by)
    return replace(dataset, examples=tuple(dataset.examples[int(question.sample_token)] for question in kept))
