"""What is asked of each moment where a question is about the past."""
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import QuestionError
from mpnp_ros.questions.past import PastQuestion, Wanted, past_question


@pytest.mark.parametrize(
    ('text', 'asked'),
    [
        ('When was the last bus?', PastQuestion(Wanted.LAST, 'Is there a bus?')),
        (
            'when did you last see a motorcycle to the left',
            PastQuestion(Wanted.LAST, 'Is there a motorcycle to the left?'),
        ),
        ('When did the last pedestrian pass?', PastQuestion(Wanted.LAST, 'Is there a pedestrian?')),
        ('Since when is there a bus ahead?', PastQuestion(Wanted.SINCE, 'Is there a bus ahead?')),
        (
            'How long has there been an animal behind us?',
            PastQuestion(Wanted.SINCE, 'Is there an animal behind us?'),
        ),
        ('How long has the car been parked?', PastQuestion(Wanted.SINCE, 'Is the car parked?')),
        (
            'Did a pedestrian pass in the last minute?',
            PastQuestion(Wanted.EVER, 'Is there a pedestrian?', 60.0),
        ),
        (
            'has a truck passed by within the last two minutes',
            PastQuestion(Wanted.EVER, 'Is there a truck?', 120.0),
        ),
        ('Did a cyclist pass on the left?', PastQuestion(Wanted.EVER, 'Is there a cyclist on the left?')),
        ('Have you seen any trucks?', PastQuestion(Wanted.EVER, 'Are there any trucks?')),
        (
            'Were there two buses in the past 1.5 h?',
            PastQuestion(Wanted.EVER, 'Are there two buses?', 5400.0),
        ),
        (
            'How many cars were there 10 seconds ago?',
            PastQuestion(Wanted.THEN, 'How many cars are there?', ago=10.0),
        ),
        ('Was there a bus half a minute ago?', PastQuestion(Wanted.THEN, 'Is there a bus?', ago=30.0)),
        (
            'What was the status of the truck a minute ago?',
            PastQuestion(Wanted.THEN, 'What is the status of the truck?', ago=60.0),
        ),
        ('Is the bus coming closer?', PastQuestion(Wanted.CLOSER, 'bus', 5.0)),
        ('Are any pedestrians approaching us?', PastQuestion(Wanted.CLOSER, 'pedestrians', 5.0)),
        ('What changed?', PastQuestion(Wanted.CHANGED, '', 60.0)),
        ('what has changed in the last 20 s', PastQuestion(Wanted.CHANGED, '', 20.0)),
        ('How many cars are there?', PastQuestion(Wanted.HISTORY, 'How many cars are there?')),
    ('How fast are we going?', PastQuestion(Wanted.HISTORY, 'How fast are we going?')),
    ('Have you heard a siren?', PastQuestion(Wanted.EVER, 'Do you hear a siren?')),
    ('Did we hit a bump in the last minute?', PastQuestion(Wanted.EVER, 'Did we hit a bump?', 60.)),
        (
            'Was the truck parked in the last hour?',
            PastQuestion(Wanted.HISTORY, 'Is the truck parked?', 3600.0),
        ),
    ],
)
def test_each_form(text, asked):
    assert past_question(text) == asked


@pytest.mark.parametrize('text', ['who won', '', '???', 'tomorrow', 'When was the last bus 10 seconds ago?'])
def test_what_is_not_understood_is_refused_with_examples(text):
    with pytest.raises(QuestionError, match='understood|leave out'):
        past_question(text)


@given(st.text(max_size=300))
def test_any_text_is_understood_or_refused(text):
    try:
        asked = past_question(text)
    except QuestionError:
        return
    assert asked.window > 0 and asked.ago >= 0 and not math.isnan(asked.window)
