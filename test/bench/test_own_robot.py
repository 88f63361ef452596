"""True answers in place of a person: those of the key frame of the moment, and only where there is one."""
from __future__ import annotations

import pytest

from bench.own_robot import WINDOW, true_answers, true_labels
from mpnp_ros.bags.labels import PERSON
from mpnp_ros.cli.recording import RecordedAnswer
from mpnp_ros.questions.generator import NEARBY, scene_questions
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.tokens import SECOND
from mpnp_world.dataset.objects_only import scene_key_frames


@pytest.fixture(scope='module')
def frames():
    return list(scene_key_frames(5, 2))


def answered(stamp_ns: int, question: str) -> RecordedAnswer:
    return RecordedAnswer(stamp_ns, question, 'count', ANSWERS, '3', .5, {}, {}, '')


def test_the_generator_agrees(frames):
    for frame in frames:
        truth = true_answers(frame)
        questions = scene_questions(frame, per_kind=30, scope=NEARBY)
        assert questions and all(truth[question.text] == question.answer for question in questions)


def test_labels_are_of_the_key_frame_of_their_time(frames):
    first, second = frames
    text = next(question for question in true_answers(first) if question in true_answers(second))
    late, never = first.stamp_ns + round(.9 * WINDOW * SECOND), first.stamp_ns - SECOND
    labels = list(true_labels([answered(late, text), answered(second.stamp_ns, text), answered(never, text),
                               answered(second.stamp_ns, 'Is it dark?')], frames))
    assert [(label.stamp_ns, label.answer, label.by) for label in labels] == [
        (late, true_answers(first)[text], PERSON), (second.stamp_ns, true_answers(second)[text], PERSON)]
