"""Steps lead to the right answers of related questions where a method makes no mistakes."""
from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.methods.questions import Grounding, Reply
from mpnp_ros.questions.generator import SceneFacts
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_ros.questions.relations import related_question
from mpnp_ros.questions.rule import parse_question, rule_answer
from mpnp_ros.questions.vocabulary import ANSWERS, CATEGORIES, CHANNELS, STATUSES_OF_CATEGORY, THING
from mpnp_ros.serving.relations import answer_related
from mpnp_ros.tokens import SECTORS, ModalityTokens

LIDAR = 'lidar'


class Exact:
    """Answers by the rule, and names the tokens that hold what is asked for."""

    def __init__(self, tells: bool = True) -> None:
        self.tells = tells

    def prepare(self, text, choices):
        return text, tuple(choices)

    def answer_each(self, questions, tokens):
        return [self._reply(*question, frame) for question, frame in zip(questions, tokens, strict=True)]

    def _reply(self, text, choices, tokens):
        frame, thing = tokens[LIDAR], parse_question(text).thing
        said = rule_answer(text, frame, CHANNELS)
        fits = [thing.category in (THING, category) and thing.status in (None, status)
                for category, status in CHANNELS]
        held = frame.values @ np.array(fits, np.float32)
        grounding = tuple(Grounding(LIDAR, token, thing.singular, float(number), 1.)
                          for token, number in enumerate(held)) if self.tells else ()
        return Reply(said, 1., tuple(float(choice == said) for choice in choices), (LIDAR,), 0.,
                     grounding=grounding)


def objects(seed: int) -> list[AnnotatedObject]:
    """Objects at least 3 m from each other."""
    rng, found = random.Random(seed), []
    while len(found) < 9:
        category, place = rng.choice(CATEGORIES), (rng.uniform(-25, 25), rng.uniform(-25, 25), 0.)
        status = rng.choice(STATUSES_OF_CATEGORY[category] or (None,))
        if all(math.dist(place, other.centre) > 3 for other in found):
            found.append(AnnotatedObject(f'o{len(found)}', category, status, place, (1., 1., 1.), 0.,
                                         num_lidar_pts=9))
    return found


def seen(items: list[AnnotatedObject]) -> ModalityTokens:
    values = np.zeros((len(items), len(CHANNELS)), np.float32)
    for row, item in enumerate(items):
        values[row, CHANNELS.index((item.category, item.attribute))] = 1
    azimuth = np.array([math.atan2(*item.centre[1::-1]) for item in items], np.float32)
    return ModalityTokens(LIDAR, 'e', values, azimuth, distance=np.array(
        [item.distance for item in items], np.float32))


@pytest.mark.parametrize('seed', range(6))
def test_steps_are_right_where_each_answer_is(seed):
    items, asked = objects(seed), Counter()
    facts = [fact for fact in SceneFacts(items) if fact.kind[2] in ('anchor', 'same', 'both')]
    for fact in random.Random(seed).sample(facts, min(len(facts), 300)):
        question = fact.ask(random.Random(seed), '')
        answer = answer_related(Exact(), related_question(question.text), ANSWERS, {LIDAR: seen(items)})
        assert answer.reply.text == question.answer, question.text
        asked[fact.kind[2]] += 1
    assert asked['anchor'] and asked['same']


def test_an_answer_rests_on_the_anchor_and_on_tokens_as_they_were_numbered():
    items = objects(0)
    frame = seen(items)
    fact = next(fact for fact in SceneFacts(items) if fact.kind == ('object', 1, 'anchor'))
    text = fact.ask(random.Random(0), '').text
    reply = answer_related(Exact(), related_question(text), ANSWERS, {LIDAR: frame}).reply
    anchor, *others = [entry.token for entry in reply.grounding]
    assert items[anchor].category == related_question(text).anchor.category
    assert sorted([anchor, *others]) == list(range(len(items)))
    shares = [entry.weight for entry in reply.grounding]
    assert shares == pytest.approx([.5, *[.5 / len(others)] * len(others)])
    assert (reply.used, reply.counted) == ((LIDAR,), ())


def test_a_comparison_may_be_spelled_with_capitals_but_needs_yes_and_no():
    items = [AnnotatedObject(category, category, 'moving', (10. * place, 5., 0.), (1., 1., 1.), 0.)
             for place, category in enumerate(('bus', 'car', 'truck'))]
    question = related_question('Is the status of the car to the front of the bus the same as the truck?')
    found = answer_related(Exact(), question, ('No', 'Yes', 'maybe'), {LIDAR: seen(items)}).reply
    assert (found.text, found.probabilities) == ('Yes', (0., 1., 0.))
    assert answer_related(Exact(), question, ('different', 'same'), {LIDAR: seen(items)}) is None


@pytest.mark.parametrize('place', [(0.1, 0., 0.), (0.1, 12., 0.), (21., 0., 0.)])
def test_what_the_sensor_does_not_look_at_is_not_looked_at_from_the_anchor(place):
    bus = AnnotatedObject('b', 'bus', 'moving', place, (9., 3., 3.), 0., num_lidar_pts=9)
    behind = np.ones(SECTORS, bool)
    behind[:SECTORS // 4] = behind[-SECTORS // 4:] = False  # half of the view, behind the vehicle
    frames = []

    class Seeing(Exact):
        def answer_each(self, questions, tokens):
            frames.extend(frame[LIDAR].looked for frame in tokens)
            return super().answer_each(questions, tokens)

    answer_related(Seeing(), related_question('Are there any cars to the back of the bus?'), ANSWERS,
                   {LIDAR: replace(seen([bus]), looked=behind)})
    asked, moved = frames
    assert (asked == behind).all()
    assert moved.mean() == pytest.approx(1 if place[0] > 10 else .5, abs=.15 if place[0] > 10 else .02)


def test_what_cannot_be_answered_in_steps_says_why():
    items = objects(1)
    question = related_question('Are there any cars to the back of the bus?')
    cars = seen([item for item in items if item.category != 'bus'])
    assert answer_related(Exact(), question, ANSWERS, {LIDAR: cars}).unknown == (
        'unknown: no bus is seen whose place is known')
    far = replace(cars, distance=np.zeros(0, np.float32))
    assert 'do not tell how far' in answer_related(Exact(), question, ANSWERS, {LIDAR: far}).unknown
    assert answer_related(Exact(tells=False), question, ANSWERS, {LIDAR: cars}) is None


def test_nothing_beside_the_anchor_is_no_and_none():
    bus = AnnotatedObject('b', 'bus', 'moving', (10., 5., 0.), (9., 3., 3.), 0., num_lidar_pts=9)
    for text, wanted in (('Are there any cars to the back of the bus?', 'no'),
                         ('There is a bus; how many things are to the front of it?', '0')):
        found = answer_related(Exact(), related_question(text), ANSWERS, {LIDAR: seen([bus])})
        assert found.reply.text == wanted
