"""Questions are turned back to the heading of the drive, runs become rows, and the page shows them."""
from __future__ import annotations

import json

import numpy as np
import pytest

from bench.real_adaptation import (
    ELSEWHERE,
    HEADINGS,
    LATER,
    AdaptationRun,
    RealScenes,
    corrected,
    described,
    summary,
    write_report,
)
from mpnp_ros.adaptation.job import TRAINED, WORSE, JobResult
from mpnp_ros.errors import DatasetError
from mpnp_ros.methods.link_files import copied_link
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.rule import rule_answer
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.training.key_frames import heading_of, question_dataset, sample_of
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects
from mpnp_world.dataset.objects_only import scene_key_frames


@pytest.fixture(scope='module')
def scenes() -> RealScenes:
    """True objects of two streets of the simulated world, as if they were a drive and another scene."""
    drive, other = (question_dataset(scene_key_frames(seed, 2), [TrueObjects(NEARBY)], HEADINGS, scope=NEARBY)
                    for seed in (1, 2))
    stamps = {sample_of(key): number for number, key in enumerate(sorted(drive.frames))}
    return RealScenes(drive, stamps, {LATER: drive.evened(20), ELSEWHERE: other.evened(5)})


def test_labelled_questions_are_about_the_drive_as_recorded(scenes):
    recorded = {sample_of(key): frame[OBJECTS] for key, frame in scenes.lived.frames.items()
                if heading_of(key) == 0}
    drawn = scenes.labelled(60, 0)
    asked = [(sample, question) for sample, questions in drawn.items() for question in questions]
    assert len({(sample, question.question) for sample, question in asked}) == 60
    assert all(rule_answer(question.question, recorded[sample], CHANNELS) == question.answer
               for sample, question in asked)
    assert scenes.labelled(60, 0) == drawn != scenes.labelled(60, 1)
    with pytest.raises(DatasetError, match='different questions, not'):
        scenes.labelled(10 ** 6, 0)


def test_links_as_they_begin_correct_nothing(scenes):
    frame = next(iter(scenes.lived.frames.values()))
    link = copied_link(shipped_links()[OBJECTS].path, 'camera', 'e')
    counted = corrected({'camera': link}, {'camera': frame[OBJECTS]})
    assert np.allclose(counted.values.sum(0), frame[OBJECTS].values.sum(0))


def figures(scenes: RealScenes, share: float, result: JobResult | None = None) -> dict:
    """A run with that share of right answers."""
    def right(test: str) -> list[int]:
        count = len(scenes.tests[test].examples)
        return [int(place < share * count) for place in range(count)]

    return {'result': result and vars(result),
            'right': {test: {name: right(test) for name in ('links', 'turned away', 'rule')}
                      for test in scenes.tests}}


def test_the_page_tells_what_is_gained(scenes, tmp_path):
    trained = JobResult(TRAINED, '', accuracy=.7, start_accuracy=.5, held_out=40, steps=150, seconds=20.,
                        macs=2e12, peak_bytes=300_000_000, questions=200)
    runs = [(AdaptationRun('camera'), figures(scenes, .5)),
            (AdaptationRun('camera', 0), figures(scenes, .5, trained)),
            (AdaptationRun('camera', 300, 0), figures(scenes, .6, trained)),
            (AdaptationRun('camera', 300, 1), figures(scenes, .8, JobResult(WORSE, '', steps=150, accuracy=.4,
                                                                  start_accuracy=.5)))]
    results = summary(scenes, runs)
    page = write_report(tmp_path, results, 'a machine')
    text = page.read_text('utf-8')
    row = next(line for line in text.splitlines() if line.startswith('| camera | 300 questions | 70.'))
    assert '(+20.' in row
    assert '| camera | 300 questions | 1 of 2 |' in text and '| camera | the lidar, no labels |' in text
    assert '- camera: +20.' in text and 'a gain' in text
    assert json.loads((tmp_path / 'real_adaptation.json').read_text())['rows'][2]['costs']['offered'] == 1
    assert (tmp_path / 'real_adaptation.png').read_bytes()[:4] == b'\x89PNG'
    assert described(*runs[2]).startswith('camera, 300 questions, seed 0: second half: links 6')
    assert [AdaptationRun('camera + LiDAR', 75, 2).file, AdaptationRun('LiDAR').file] == [
        'camera-lidar-75-2', 'lidar--1-0']
