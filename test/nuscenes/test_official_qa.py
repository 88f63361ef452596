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


@pytest.mark.parametrize('hops', [1, 1.0, '1'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_what_can_only_mean_one_number_is_read(small_root: NuScenes, tmp_path: Path, hops: object,
                                               encoding: str) -> None:
    asked = {**record(next(iter(small_root.table('sample')))), 'num_hop': hops}
    (tmp_path / 'qa.json').write_bytes(json.dumps({'questions': [asked]}).encode(encoding))
    assert read_nuscenes_qa(tmp_path / 'qa.json', small_root).questions[0].hops == 1


@pytest.mark.parametrize(('change', 'words'), [
    ({'num_hop': None}, 'num_hop is None, expected a whole number'),
    ({'num_hop': 'one'}, "num_hop is 'one'"),
    ({'num_hop': 0.5}, 'num_hop is 0.5'), ({'num_hop': True}, 'num_hop is True'),
    ({'num_hop': -1}, 'num_hop is -1'), ({'num_hop': 1000}, 'num_hop is 1000'),
    ({'num_hop': []}, 'num_hop is'),
    ({'answer': None}, 'answer is None'), ({'answer': True}, 'answer is True'),
    ({'answer': ['yes']}, 'answer is'), ({'question': 7}, 'question is 7'),
    ({'question': ' '}, 'question is'),
    ({'template_type': None}, 'template_type is None'), ({'sample_token': []}, 'sample_token is'),
])
def test_a_field_of_another_type_is_named(small_root: NuScenes, tmp_path: Path, change: dict,
                                          words: str) -> None:
    token = next(iter(small_root.table('sample')))
    path = tmp_path / 'qa.json'
    path.write_text(json.dumps({'questions': [record(token), {**record(token), **change}]}))
    with pytest.raises(DatasetError, match=rf'question 1 of .*qa\.json: {words}'):
        read_nuscenes_qa(path, small_root)


@pytest.mark.parametrize(('content', 'words'), [
    (b'{"questions": [7]}', 'question 0 of .* is not an object'),
    (b'{"questions": {}}', 'no list "questions"'),
    ('{"questions": ["é"]}'.encode('latin-1'), r'not valid JSON: it is not in UTF-8 .byte 16'),
    (b'[' * 100_000, 'not valid JSON'), (b'', 'is empty'), (b'<html>', 'is a web page'),
    (b'version https://git-lfs.github.com/spec/v1', '`git lfs pull`'),
])
def test_a_file_that_holds_something_else_is_named(small_root: NuScenes, tmp_path: Path, content: bytes,
                                                   words: str) -> None:
    (tmp_path / 'qa.json').write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        read_nuscenes_qa(tmp_path / 'qa.json', small_root)
