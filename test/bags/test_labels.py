"""Labels of a recording: who is believed, what breaks off, what is refused."""
from __future__ import annotations

import errno
import json
import os
import tracemalloc
from dataclasses import asdict

import pytest

from mpnp_ros.bags.labels import PERSON, ROBOT, TEACHER, Label, LabelFile, read_labels
from mpnp_ros.errors import DatasetError, StorageError

CHOICES = ('yes', 'no')


def label(answer: str = 'yes', by: str = PERSON, stamp: int = 1, question: str = 'Is it?') -> Label:
    return Label(stamp, question, CHOICES, answer, by)


def test_the_most_trusted_and_of_it_the_latest_counts(tmp_path):
    file = LabelFile(tmp_path / 'labels.jsonl')
    assert len(file) == 0 and file.add([]) == 0 and not file.path.exists()
    assert file.add([label('no', ROBOT), label('yes', TEACHER)]) == 2
    assert file.add([label('no', ROBOT)]) == 0
    assert file.add([label('no', PERSON), label('yes', PERSON), label('', PERSON, stamp=2)]) == 3
    for same in (file, LabelFile(file.path)):
        assert {known.asked: (known.answer, known.by) for known in same} == {
            (1, 'Is it?'): ('yes', PERSON), (2, 'Is it?'): ('', PERSON)}
        assert same.counts() == {ROBOT: 0, TEACHER: 0, PERSON: 1}
    assert len(read_labels(file.path)) == 5


@pytest.mark.parametrize('end', ['{"stamp_ns": 2, "que', ''])
def test_a_line_that_breaks_off_is_asked_again(tmp_path, end):
    path = tmp_path / 'labels.jsonl'
    LabelFile(path).add([label()])
    path.write_text(path.read_text() + end)
    file = LabelFile(path)
    assert len(file) == 1
    file.add([label('no', stamp=3)])
    assert [known.stamp_ns for known in read_labels(path)] == [1, 3]


def test_a_last_line_without_an_end_stays(tmp_path):
    path = tmp_path / 'labels.jsonl'
    LabelFile(path).add([label()])
    path.write_text(path.read_text().rstrip('\n'))
    LabelFile(path).add([label('no', stamp=3)])
    assert [known.stamp_ns for known in read_labels(path)] == [1, 3]


def test_a_long_last_line_that_breaks_off_is_removed(tmp_path):
    path = tmp_path / 'labels.jsonl'
    LabelFile(path).add([label()])
    path.write_text(path.read_text() + '{"question": "' + 'x' * 10_000)
    LabelFile(path).add([label('no', stamp=3)])
    path.write_text(path.read_text() + json.dumps(asdict(label(question='x' * 10_000))))
    LabelFile(path).add([label('no', stamp=4)])
    assert [known.stamp_ns for known in read_labels(path)] == [1, 3, 1, 4]


def test_to_add_one_takes_no_copy_of_all(tmp_path):
    file = LabelFile(tmp_path / 'labels.jsonl')
    file.add(label(stamp=number) for number in range(5000))
    tracemalloc.start()
    file.add([label(stamp=6000), label('no', stamp=1)])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 60_000 and len(file) == 5001 and file.get((1, 'Is it?')).answer == 'no'


def test_what_could_not_be_written_is_not_kept(tmp_path, monkeypatch):
    file = LabelFile(tmp_path / 'labels.jsonl')
    file.add([label('yes', TEACHER)])

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(StorageError, match='cannot be written: No space left'):
        file.add([label('no', PERSON), label(stamp=2)])
    assert [known.answer for known in file] == ['yes'] and file.get((2, 'Is it?')) is None


@pytest.mark.parametrize(('entries', 'reason'), [
    ({'stamp_ns': 1.5}, 'stamp_ns is not a whole number'),
    ({'by': 'nobody'}, "by is 'nobody', not one of robot, teacher, person"),
    ({'answer': 'maybe'}, "'maybe' is not one of its choices"),
    ({'choices': 'yes'}, 'choices is not a list'),
    (None, 'not a JSON object'),
])
def test_a_line_that_is_not_a_label_is_named(tmp_path, entries, reason):
    path = tmp_path / 'labels.jsonl'
    good = {'stamp_ns': 1, 'question': 'Is it?', 'choices': ['yes', 'no'], 'answer': 'yes', 'by': 'person'}
    lines = [good, {**good, **entries} if entries is not None else [], good]
    path.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    with pytest.raises(DatasetError, match=f'line 2: .*{reason}; correct or remove the line'):
        LabelFile(path)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(DatasetError, match='cannot be read'):
        read_labels(tmp_path)
    with pytest.raises(StorageError, match='cannot be written: No such file'):
        LabelFile(tmp_path / 'absent' / 'labels.jsonl').add([label()])
