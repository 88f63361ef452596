"""The page about questions that relate two other things; the answers are made in the program only."""
from __future__ import annotations

import json

from bench.relations import AskedInStreet, majority, write_report
from mpnp_ros.questions.generator import LabelledQuestion


def asked(scene: int, kind: str, answer: str) -> AskedInStreet:
    return AskedInStreet(scene, LabelledQuestion('?', answer, kind, 1, '?', 's'), {})


def test_the_majority_is_that_of_other_streets():
    entries = [asked(0, 'count', '1'), asked(0, 'count', '1'), asked(1, 'count', '2'),
               asked(1, 'exist', 'no')]
    assert majority(entries) == ['2', '2', '1', '']


def test_the_page_gives_accuracies_by_type_and_leaves_unknown_out_where_it_says_so(tmp_path):
    entries = [asked(0, 'count', '1'), asked(0, 'exist', 'yes'), asked(1, 'count', '2'),
               asked(1, 'exist', 'no')]
    answers = {'LiDAR, in steps': ['1', 'yes', '', 'yes'], 'majority': ['2', 'no', '1', 'yes']}
    text = write_report(tmp_path / 'relations.md', entries, answers, 'streets').read_text()
    assert '|  | all | count (2) | exist (2) |' in text
    assert '| LiDAR, in steps | 50.0 [0.0, 100.0] | 50.0 | 50.0 |' in text
    assert '66.7 % are right (1 of 4 are)' in ' '.join(text.split())
    assert json.loads((tmp_path / 'relations.json').read_text())['majority']['right'] == [0, 0, 0, 0]
