"""Questions that relate two other things to each other are read, and nothing else is."""
from __future__ import annotations

import random

import pytest

from mpnp_ros.questions.generator import EVERYTHING, SceneFacts, objects_of
from mpnp_ros.questions.relations import (
    FROM_ANCHOR,
    FROM_BOTH,
    SAME_STATUS,
    RelatedQuestion,
    related_question,
    status_question,
)
from mpnp_ros.questions.wording import Description, read_question
from mpnp_world.dataset.objects_only import scene_key_frames

BUS, CAR = Description('bus', 'moving'), Description('car')


@pytest.mark.parametrize(('text', 'wanted'), [
    ('There is a moving bus; are there any cars to the back left of it?', RelatedQuestion(
        FROM_ANCHOR, BUS, 'back left', 'Are there any cars to the back left of me?')),
    ('What is the status of the car  to the front of the moving bus?', RelatedQuestion(
        FROM_ANCHOR, BUS, 'front', 'What status is the car to the front of me?')),
    ('Is the status of the truck to the back of the moving bus the same as the car?', RelatedQuestion(
        FROM_ANCHOR, BUS, 'back', 'What is the status of the truck to the back of me?', CAR)),
    ('How many other cars are there of the same status as the moving bus?', RelatedQuestion(
        SAME_STATUS, BUS, '', 'How many {things} are there?', things=CAR)),
    ('The thing that is both to the front of me and the back of the moving bus is what?', RelatedQuestion(
        FROM_BOTH, BUS, 'back', 'What is the thing that is to the front of me?'))])
def test_a_question_is_read_as_steps(text, wanted):
    assert related_question(text) == wanted
    assert wanted.whether == 'Are there any moving buses?'


def test_same_status_asks_for_things_of_that_status():
    found = related_question('Is there another pedestrian of the same status as the moving bus?')
    assert found.of_status('moving') == 'Are there any moving pedestrians?'
    assert status_question(CAR) == 'What is the status of the car?'


@pytest.mark.parametrize(('text', 'asked'), [
    ('How many cars are to the front left of the moving bus?', 'How many cars are to the front left of me?'),
    ('what is  behind the Moving bus', 'what is behind me?'),
    ('Anybody in front of the moving bus?', 'Anybody in front of me?'),
    ('Do you see cars on the left of the moving bus?', 'Do you see cars on the left of me?')])
def test_other_words_are_read_where_they_end_in_a_place(text, asked):
    found = related_question(text)
    assert (found.form, found.anchor, found.text) == (FROM_ANCHOR, BUS, asked)


@pytest.mark.parametrize('text', [
    'Are there any cars to the front of me?', 'Are there any cars?', 'What is behind us?', '',
    'Behind the bus?', 'Is the status of the car the same as of the truck behind the bus?',
    'What is behind the house?', 'Am I behind the bus?', 'Do I have to stop behind the bus?',
    'Are there any cars to the left of me that are behind the bus?',
    'Is it behind the bus in front of the car?',
    'Are there any other cars of the same status as the barrier?',
    'Are there any other barriers of the same status as the moving car?',
    'Are there any cars to the front of the unicorn?'])
def test_other_questions_are_not_related(text):
    assert related_question(text) is None


def test_every_related_question_of_the_generator_is_read_and_its_steps_are_questions_of_the_vehicle():
    facts = SceneFacts(objects_of(scene_key_frames(31_000, 1)[0], EVERYTHING))
    related = [fact for fact in facts if fact.kind[2] in (FROM_ANCHOR, FROM_BOTH, SAME_STATUS)]
    assert {fact.kind[2] for fact in related} == {FROM_ANCHOR, FROM_BOTH, SAME_STATUS}
    for fact in related[::7]:
        found = related_question(fact.ask(random.Random(0), '').text)
        text = found.of_status('moving') if found.form == SAME_STATUS else found.text
        assert read_question(text).kind[2] in ('any', 'me')
        assert read_question(found.whether).kind[2] == 'any'
