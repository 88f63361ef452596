"""What may be asked, and when a standing question is due."""
from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import QuestionError
from mpnp_ros.serving.questions import (
    MOST_CHARACTERS,
    MOST_CHOICES,
    Condition,
    Question,
    StandingQuestions,
)

SECOND = 1_000_000_000
UNSEEN = ('\u200b\u200b', '\ufeff', '\u00ad \u2060', '\u3164', '\u2800', '\u00a0\u3000', '\u115f',
          '\ufe0f', '\u034f', '\U000e0020', '\u202e', '\u0301')


@pytest.mark.parametrize('question', [
    Question('is there a car?'), Question('x' * MOST_CHARACTERS), Question('two\nlines\tof Ünïcode 车'),
    Question('which?', ('yes', 'no'), 'a', True, 2.5, 9.), Question('', id='a', standing=True),
    Question('\U0001f468\u200d\U0001f469?', ('\U0001f697', '\U0001f68c')),
    Question('\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645')])
def test_good_questions_pass_as_they_are_and_composed(question):
    question.checked()
    composed = question.normalised()
    composed.checked()
    assert composed.normalised() == composed
    assert (composed.id, len(composed.choices)) == (question.id, len(question.choices))


@pytest.mark.parametrize(('question', 'reason'), [
    (Question(''), 'empty'), (Question('  \n '), 'empty'), (Question('', standing=True), 'empty'),
    (Question('x' * (MOST_CHARACTERS + 1)), '2001 characters'), (Question('bell\a'), 'control'),
    (Question('nul\0'), 'control'), (Question('esc\x1b[31m'), 'control'), (Question('c1\x9b'), 'control'),
    (Question('lone \ud800'), 'control'), (Question('a', id='i' * 201), 'id'), (Question('a', id='\0'), 'id'),
    (Question('a', ('yes',)), '1 choices'), (Question('a', ('yes', 'yes')), 'repeat'),
    (Question('a', ('yes', '')), 'choice of a question is empty'),
    (Question('a', ('yes', 'n' * 201)), 'choice'),
    (Question('a', tuple(map(str, range(MOST_CHOICES + 1)))), '257 choices'),
    (Question('a', period=-1.), 'period'), (Question('a', period=math.nan), 'period'),
    (Question('a', period=math.inf), 'period'), (Question('a', lease=-1.), 'lease'),
    (Question('a', lease=math.nan), 'lease'),
    *((Question(text), 'empty') for text in UNSEEN),
    *((Question('a', ('yes', text)), 'empty') for text in UNSEEN),
    (Question('a', id='\u200b'), 'id'),
    (Question('a', ('yes', 'yes\u200b')), 'cannot be seen'),
    (Question('a', ('caf\u00e9', 'cafe\u0301')), 'repeat'),
    (Question('a', ('yes', ' yes')), 'repeat'), (Question('a', ('\u2764', '\u2764\ufe0f')), 'cannot be seen'),
    (Question('a', ('a b', 'a\u00a0b')), 'repeat'),
    (Question('a', condition=Condition(('yes',))), 'standing'),
    (Question('a', ('no', 'ja'), standing=True, condition=Condition(('yes',))), 'no choice'),
    (Question('a', standing=True, condition=Condition(('yes',), begin=0.3, end=0.5)), 'end <= begin'),
    (Question('a', standing=True, condition=Condition(('yes',), begin=1.5)), 'end <= begin'),
    (Question('a', standing=True, condition=Condition(('yes',), hold=math.nan)), 'hold'),
    (Question('a', standing=True, condition=Condition(('',))), 'empty')])
def test_bad_questions_are_refused_with_the_reason(question, reason):
    with pytest.raises(QuestionError, match=reason):
        question.checked()


@given(st.builds(Question, st.text(max_size=5000), st.lists(st.text(max_size=300), max_size=300).map(tuple),
                 st.text(max_size=300), st.booleans(), st.floats()))
def test_what_is_echoed_is_bounded(question):
    clipped = question.clipped()
    assert len(clipped.text) <= MOST_CHARACTERS
    assert len(clipped.choices) <= MOST_CHOICES
    assert max(map(len, clipped.choices), default=0) <= 200
    assert len(clipped.id) <= 200


def test_an_id_is_made_up_only_where_there_is_none():
    assert Question('a', id='mine').named().id == 'mine'
    first, second = Question('a').named(), Question('a').named()
    assert first.id and first.id != second.id


def asked(name: str, period: float = 0.) -> Question:
    return Question(f'{name}?', id=name, standing=True, period=period)


def test_every_new_frame_once_and_the_longest_waiting_first():
    standing = StandingQuestions(4)
    standing.place(asked('a'), 0, 0)
    standing.place(asked('b'), 1, 0)
    assert standing.next(0, 0) == []
    assert standing.next(2, 0)[0].id == 'a'
    assert standing.next(2, 0)[0].id == 'b'
    assert standing.next(2, 0) == []


