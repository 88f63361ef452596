"""Questions find the tokens of their moment, whatever comes first; tokens are found by time of sensing."""
from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.adaptation.moments import ASKED, FEEDBACK, LABELLED, BufferedQuestion, Moment
from mpnp_ros.adaptation.replay_buffer import Limits, ReplayBuffer
from mpnp_ros.adaptation.supervision import (
    NO_ROOM,
    NO_TOKENS,
    NOT_A_CHOICE,
    NOT_WRITTEN,
    Supervision,
    SupervisionSettings,
    TokenHistory,
    apart,
)
from mpnp_ros.errors import QuestionError
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.tokens import ModalityTokens

MS, SECOND = 10 ** 6, 10 ** 9
HALF = 500 * MS
CARS = 'Are there any cars?'
SETTINGS = SupervisionSettings(period=math.inf, asked=False)


class Clock:
    """Stands still until it is moved."""

    now = 0.

    def __call__(self) -> float:
        return self.now


def tokens(modality: str, stamp_ns: int, *sources: int) -> ModalityTokens:
    return ModalityTokens(modality, 'e', np.full((1, 1), stamp_ns % 1000, np.float32),
                          np.zeros(1, np.float32), source_stamps_ns=sources, stamp_ns=stamp_ns)


def labelled(text: str = CARS, answer: str = 'yes') -> BufferedQuestion:
    return BufferedQuestion.read(text, answer, ('yes', 'no'), LABELLED)


