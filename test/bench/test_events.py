"""What counts as an event that is right, and as something that was missed."""
from __future__ import annotations

import math

import pytest

from bench.events import (
    Episode,
    EventScore,
    _said_change,
    comes_closer,
    conditions,
    episodes_of,
    holds,
    nearest,
    true_objects,
)
from mpnp_ros.questions.generator import NEARBY, objects_of
from mpnp_ros.questions.past import past_question
from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.questions.wording import Description
from mpnp_ros.serving.events import Event, EventKind
from mpnp_ros.serving.questions import Question
from mpnp_ros.tokens import SECOND
from mpnp_world.dataset.objects_only import scene_key_frames


def event(kind: EventKind, second: float) -> Event:
    return Event(Question('q'), kind, round(second * SECOND), 0, 'yes', 1.)


def test_episodes_are_runs():
    assert episodes_of({}) == episodes_of({0.: False}) == []
    assert episodes_of({0.: True, .5: True, 1.: False, 1.5: True}) == [Episode(0., .5), Episode(1.5, 1.5)]


def test_a_score_counts_right_events_and_found_episodes():
    score = EventScore()
    told = [event(kind, second) for kind, second in (
        (EventKind.BEGINS, 2.), (EventKind.ENDS, 4.), (EventKind.BEGINS, 20.), (EventKind.LOST, 21.))]
    score.add(told, [Episode(1., 5.), Episode(10., 10.5), Episode(30., 40.)], 3600.)
    assert score.row() == {'events': 2, 'precision': 50., 'episodes': 2, 'recall': 50., 'delay': 1.,
                           'false_an_hour': 1.}


def test_true_objects_tell_what_is_within_a_distance():
    frame = scene_key_frames(31_000, 1)[0]
    tokens = true_objects(frame)
    far = float(tokens.distance.max())
    assert tokens.distance.tolist() == pytest.approx([item.distance for item in objects_of(frame, NEARBY)])
    things = Description('thing')
    assert holds(Meaning('exist', things, None, reach=far), tokens)
    assert not holds(Meaning('exist', things, None, reach=float(tokens.distance.min()) - .1), tokens)
    category = next(name for (name, _), number in zip(CHANNELS, tokens.values[0], strict=True) if number)
    assert nearest(tokens, category) <= tokens.distance[0]


@pytest.mark.parametrize(('distances', 'closer'), [
    ([20, 18, 16, 14], True), ([20, math.inf, 18.5, 18], False), ([9, 9, math.inf], None), ([9], None)])
def test_closer_is_a_difference_of_the_first_and_the_last_third(distances, closer):
    assert comes_closer(distances) is closer


def test_a_hundred_conditions_have_texts_of_their_own():
    assert len(conditions()) == 100


@pytest.mark.parametrize(('category', 'change'), [
    ('car', 1), ('bus', -1), ('truck', 0), ('traffic cone', -1)])
def test_what_changed_is_read_by_category(category, change):
    assert past_question('What changed in the last hour?').window == 3600
    assert _said_change('2 cars more, 1 bus fewer, 1 traffic cone fewer', category) == change
