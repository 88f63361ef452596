"""One moment of a drive as a file: its tokens and the questions about it."""
from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from mpnp_ros.adaptation.dataset import ArrayTable, Frame, tokens_from_json, tokens_to_json
from mpnp_ros.errors import DatasetError, TokensError
from mpnp_ros.nuscenes.wording import read_question

SCHEMA = 1
LABELLED, FEEDBACK, ASKED = 'labelled', 'feedback', 'asked'
SOURCES = (ASKED, LABELLED, FEEDBACK)
"""Origins of a question, by increasing trust for the same text."""
OTHER = 'other'
"""Type of a question without a template."""

Cell = tuple[Any, ...]


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
