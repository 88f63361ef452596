"""Painted own motion and sounds: probabilities are true, and the rule answers what is certain."""
from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.rule import state_answer
from mpnp_ros.questions.subjects import MOTION, SOUNDS, UNKNOWN, all_answers
from mpnp_ros.questions.vocabulary import THING
from mpnp_ros.questions.wording import Description
from mpnp_ros.training.painted_questions import painted_questions
from mpnp_ros.training.painted_states import FORMS, MotionPainter, PaintedState, SoundPainter

PAINTERS = pytest.mark.parametrize('painter', [MotionPainter(), SoundPainter()],
                                   ids=['motion', 'sounds'])


@PAINTERS
def test_the_same_number_is_the_same_frame(painter):
    one, other = painter.paint(5), type(painter)().paint(5)
    assert np.array_equal(one.tokens.values, other.tokens.values) and repr(one.there) == repr(other.there)
    assert not np.array_equal(painter.paint(6).tokens.values.sum(0), one.tokens.values.sum(0))


@PAINTERS
@pytest.mark.parametrize('doubt', ['hard', 'soft'])
def test_what_is_said_to_be_expected_is_there_on_average(painter, doubt):
    said, there = np.zeros(1), Counter()
    for index in range(600):
        painted = painter.paint(index, doubt, whole=True)
        said = said + painted.tokens.values.sum(0)
        there.update(channel for channel, _ in painted.there)
    true = np.array([there[channel] for channel in painted.subject.channels])
    assert np.abs(said - true).max() < (1e-3 if doubt == 'hard' else 50)


@PAINTERS
def test_the_rule_is_right_where_all_is_certain(painter):
    for index in range(60):
        painted = painter.paint(index, 'hard')
        for meaning, answer, words in painted.asked(random.Random(index), 100):
            assert not words and state_answer(meaning, painted.tokens, painted.subject) == answer
            assert answer in painted.subject.answers


def test_groups_of_own_motion_add_up_to_one():
    for index in range(30):
        painted = MotionPainter().paint(index)
        assert np.isnan(painted.tokens.azimuth).all()
        for group in ('speed', 'turn', 'pace'):
            places = [place for place, (category, _) in enumerate(MOTION.channels) if category == group]
            told = float(painted.tokens.known[places[0]])
            assert painted.tokens.values[:, places].sum() == pytest.approx(told)


def test_where_a_sound_is_follows_from_directions_only():
    where = Meaning('where', Description('siren'))
    for form in FORMS:
        frames = [SoundPainter().paint(index, 'hard', whole=True, form=form) for index in range(150)]
        heard = [frame for frame in frames if ('siren', None) in dict(frame.there)]
        answers = Counter(frame.answer(where) for frame in heard)
        if form == FORMS[0]:
            assert set(answers) == {UNKNOWN}
        else:
            assert len(answers) > 5 and answers[UNKNOWN] < len(heard) / 2
        assert {frame.answer(where) for frame in frames if frame not in heard} == {UNKNOWN}


def test_of_several_sounds_the_most_telling_is_named():
    nan, channels = float('nan'), dict.fromkeys(SOUNDS.channels, 0.)
    tokens = SoundPainter().paint(0, whole=True).tokens
    asked = Meaning('object', Description(THING))
    heard = PaintedState(SOUNDS, tokens, tuple((channel, nan) for channel in channels), 'hard')
    assert heard.answer(asked) == 'siren'
    rest = PaintedState(SOUNDS, tokens, ((('engine', None), nan), (('speech', None), nan)), 'hard')
    assert rest.answer(asked) == 'speech'
    assert PaintedState(SOUNDS, tokens, (), 'hard').answer(asked) == 'nothing'


def test_questions_have_the_choices_and_words_that_are_asked_for():
    data = painted_questions(map(MotionPainter().paint, range(80)), 0, 5, subject=MOTION,
                             choices=all_answers(), beyond=20, wordings=30)
    assert {example.choices for example in data.dataset.examples} == {all_answers()}
    assert {example.type for example in data.dataset.examples} <= {'exist', 'absent', 'status'}
    assert len(data.beyond) > 10 and set(data.beyond).isdisjoint(data.meanings)
