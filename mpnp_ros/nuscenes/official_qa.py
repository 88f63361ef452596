"""The published NuScenes-QA question files (papers.md E.1)."""
from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.questions import LabelledQuestion
from mpnp_ros.nuscenes.tables import NuScenes

KEYS = ('sample_token', 'question', 'answer', 'template_type', 'num_hop')


@dataclass(frozen=True)
class OfficialQuestions:
    """Questions of a NuScenes-QA file whose key frames the root has, in the order of the file.

    total: questions in the file.
    """

    questions: tuple[LabelledQuestion, ...]
    total: int

    @cached_property
    def by_sample(self) -> dict[str, list[LabelledQuestion]]:
        """The questions of each sample token."""
        groups: dict[str, list[LabelledQuestion]] = defaultdict(list)
        for question in self.questions:
            groups[question.sample_token].append(question)
        return dict(groups)

    @property
    def matched(self) -> int:
        """Number of questions whose key frames the root has."""
        return len(self.questions)

    @property
    def summary(self) -> str:
        """One line for a log."""
        return f'{self.matched} of {self.total} questions match {len(self.by_sample)} key frames of this root'


def read_nuscenes_qa(path: str | Path, root: NuScenes) -> OfficialQuestions:
    """Read a NuScenes-QA JSON file and keep the questions whose key frames ``root`` has.

    Raises DatasetError where the file is absent or not in the published format. A file of which nothing
    matches is not an error: ``matched`` is 0 then.
    """
    records = _read_records(Path(path))
    samples = root.table('sample')
    kept = tuple(_question(record) for record in records if record['sample_token'] in samples)
    return OfficialQuestions(kept, len(records))


def _question(record: dict[str, str]) -> LabelledQuestion:
    return LabelledQuestion(
        text=record['question'], answer=str(record['answer']), type=record['template_type'],
        hops=int(record['num_hop']), template='', sample_token=record['sample_token'])


def _read_records(path: Path) -> list[dict[str, str]]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f'question file {path} cannot be read ({error.strerror}); download '
                           'NuScenes_train_questions.json or NuScenes_val_questions.json') from None
    except ValueError as error:
        raise DatasetError(f'question file {path} is not valid JSON ({error}); download it again') from None
    records = content.get('questions') if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise DatasetError(f'question file {path} has no list "questions"; it is not a NuScenes-QA file')
    for index, record in enumerate(records):
        missing = [key for key in KEYS if key not in record]
        if missing:
            raise DatasetError(f'question {index} of {path} lacks {", ".join(missing)}; '
                               'it is not a NuScenes-QA file')
    return records
