"""What trusted modalities answer becomes what a new one learns."""
from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from mpnp_ros.adaptation.job_train import distilled
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.evaluation import answers_of, replies_of


@pytest.fixture
def unanswered(toy) -> TokenDataset:
    """Frames of two modalities whose questions have no known answer."""
    dataset = toy(12, 0, ('camera', 'lidar'))
    return replace(dataset, examples=tuple(replace(one, answer='') for one in dataset.examples))


def test_labels_are_what_the_teacher_says_from_its_own_tokens(toy, toy_method, unanswered):
    method, other = toy_method('camera', 'lidar'), toy(12, 5, ('camera', 'lidar'))
    labelled = distilled(unanswered, method, ['camera'], accept=0., by='')
    camera = unanswered.only(['camera'])
    said = answers_of(method, camera.examples, PreparedQuestions(method),
                      lambda one: camera.frames[one.frame])
    assert [one.answer for one in labelled.examples] == said
    assert [replace(one, answer='') for one in labelled.examples] == list(unanswered.examples)
    assert labelled.frames == unanswered.frames
    elsewhere = {key: {**frame, 'lidar': other.frames[key]['lidar']}
                 for key, frame in unanswered.frames.items()}
    again = distilled(replace(unanswered, frames=elsewhere), method, ['camera'], accept=0., by='')
    assert again.examples == labelled.examples


def test_what_is_not_sure_is_left_out(toy_method, unanswered):
    method = toy_method('camera', 'lidar')
    camera = unanswered.only(['camera'])
    replies = replies_of(method, camera.examples, PreparedQuestions(method),
                         lambda one: camera.frames[one.frame])
    middle = sorted(reply.confidence for reply in replies)[len(replies) // 2]
    labelled = distilled(unanswered, method, ['camera'], accept=middle, by='')
    assert len(labelled.examples) == sum(reply.confidence >= middle for reply in replies) < len(replies)
    assert {one.frame for one in labelled.examples} == set(labelled.frames)
    chosen = distilled(unanswered, method, ['camera'], accept=lambda one, reply: one.type == 'status', by='')
    assert {one.type for one in chosen.examples} == {'status'}
    assert distilled(unanswered, method, ['camera'], accept=1.1).examples == ()


def test_the_student_sees_its_own_tokens(toy_method, unanswered):
    labelled = distilled(unanswered, toy_method('camera', 'lidar'), ['camera'], ['lidar'], 0., by='')
    assert labelled.modalities == ('lidar',) and len(labelled.examples) == len(unanswered.examples)


def test_frames_that_teacher_or_student_does_not_see_are_left_out(toy_method, unanswered):
    frames = dict(unanswered.frames)
    frames['f0'], frames['f1'] = {'camera': frames['f0']['camera']}, {'lidar': frames['f1']['lidar']}
    labelled = distilled(replace(unanswered, frames=frames), toy_method('camera', 'lidar'), ['camera'],
                         ['lidar'], 0., by='')
    assert set(labelled.frames) == unanswered.frames.keys() - {'f0', 'f1'}


def test_no_answer_floods(toy_method, unanswered):
    labelled = distilled(unanswered, toy_method('camera', 'lidar'), ['camera'], accept=0.)
    for kind in {one.type for one in labelled.examples}:
        first, second = Counter(one.answer for one in labelled.examples if one.type == kind).most_common(2)
        assert first[1] == second[1]


def test_a_cancelled_teacher_gives_what_it_has(toy_method, unanswered):
    calls = iter([False, True])
    many = replace(unanswered, examples=unanswered.examples * 5)
    labelled = distilled(many, toy_method('camera'), ['camera'], accept=0., by='',
                         cancelled=lambda: next(calls))
    assert len(labelled.examples) == 64


def test_a_modality_without_links_teaches_nothing(toy_method, unanswered):
    assert distilled(unanswered, toy_method('lidar'), ['camera'], accept=0., by='').examples == ()