def test_questions_with_choices_are_answered_together_and_others_alone():
    standing, choices = StandingQuestions(9), ('no', 'yes')
    for name in 'abcde':
        standing.place(replace(asked(name), choices=choices), 0, 0)
    standing.place(asked('free'), 0, 0)
    standing.place(replace(asked('f'), choices=choices), 0, 0)
    found = [[question.id for question in standing.next(1, 0, 4)] for _ in range(5)]
    assert found == [['a', 'b', 'c', 'd'], ['e'], ['free'], ['f'], []]
    assert standing.skipped == 0


def test_frames_between_two_answers_are_counted_as_skipped():
    standing = StandingQuestions(4)
    standing.place(asked('a'), 0, 0)
    standing.next(1, 0)
    assert standing.skipped == 0
    standing.next(5, 0)
    assert standing.skipped == 3


def test_period_holds_and_a_jump_back_ends_it():
    standing = StandingQuestions(4)
    standing.place(asked('a', 2.), 0, 100 * SECOND)
    assert standing.next(1, 101 * SECOND) == []
    assert standing.next(2, 102 * SECOND)[0].id == 'a'
    assert standing.next(3, 103 * SECOND) == []
    assert standing.next(3, 10 * SECOND)[0].id == 'a'
    assert standing.skipped == 0, 'frames within the period are not missed'


def test_same_id_replaces_and_the_number_is_bounded():
    standing = StandingQuestions(2)
    standing.place(asked('a'), 0, 0)
    standing.place(asked('b'), 0, 0)
    standing.place(replace(asked('a'), text='new?'), 0, 0)
    with pytest.raises(QuestionError, match='already 2 standing questions'):
        standing.place(asked('c'), 0, 0)
    assert {entry.question.text for entry in standing.listed()} == {'new?', 'b?'}


def test_withdrawing():
    standing = StandingQuestions(2)
    standing.place(asked('a'), 0, 0)
    standing.withdraw('a')
    assert len(standing) == 0
    assert standing.next(1, 0) == []
    with pytest.raises(QuestionError, match='id a'):
        standing.withdraw('a')


def test_text_and_choices_are_composed():
    question = Question('cafe\u0301?', ('u\u0308', 'no')).normalised()
    assert (question.text, question.choices) == ('caf\u00e9?', ('\u00fc', 'no'))


def test_a_lease_ends_unless_it_is_renewed_unchanged():
    now = [0.]
    standing = StandingQuestions(2, lambda: now[0])
    leased = replace(asked('a'), lease=10.)
    standing.place(leased, 0, 0)
    standing.place(asked('b'), 0, 0)
    now[0] = 9.
    assert standing.renew(replace(leased, lease=20.))
    assert not standing.renew(replace(leased, text='other?'))
    assert not standing.renew(asked('b')), 'without a lease, asking again begins anew'
    now[0] = 28.
    assert [entry.remaining for entry in standing.listed()] == [1., pytest.approx(math.nan, nan_ok=True)]
    assert standing.next(1, 0)[0].id == 'a'
    now[0] = 29.
    assert not standing.renew(replace(leased, lease=20.))
    assert (len(standing), standing.expired) == (1, 1)
    standing.place(leased, 0, 0)
    now[0] = 40.
    standing.place(asked('c'), 0, 0)
    assert len(standing) == 2, 'what has expired leaves room'


@pytest.mark.parametrize(('said', 'text'), [
    ('Tell me when a pedestrian is ahead.', 'Is a pedestrian ahead?'),
    ('tell me if there are more cars than trucks', 'Are there more cars than trucks?'),
    ("Please, warn me as soon as there's a bus behind us!", 'Is there a bus behind us?'),
    ('let me know once you hear a siren', 'Do you hear a siren?'),
    ('Alert me whenever we can see a cone', 'Can we see a cone?'),
    ('notify me when a truck appears to the left', 'Is there a truck to the left?')])
def test_tell_me_when_is_a_standing_question_with_a_condition(said, text):
    question = Question(said, ('no', 'yes'), 'a').awaited()
    assert (question.text, question.standing, question.condition.answers) == (text, True, ('yes',))
    question.checked()


def test_what_is_no_wish_to_be_told_stays_as_it_is_and_a_wish_that_is_not_understood_is_refused():
    for text in ('Is there a bus?', 'Tell me what you see.', 'When is there a bus?', 'tell me when'):
        assert Question(text).awaited() == Question(text)
    with pytest.raises(QuestionError, match='say it with "is" or "are"'):
        Question('tell me when it rains').awaited()
    with pytest.raises(QuestionError, match='no choice'):
        Question('tell me when it is dark', ('dark', 'light')).awaited()
    wanted = Question('tell me when it is dark', ('dark', 'light'), condition=Condition(('dark',), hold=2.))
    assert wanted.awaited().condition == wanted.condition
