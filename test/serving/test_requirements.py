"""Requirements of a question: answered so, or refused in words that say what is missing and by how much."""
from __future__ import annotations

import math

import numpy as np
import pytest

from mpnp_ros.methods.questions import Counted
from mpnp_ros.serving.answers import Status
from mpnp_ros.serving.questions import Question
from mpnp_ros.serving.requirements import not_met, too_old, unmet
from mpnp_ros.tokens import SECTORS

CLOSED = ('no', 'yes')
WAIT = 10


def counted(modality: str, covered: float) -> Counted:
    return Counted(modality, np.ones(SECTORS, bool), math.inf, 'car', 1., .5, covered)


def ask(bench, **required):
    return bench.server.ask(Question('q', CLOSED, **required)).result(WAIT)


def test_what_is_too_old_is_left_out_and_named():
    young = Question('q', max_age=.5)
    assert too_old(young, {'camera': .5, 'lidar': .75, 'radar': math.nan}) == {
        'lidar': '0.75 s old, 0.25 s over max_age 0.5 s',
        'radar': 'of unknown age, and max_age is 0.5 s'}
    assert too_old(Question('q'), {'camera': 99., 'radar': math.nan}) == {}


def test_what_is_required_must_be_used():
    question = Question('q', require=('lidar', 'radar', 'nose'))
    assert unmet(question, ('lidar', 'radar', 'nose'), {}, {}) == ''
    assert unmet(question, ('lidar',), {}, {'radar': 'no publisher; start its encoder'}) == \
        ('refused: it must rest on radar (no publisher; start its encoder); '
         'nose (this node does not listen to it)')


def test_a_required_sensor_must_see_what_is_asked():
    question = Question('q', require=('lidar',))
    seen = [counted('', 1.), counted('camera', 1.), counted('lidar', 0.)]
    assert 'lidar (it does not see or cannot tell what is asked)' in not_met(question, .9, seen)
    assert not_met(question, .9, [counted('', 1.), counted('lidar', .4)]) == ''
    assert not_met(Question('q', require=('lidar',)), .9, [counted('lidar', .4)]) == ''


def test_an_answer_that_is_not_sure_enough_is_refused_by_how_much():
    assert not_met(Question('q', refuse_below=.75), .5, []) == \
        'refused: the confidence 0.50 is 0.25 below refuse_below 0.75'
    assert not_met(Question('q', refuse_below=.75), .75, []) == ''


@pytest.mark.parametrize(('required', 'words'), [
    ({'max_age': -1.}, 'max_age of a question is -1.0 s'), ({'max_age': math.nan}, 'max_age'),
    ({'refuse_below': 1.5}, 'refuse_below of a question is 1.5; it must be 0 to 1'),
    ({'refuse_below': math.nan}, 'refuse_below'), ({'require': ('',)}, 'the require of a question is empty'),
    ({'require': tuple(map(str, range(40)))}, 'requires 40 modalities; at most 32')])
def test_wrong_requirements_are_rejected_in_words(bench, required, words):
    answer = ask(bench, **required)
    assert answer.status is Status.REJECTED and words in answer.error


def test_the_server_answers_so_or_refuses(bench):
    bench.plug('camera')
    bench.plug('lidar')
    bench.offer('camera')
    bench.clock.advance(.6)
    bench.offer('lidar')
    assert [entry.modality for entry in ask(bench).used] == ['camera', 'lidar']
    fresh = ask(bench, max_age=.5)
    assert fresh.status is Status.OK and [entry.modality for entry in fresh.used] == ['lidar']
    refused = ask(bench, max_age=.5, require=('camera',))
    assert (refused.status, refused.text, refused.used) == (Status.REFUSED, '', ())
    assert refused.error == 'refused: it must rest on camera (0.60 s old, 0.10 s over max_age 0.5 s)'
    bench.clock.advance(.3)
    assert ask(bench, max_age=.2).error.startswith('refused: no data is young enough: camera (0.90 s old, ')
    unsure = ask(bench, refuse_below=.9)
    assert unsure.status is Status.REFUSED and (unsure.text, unsure.probabilities) == ('', ())
    assert unsure.confidence == pytest.approx(2 / 3) and '0.23 below refuse_below 0.9' in unsure.error
    assert ask(bench, refuse_below=.6, require=('camera', 'lidar')).status is Status.OK
    bench.clock.advance(2.)
    gone = ask(bench, require=('lidar',))
    assert gone.status is Status.REFUSED and 'lidar (no tokens for 2.3 s' in gone.error
    assert ask(bench).status is Status.NO_SENSOR


def test_a_standing_question_keeps_its_requirements(bench):
    bench.plug('camera')
    bench.offer('camera')
    answer = bench.server.ask(Question('q', CLOSED, 's', True, refuse_below=.9)).result(WAIT)
    assert answer.status is Status.REFUSED
    assert bench.server.standing()[0].question.refuse_below == .9