Make = Callable[..., tuple[Supervision, Clock]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Give a function: settings -> supervision of an empty buffer, and its clock."""
    def made(**changes: object) -> tuple[Supervision, Clock]:
        clock = Clock()
        return Supervision(ReplayBuffer(tmp_path / 'buffer'), replace(SETTINGS, **changes), clock), clock
    return made


def moments(supervision: Supervision) -> list[Moment]:
    return list(ReplayBuffer.read(supervision.buffer.folder).moments)


def stamps(moment: Moment) -> dict[str, int]:
    return {name: one.stamp_ns for name, one in moment.tokens.items()}


@settings(deadline=None, max_examples=30)
@given(st.permutations([*(('tokens', name, at) for name in ('camera', 'lidar') for at in range(4)),
                        *(('questions', '', at) for at in range(4))]))
def test_every_question_gets_all_tokens_of_its_moment_in_any_order(tmp_path_factory, events):
    supervision = Supervision(ReplayBuffer(tmp_path_factory.mktemp('buffer')), SETTINGS, Clock())
    for kind, name, at in events:
        if kind == 'questions':
            supervision.take_questions(at * HALF, [labelled(answer='yes' if at % 2 else 'no')])
        elif name == 'camera':
            supervision.take_tokens(tokens(name, at * HALF - 20 * MS, at * HALF - 20 * MS, at * HALF + MS))
        else:
            supervision.take_tokens(tokens(name, at * HALF))
    assert supervision.counts.kept == {LABELLED: 4} and not supervision.counts.waiting
    found = moments(supervision)
    assert [one.stamp_ns for one in found] == [at * HALF for at in range(4)]
    for at, moment in enumerate(found):
        assert stamps(moment) == {'camera': at * HALF - 20 * MS, 'lidar': at * HALF}
        assert [one.answer for one in moment.questions] == ['yes' if at % 2 else 'no']


def test_what_never_gets_tokens_is_dropped_and_counted(make):
    supervision, clock = make(waiting=3)
    supervision.take_questions(0, [labelled(), labelled('Is it wet?'), labelled('How?', 'maybe')])
    assert supervision.counts.waiting == 1
    clock.now = 2.
    supervision.settle()
    assert supervision.counts.dropped == {NO_TOKENS: 2, NOT_A_CHOICE: 1} and supervision.counts.waiting == 0
    for place in range(5):
        supervision.take_questions(place, [labelled()])
    assert supervision.counts.dropped[NO_ROOM] == 2 and supervision.counts.waiting == 3
    assert not moments(supervision)


def test_a_moment_does_not_wait_for_ever_for_a_sensor_that_is_gone(make):
    supervision, clock = make()
    supervision.take_tokens(tokens('camera', 0))
    supervision.take_tokens(tokens('lidar', HALF))
    supervision.take_questions(HALF, [labelled()])
    assert not moments(supervision)
    clock.now = 2.
    supervision.settle()
    assert [stamps(one) for one in moments(supervision)] == [{'lidar': HALF}]
    supervision.take_tokens(tokens('camera', HALF + 30 * MS))
    assert [stamps(one) for one in moments(supervision)] == [{'lidar': HALF, 'camera': HALF + 30 * MS}]


def test_moments_that_nobody_asks_about_are_kept_now_and_then_where_two_modalities_see_them(make):
    supervision, clock = make(period=.5)
    for place in range(20):
        supervision.take_tokens(tokens('lidar', place * 100 * MS))
        if place >= 8:
            supervision.take_tokens(tokens('camera', place * 100 * MS))
    found = moments(supervision)
    assert [one.stamp_ns for one in found] == [800 * MS, 1300 * MS, 1800 * MS]
    assert all(len(one.tokens) == 2 and not one.questions for one in found)
    supervision.take_questions(1300 * MS, [labelled()])
    assert [len(one.questions) for one in moments(supervision)] == [0, 1, 0]


def test_a_question_about_a_kept_moment_joins_it_though_stamps_differ(make):
    supervision, _ = make(period=.5)
    for one in (tokens('lidar', HALF), tokens('camera', HALF - 30 * MS, HALF - 30 * MS, HALF + 9 * MS)):
        supervision.take_tokens(one)
    supervision.take_questions(HALF, [labelled()])
    [moment] = moments(supervision)
    assert stamps(moment) == {'lidar': HALF, 'camera': HALF - 30 * MS} and len(moment.questions) == 1


def test_neighbouring_moments_are_not_mixed_up(make):
    supervision, _ = make()
    for place in range(4):
        supervision.take_tokens(tokens('lidar', place * 50 * MS))
        supervision.take_questions(place * 50 * MS, [labelled(answer='yes' if place % 2 else 'no')])
    found = [(one.stamp_ns, stamps(one)['lidar'], one.questions[0].answer) for one in moments(supervision)]
    assert found == [(at, at, answer) for at, answer in zip(range(0, 200 * MS, 50 * MS),
                                                            ['no', 'yes', 'no', 'yes'], strict=True)]


def test_a_correction_is_about_what_was_answered(make):
    supervision, _ = make(asked=True)
    supervision.take_tokens(tokens('camera', 0))
    supervision.take_answer('q1', CARS, ['yes', 'no'], 0, {'camera': 0})
    asked = BufferedQuestion(CARS, '', ('yes', 'no'), 'exist', 0, ASKED)
    assert moments(supervision)[0].questions == (asked,)
    for place in range(1, 100):
        supervision.take_tokens(tokens('camera', place * HALF))
    supervision.take_feedback(' no ', 'q1')
    assert moments(supervision)[0].questions == (replace(asked, answer='no', source=FEEDBACK),)
    assert supervision.counts.kept == {ASKED: 1, FEEDBACK: 1}


def test_a_correction_may_name_question_and_stamp(make):
    supervision, _ = make()
    supervision.take_tokens(tokens('camera', HALF))
    supervision.take_answer('q1', 'Is it wet?', ['yes', 'no'], HALF, {'camera': HALF})
    supervision.take_feedback('no', question='Is it wet?', stamp_ns=HALF)
    supervision.take_feedback('3', question='How many cars are there?', stamp_ns=HALF)
    supervision.take_feedback('a red one', question='Which bike?', stamp_ns=HALF)
    [moment] = moments(supervision)
    assert {(one.question, one.answer, one.choices, one.type) for one in moment.questions} == {
        ('Is it wet?', 'no', ('yes', 'no'), 'other'), ('How many cars are there?', '3', ANSWERS, 'count'),
        ('Which bike?', 'a red one', (), 'other')}


@pytest.mark.parametrize(('feedback', 'reason'), [
    ({'answer': 'no', 'name': 'q9'}, "no answer with the id 'q9' among the last"),
    ({'answer': 'maybe', 'name': 'q1'}, 'must be one of yes, no'),
    ({'answer': ' ', 'name': 'q1'}, 'must be one of yes, no'),
    ({'answer': 'no', 'name': 'q1', 'question': 'Is it wet?'}, 'send the id alone'),
    ({'answer': 'no'}, 'needs the id'),
    ({'answer': 'red', 'question': CARS, 'stamp_ns': 0}, 'must be one of'),
    ({'answer': 'no', 'question': CARS, 'stamp_ns': 99 * HALF}, 'is not remembered'),
    ({'answer': '', 'question': 'What colour?', 'stamp_ns': 0}, 'any words'),
])
def test_a_correction_that_cannot_be_is_refused_with_the_reason(make, feedback, reason):
    supervision, _ = make()
    supervision.take_tokens(tokens('camera', 0))
    supervision.take_answer('q1', CARS, ['yes', 'no'], 0, {'camera': 0})
    with pytest.raises(QuestionError, match=reason):
        supervision.take_feedback(**feedback)
    assert not moments(supervision)


def test_only_the_newest_answers_are_remembered(make):
    supervision, _ = make(answers=3)
    supervision.take_tokens(tokens('camera', 0))
    for place in range(5):
        supervision.take_answer(f'q{place}', CARS, ['yes', 'no'], 0, {'camera': 0})
    supervision.take_feedback('no', 'q2')
    with pytest.raises(QuestionError, match='among the last 3'):
        supervision.take_feedback('no', 'q1')


def test_a_buffer_that_cannot_be_written_stops_nothing(tmp_path):
    said = []
    supervision = Supervision(ReplayBuffer(tmp_path, Limits(bytes=10)), SETTINGS, Clock(), said.append)
    supervision.take_tokens(tokens('camera', 0))
    supervision.take_questions(0, [labelled()])
    assert supervision.counts.dropped == {NOT_WRITTEN: 1} and Counter(supervision.counts.kept).total() == 0
    assert len(said) == 1 and said[0].startswith('moment not stored:  a moment of ')


def history(*held: ModalityTokens) -> TokenHistory:
    result = TokenHistory(seconds=2.)
    for one in held:
        result.add(one)
    return result


def frame_stamps(frame: dict[str, ModalityTokens]) -> dict[str, int]:
    return {name: one.stamp_ns for name, one in frame.items()}


def test_sensors_of_one_moment_belong_together_though_they_stamp_apart():
    camera = tokens('camera', 960 * MS, 960 * MS, 1_010 * MS)
    lidar = [tokens('lidar', stamp * MS) for stamp in (950, 1_000, 1_050)]
    known = history(camera, *lidar)
    assert frame_stamps(known.at(1_000 * MS)) == {'camera': 960 * MS, 'lidar': 1_000 * MS}
    assert frame_stamps(known.at(1_065 * MS)) == {'camera': 960 * MS, 'lidar': 1_050 * MS}
    assert frame_stamps(known.at(1_075 * MS)) == {'lidar': 1_050 * MS}
    assert known.at(1_200 * MS) == {} and TokenHistory().at(0) == {}
    assert known.exactly('lidar', 950 * MS) is lidar[0] and known.exactly('lidar', 951 * MS) is None


@given(st.lists(st.tuples(st.sampled_from('ab'), st.integers(0, 5 * SECOND)), min_size=1, max_size=30),
       st.integers(0, 5 * SECOND))
def test_what_is_found_is_the_nearest_of_what_is_held(arrivals, stamp):
    known = TokenHistory(seconds=5.)
    every = [tokens(name, at) for name, at in arrivals]
    for one in every:
        known.add(one)
    found = known.at(stamp)
    for name in 'ab':
        nearest = min((apart(one, stamp) for one in every if one.modality == name), default=10 * SECOND)
        assert (name in found) == (nearest <= known.tolerance_ns)
        assert name not in found or apart(found[name], stamp) == nearest


def test_old_tokens_are_forgotten_and_all_when_a_replay_starts_again():
    known = history(*(tokens('lidar', place * SECOND // 2) for place in range(20)),
                    tokens('camera', 9 * SECOND))
    assert known.at(7 * SECOND) == {} and set(known.at(8 * SECOND)) == {'lidar'}
    known.add(tokens('lidar', 0))
    assert known.modalities == ('lidar',) and known.at(9 * SECOND) == {}
    known.add(tokens('camera', 5 * SECOND))
    assert known.modalities == ('camera',)


def test_whether_anything_nearer_may_come():
    known = history(tokens('lidar', SECOND), tokens('camera', 960 * MS, 960 * MS, 990 * MS))
    assert known.passed(980 * MS) and not known.passed(1_000 * MS)
    known.add(tokens('camera', 1_200 * MS))
    assert known.passed(1_000 * MS)


def test_moments_of_several_modalities():
    known = history(*(tokens('lidar', place * 100 * MS) for place in range(11)),
                    tokens('camera', 210 * MS), tokens('camera', 590 * MS), tokens('camera', 2_000 * MS))
    assert [frame_stamps(one) for one in known.moments(['camera', 'lidar'])] == [
        {'camera': 210 * MS, 'lidar': 200 * MS}, {'camera': 590 * MS, 'lidar': 600 * MS}]
    assert known.moments(['radar', 'lidar']) == [] and len(known.moments(['camera'])) == 3


def test_many_threads_may_add_and_ask():
    known, failures = TokenHistory(seconds=.01), []

    def work(name: str) -> None:
        try:
            for stamp in range(0, SECOND, MS):
                known.add(tokens(name, stamp))
                known.at(stamp)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ('a', 'b')]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
