"""Moments of a drive as files, tokens and questions about them; data sets made of them."""
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
from mpnp_ros.questions.generator import LabelledQuestion, balance
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
    answer is generated.  type, hops: kind of NuScenes-QA question; OTHER and 0 for free words.
    source: LABELLED with the recording, FEEDBACK from a correction, or only ASKED.
    """

    question: str
    answer: str
    choices: tuple[str, ...]
    type: str
    hops: int
    source: str

    @classmethod
    def read(cls, question: str, answer: str, choices: Sequence[str], source: str) -> BufferedQuestion:
        """Return a question with its type parsed from the text."""
        wording = read_question(question)
        kind, hops = wording.kind[:2] if wording else (OTHER, 0)
        return cls(question, answer, tuple(choices), kind, hops, source)


@dataclass(frozen=True, eq=False)
class Moment:
    """Tokens of one moment and the questions about it, each text once.

    conditions: light and weather where they are known, as ('night', 'rain').
    """

    stamp_ns: int
    tokens: Frame
    questions: tuple[BufferedQuestion, ...] = ()
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, 'questions', _once(self.questions))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Return the cell of each question; the buffer keeps about equally many of each."""
        return tuple((one.source, one.type, one.answer, self.conditions) for one in self.questions)

    def joined(self, other: Moment) -> Moment:
        """Return it joined with another one, whose data has precedence."""
        return Moment(self.stamp_ns, {**self.tokens, **other.tokens}, (*self.questions, *other.questions),
                      other.conditions or self.conditions)

    def thinned(self, places: Iterable[int]) -> Moment:
        """Return it with some of the questions."""
        return replace(self, questions=tuple(self.questions[place] for place in places))

    def to_bytes(self) -> bytes:
        """Return a safetensors file, with everything that is not an array as JSON metadata."""
        arrays = ArrayTable()
        tokens = {name: tokens_to_json(one, arrays) for name, one in self.tokens.items()}
        choices = {one: place for place, one in enumerate(dict.fromkeys(
            question.choices for question in self.questions))}
        table = json.dumps({
            'schema': SCHEMA, 'stamp_ns': self.stamp_ns, 'conditions': self.conditions, 'tokens': tokens,
            'choices': list(choices), 'questions': [
                [one.question, one.answer, choices[one.choices], one.type, one.hops, one.source]
                for one in self.questions]})
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
            choices = [tuple(one) for one in table['choices']]
            return cls(table['stamp_ns'],
                       {name: tokens_from_json(entry, arrays) for name, entry in table['tokens'].items()},
                       tuple(BufferedQuestion(text, answer, choices[place], kind, hops, source)
                             for text, answer, place, kind, hops, source in table['questions']),
                       tuple(table['conditions']))
        except (ValueError, KeyError, TypeError, IndexError, SafetensorError, TokensError) as error:
            raise DatasetError(f'not a moment of a replay buffer ({error})') from None


def _once(questions: Iterable[BufferedQuestion]) -> tuple[BufferedQuestion, ...]:
    """Return each text once: from the most trusted source, and of those the latest."""
    kept: dict[str, BufferedQuestion] = {}
    for one in questions:
        known = kept.get(one.question)
        if known is None or SOURCES.index(known.source) <= SOURCES.index(one.source):
            kept[one.question] = one
    return tuple(kept.values())


def _checksum(table: str, arrays: dict[str, Any]) -> str:
    check = zlib.crc32(table.encode())
    for name in sorted(arrays):
        check = zlib.crc32(arrays[name], check)
    return f'{check:08x}'


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

    by: as in :func:`~mpnp_ros.questions.generator.balance`; 'text' for many frames, otherwise 'type', because
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
