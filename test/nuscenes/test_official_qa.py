from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.official_qa import read_nuscenes_qa
from mpnp_ros.nuscenes.tables import NuScenes


def record(token: str, answer: object = 'yes') -> dict[str, object]:
    return {'sample_token': token, 'question': 'Are there any cars?', 'answer': answer,
            'template_type': 'exist', 'num_hop': 0}


def test_matching_questions_are_kept(small_root: NuScenes, tmp_path: Path) -> None:
    token = next(iter(small_root.table('sample')))
    path = tmp_path / 'qa.json'
    path.write_text(json.dumps({'questions': [record(token), record('elsewhere'), record(token, 3)]}))
    questions = read_nuscenes_qa(path, small_root)
    assert (questions.total, questions.matched) == (3, 2)
    assert questions.questions == tuple(questions.by_sample[token])
    assert [item.answer for item in questions.by_sample[token]] == ['yes', '3']
    assert questions.summary == '2 of 3 questions match 1 key frames of this root'


@pytest.mark.parametrize(('content', 'words'), [
    ('{', 'not valid JSON'), ('[]', 'no list "questions"'),
    ('{"questions": [{"question": "?", "answer": "no"}]}', 'question 0 .* lacks sample_token'),
])
def test_other_files_are_refused(small_root: NuScenes, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / 'qa.json'
    path.write_text(content)
    with pytest.raises(DatasetError, match=rf'(?s){words}'):
        read_nuscenes_qa(path, small_root)


def test_absent_file_is_named(small_root: NuScenes, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'gone\.json.*download'):
        read_nuscenes_qa(tmp_path / 'gone.json', small_root)
