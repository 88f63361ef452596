"""The program of the running system: its conditions and its page; the nodes run in the program only."""
from __future__ import annotations

import os
from itertools import islice

from bench.live import FRAMES, HeardAnswer, SensorChange, Watched, conditions, processor_seconds, write_report
from mpnp_ros.questions.wording import read_question

SECOND = 1_000_000_000


def heard(at: float, subject: str, status: int = 0, **ages: float) -> HeardAnswer:
    stamps = {sensor: int((at - age) * SECOND) for sensor, age in ages.items()}
    return HeardAnswer(at, subject, status, stamps)


def test_a_hundred_conditions_differ_and_are_understood():
    first = list(islice(conditions(), 100))
    assert len(set(first)) == 100
    assert {found.kind[0] for text in first if (found := read_question(text))} == {'exist'}
    assert sum(read_question(text) is None for text in first) == 30  # those within some metres


def test_the_page_counts_answers_that_rest_on_old_tokens(tmp_path):
    changes = [SensorChange(sensor, way, 10., 2.5, {'objects': 4, 'motion': 3, 'sounds': 3},
                      {'objects': 0, 'motion': 3 * (way == 'out'), 'sounds': 0}, .5, ('camera',))
               for sensor in ('camera', 'lidar', 'radar', 'imu', 'audio') for way in ('out', 'in')]
    answers = [heard(5., 'objects', camera=.1, lidar=.2), heard(6., 'objects', camera=.1, lidar=3.2),
               heard(65., 'motion', 4)]
    watched = Watched(2, FRAMES, 160, 159, 7, (.1, .3), .25)
    text = write_report(tmp_path / 'live.md', changes, answers, watched, 12.).read_text()
    assert 'those of another: 1.' in text
    assert '3 answers in 1.0 minutes, 0 of them with an error' in text
    assert '| imu | out | 2.5 | 4 | 3, 3 unknown | 3 | 0.5 | camera |' in text
    assert 'answered 159 of 160' in ' '.join(text.split())
    assert (tmp_path / 'live.png').stat().st_size > 10_000


def test_seconds_of_computing_of_a_process_grow():
    before = processor_seconds(os.getpid())
    while processor_seconds(os.getpid()) <= before:
        sum(range(100_000))
