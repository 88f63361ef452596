"""Labels of a recording: true answers to recorded questions, and who said so, in a file of JSON lines.

    {"stamp_ns": 1557539926400000000, "question": "Are there any cars?", "choices": ["yes", "no"],
     "answer": "yes", "by": "person"}

A file grows by one line for each label.  Of several labels of one question the one of the most trusted source
counts, and of that source the latest.  An empty answer says that the question cannot be answered.
"""
from __future__ import annotations

import json
import os
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mpnp_ros.errors import DatasetError, StorageError

LABELS = 'labels.jsonl'
ROBOT, TEACHER, PERSON = 'robot', 'teacher', 'person'
SAID_BY = (ROBOT, TEACHER, PERSON)
"""Who says what is true, by increasing trust: the robot's own answer, a vision model, a person."""

FIELDS: Mapping[str, tuple[type, str]] = {
    'stamp_ns': (int, 'a whole number'), 'question': (str, 'a text'), 'choices': (list, 'a list'),
    'answer': (str, 'a text'), 'by': (str, 'a text')}

BLOCK = 4096
"""Bytes that are read at once from the end of a file."""
Asked = tuple[int, str]
"""Stamp in nanoseconds, and text, of a question."""


@dataclass(frozen=True)
class Label:
    """The true answer to a question about one moment.

    stamp_ns: that of the recorded answer.  choices: of answers; empty where the answer was generated.
    answer: empty where the question cannot be answered.  by: one of SAID_BY.
    """

    stamp_ns: int
    question: str
    choices: tuple[str, ...]
    answer: str
    by: str

    @property
    def asked(self) -> Asked:
        """Return what identifies the question."""
        return self.stamp_ns, self.question

    @classmethod
    def from_json(cls, line: str) -> Label:
        """Read one line.  Raises ValueError with what is wrong."""
        entries: dict[str, Any] = json.loads(line)
        if not isinstance(entries, dict):
            raise ValueError('it is not a JSON object')
        for name, (kind, words) in FIELDS.items():
            if not isinstance(entries.get(name), kind):
                raise ValueError(f'{name} is not {words}')
        label = cls(entries['stamp_ns'], entries['question'], tuple(map(str, entries['choices'])),
                    entries['answer'], entries['by'])
        if label.by not in SAID_BY:
            raise ValueError(f'by is {label.by!r}, not one of {", ".join(SAID_BY)}')
        if label.answer and label.choices and label.answer not in label.choices:
            raise ValueError(f'{label.answer!r} is not one of its choices')
        return label


def read_labels(path: str | Path) -> list[Label]:
    """Return the labels of a file, in order.

    A last line that breaks off, as of a killed process, is left out.  Raises DatasetError for any other
    line that is not a label, and for a file that cannot be read.
    """
    try:
        lines = Path(path).read_text('utf-8').split('\n')
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f'labels {path} cannot be read ({error}); give a file of JSON lines') from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(Label.from_json(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise DatasetError(f'labels {path}, line {number}: {error}; correct or remove the line') from None
    return found


class LabelFile:
    """The labels of a recording, which grow.  path: of the file; it need not exist.

    Raises DatasetError as :func:`read_labels`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._labels: dict[Asked, Label] = {}
        for label in read_labels(self.path) if self.path.is_file() else ():
            _keep(label, self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[Label]:
        """Yield the label that counts of every question."""
        return iter(self._labels.values())

    def get(self, asked: Asked) -> Label | None:
        """Return the label of a question, None if it has none."""
        return self._labels.get(asked)

    def add(self, labels: Iterable[Label]) -> int:
        """Append labels; return how many count.  Raises StorageError if the file cannot be written."""
        added: dict[Asked, Label] = {}
        known = ChainMap(added, self._labels)  # what is new goes into the first
        kept = [label for label in labels if _keep(label, known)]
        if kept:
            try:
                with self.path.open('ab+') as file:
                    _end_last_line(file)
                    file.write(b''.join(json.dumps(asdict(label)).encode() + b'\n' for label in kept))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise StorageError(f'labels {self.path} cannot be written: {error.strerror}; make room and '
                                   'repeat the last answer') from None
        self._labels.update(added)
        return len(kept)

    def counts(self) -> Mapping[str, int]:
        """Return the number of answered questions by who said the answer."""
        return {by: sum(label.by == by and bool(label.answer) for label in self) for by in SAID_BY}


def _keep(label: Label, labels: MutableMapping[Asked, Label]) -> bool:
    """Return whether a label counts, and keep it if so: no more trusted source has said another."""
    known = labels.get(label.asked)
    if known is not None and SAID_BY.index(known.by) > SAID_BY.index(label.by):
        return False
    labels[label.asked] = label
    return True


def _end_last_line(file: BinaryIO) -> None:
    """Complete the last line of a file, or remove it where it breaks off."""
    end, last = file.seek(0, os.SEEK_END), b''
    while len(last) < end and b'\n' not in last:  # files are long, and lines are not
        file.seek(max(0, end - len(last) - BLOCK))
        last = file.read(min(BLOCK, end - len(last))) + last
    last = last.rpartition(b'\n')[2]
    if last:
        try:
            Label.from_json(last.decode())
            file.write(b'\n')
        except ValueError:
            file.truncate(end - len(last))
