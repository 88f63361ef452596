"""Reads the published question files of NuScenes-QA (arXiv:2305.14836)."""
from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mpnp_ros.errors import DatasetError
from mpnp_ros.files import read_json
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import LabelledQuestion

KEYS = ('sample_token', 'question', 'answer', 'template_type', 'num_hop')
FILE_REMEDY = 'correct it, or download the file again'


@dataclass(frozen=True)
class OfficialQuestions:
    """Questions of a NuScenes-QA file whose key frames the root has, in the order of the file.

    total: questions in the file.
    """

    questions: tuple[LabelledQuestion, ...]
    total: int

    @cached_property
    def by_sample(self) -> dict[str, list[LabelledQuestion]]:
        """Return the questions of each sample token."""
        groups: dict[str, list[LabelledQuestion]] = defaultdict(list)
        for question in self.questions:
            groups[question.sample_token].append(question)
        return dict(groups)

    @property
    def matched(self) -> int:
        """Return the number of questions whose key frames the root has."""
        return len(self.questions)

    @property
    def summary(self) -> str:
        """Return one line for a log."""
        return f'{self.matched} of {self.total} questions match {len(self.by_sample)} key frames of this root'


def read_nuscenes_qa(path: str | Path, root: NuScenes) -> OfficialQuestions:
    """Read a NuScenes-QA JSON file and keep the questions whose key frames ``root`` has.

    Raises DatasetError with the invalid question if the file is absent or not in the published format. A file
    without matching questions is no error: ``matched`` is 0.
    """
    path = Path(path)
    content = read_json(path, 'question file', 'download it again', DatasetError,
                        'download NuScenes_train_questions.json or NuScenes_val_questions.json')
    records = content.get('questions') if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise DatasetError(f'question file {path} has no list "questions"; it is not a NuScenes-QA file')
    samples = root.table('sample')
    questions = (_question(record, f'question {index} of {path}') for index, record in enumerate(records))
    kept = tuple(question for question in questions if question.sample_token in samples)
    return OfficialQuestions(kept, len(records))


def _question(record: Any, where: str) -> LabelledQuestion:
    """Return the question of a record.  Raises DatasetError with the record and the invalid field."""
    if not isinstance(record, dict):
        raise DatasetError(f'{where} is not an object; it is not a NuScenes-QA file')
    if missing := [key for key in KEYS if key not in record]:
        raise DatasetError(f'{where} lacks {", ".join(missing)}; it is not a NuScenes-QA file')
    for key in ('sample_token', 'question', 'template_type'):
        if not isinstance(record[key], str) or not record[key].strip():
            raise DatasetError(f'{where}: {key} is {record[key]!r}, expected text; {FILE_REMEDY}')
    answer, hops = record['answer'], record['num_hop']
    if type(answer) not in (str, int) or not str(answer).strip():
        raise DatasetError(f'{where}: answer is {answer!r}, expected text or a whole number; {FILE_REMEDY}')
    if type(hops) not in (str, int, float) or not re.fullmatch(r'\d{1,2}(\.0*)?', str(hops), re.ASCII):
        raise DatasetError(f'{where}: num_hop is {hops!r}, expected a whole number; {FILE_REMEDY}')
    return LabelledQuestion(text=record['question'], answer=str(answer), type=record['template_type'],
                            hops=int(float(hops)), template='', sample_token=record['sample_token'])
