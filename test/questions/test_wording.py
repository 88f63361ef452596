"""Questions that turn with the vehicle keep their true answers."""
from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.questions.generator import SceneFacts, askable, scene_questions
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.wording import SIXTHS, TEMPLATES, read_question, turned_question
from mpnp_world.dataset.objects_only import object_key_frames


@cache
def frames() -> tuple[KeyFrame, ...]:
    """A few moments of two scenes, objects only."""
    return tuple(object_key_frames([3, 8], 3, 4., workers=1, progress=False))


def truths(objects: Sequence[AnnotatedObject]) -> dict[str, str]:
    """All that can be asked of some objects in any wording, with the answers."""
    return {template.format(**fact.slots): fact.answer for fact in SceneFacts(askable(objects))
            for template in TEMPLATES[fact.kind]}


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 5), st.integers(-6, 12))
def test_the_true_answers_stay(place, sixths):
    frame = frames()[place]
    before, after = truths(frame.objects), truths(frame.turned(sixths * math.tau / 6).objects)
    turned = {text: turned_question(text, sixths) for text in before}
    assert all(after[seen] == before[text] for text, seen in turned.items() if seen is not None)
    assert {text for text in before if ' of me' in text and ' and the ' not in text} \
        <= {text for text, seen in turned.items() if seen is not None}


@settings(deadline=None, max_examples=30)
@given(st.integers(-20, 20), st.integers(-20, 20))
def test_turns_add_up(one, other):
    for question in scene_questions(frames()[0], per_kind=5):
        first = turned_question(question.text, one)
        both = turned_question(question.text, one + other)
        assert both == (None if first is None else turned_question(first, other))


@pytest.mark.parametrize(('text', 'seen'), [
    ('How many moving cars are there to the front left of me?',
     'How many moving cars are there to the front of me?'),
    ('There is a bus to the back of me; is it the same status as the truck?',
     'There is a bus to the back left of me; is it the same status as the truck?'),
    ('Are any bicycles with rider visible?', 'Are any bicycles with rider visible?'),
    ('Is there another truck of the same status as the parked bus?',
     'Is there another truck of the same status as the parked bus?'),
    ('How many cars are there to the front of the bus?', None),
    ('There is a bus; how many cars are to the front of it?', None),
    ('What is the thing that is both to the front of me and the back of the bus?', None),
    ('Is anything on my left?', None),
    ('Are there any cars on my left?', None),
    ('', None),
])
def test_what_is_ahead_after_a_turn_to_the_left(text, seen):
    assert turned_question(text, 1) == seen


def test_every_question_of_a_scene_is_read():
    for question in scene_questions(frames()[1], per_kind=40):
        wording = read_question(question.text)
        assert wording.kind[:2] == (question.type, question.hops)
        assert wording.template.format(**wording.slots) == question.text


def test_a_sixth_lies_between_its_neighbours():
    assert [turned_question(f'Are any cars to the {way} of me visible?', 1)
            for way in (*SIXTHS[1:], SIXTHS[0])] == [f'Are any cars to the {way} of me visible?'
                                                     for way in SIXTHS]
