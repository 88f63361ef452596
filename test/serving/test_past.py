"""Answers about the past follow from the answers of moments, and no more of them are asked than needed."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import CancelledError, QuestionError
from mpnp_ros.methods.questions import Grounding, Reply
from mpnp_ros.questions.past import PastQuestion, Wanted, past_question
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.serving.memory import RememberedMoment, TokenMemory
from mpnp_ros.serving.past import BATCH, NEAREST, PastInquiry, Recollection, in_words
from mpnp_ros.serving.questions import Question
from mpnp_ros.tokens import SECOND, ModalityTokens

WHETHER = PastQuestion(Wanted.LAST, 'Is there a bus?')


class Method:
    """Answers "is there" with yes where the tokens hold a positive number, "how many" with that number, and
    "within" by the number as a distance in metres.
    """

    modalities = ('camera', 'imu')

    def __init__(self, answerable: float = 1.) -> None:
        self.asked = 0
        self.answerable = answerable

    def links(self):
        config = SimpleNamespace(encoder='e1', token_width=4)
        return {name: SimpleNamespace(config=config) for name in self.modalities}

    def answering(self, question, tokens):
        return tuple(name for name in ('camera',) if name in tokens) or tuple(tokens)

    def prepare(self, text, choices):
        if 'refused' in text:
            raise QuestionError('refused')
        return text, tuple(choices)

    def answer(self, question, tokens):
        self.asked += 1
        value = float(tokens['camera'].values[0, 0])
        text, choices = question
        if 'within' in text:
            said = 'yes' if 0 < value <= float(text.split('within ')[1].split()[0]) else 'no'
        elif 'How many' in text:
            said = str(int(value)) if 'cars' in text else '0'
        else:
            said = 'yes' if value > 0 else 'no'
        probabilities = tuple(float(choice == said) for choice in choices)
        return Reply(said, .9, probabilities, ('camera',), 0., (), self.answerable)

    def answer_batch(self, questions, tokens):
        """As Method: batches do not tell what is counted, nor what can be answered, and need choices."""
        assert all(choices for _, choices in questions)
        return [replace(self.answer(question, frame), counted=(), answerable=1.)
                for question, frame in zip(questions, tokens, strict=True)]

    def answer_each(self, questions, tokens):
        grounding = (Grounding('camera', 1, 'bus', .9, .6), Grounding('camera', 0, 'bus', .1, .4))
        return [replace(reply, grounding=grounding) for reply in self.answer_batch(questions, tokens)]


@pytest.fixture(scope='module')
def remembered(tokens):
    """Makes moments of one second, whose camera holds each of some values."""
    def make(*values: float) -> list[RememberedMoment]:
        seen = [tokens('camera', value, stamp_ns=second * SECOND) for second, value in enumerate(values)]
        return [RememberedMoment(frame.stamp_ns, {'camera': frame}) for frame in seen]

    return make


def answered(method: Method, asked: PastQuestion, moments) -> Recollection:
    inquiry = PastInquiry(asked, ('0', '1', '2', '3', 'yes', 'no'), moments)
    while not inquiry.go_on(method):
        pass
    return inquiry.future.result()


@pytest.mark.parametrize(('question', 'values', 'text', 'spans'), [
    ('When was the last bus?', (0, 1, 1, 0, 0), '2 s ago', [(1, 2, 'yes')]),
    ('When was the last bus?', (0, 0, 1), 'now', [(2, 2, 'yes')]),
    ('When was the last bus?', (0, 0, 0), 'not in the last 2 s', []),
    ('Since when is there a bus?', (0, 1, 1, 1), 'for 2 s', [(1, 3, 'yes')]),
    ('Since when is there a bus?', (1, 1), 'for 1 s or longer', [(0, 1, 'yes')]),
    ('Since when is there a bus?', (1, 0), 'not now', []),
    ('Was there a bus?', (0, 1, 0, 1, 1, 0), 'yes', [(3, 4, 'yes'), (1, 1, 'yes')]),
    ('Was there a bus in the last 3 s?', (0, 1, 0, 0, 0, 0), 'no', []),
    ('Was there a bus 3 s ago?', (0, 1, 0, 0, 0), 'yes', [(1, 1, 'yes')]),
    ('How many cars are there?', (2, 2, 3), '3 now; 2 from 2 s ago to 1 s ago', [(2, 2, '3'), (0, 1, '2')]),
    ('How many cars are there?', (2, 2), '2', [(0, 1, '2')]),
    ('Is the bus coming closer?', (28, 24, 20, 16, 12), 'yes', None),
    ('Is the bus coming closer?', (12, 12, 12, 12), 'no', None),
    ('Is the bus coming closer?', (12, 16, 20, 24), 'no', None),
    ('What changed?', (1, 5, 3), '2 cars more', None),
    ('What changed?', (3, 3), 'nothing', None),
    ('What changed?', (2, 1), '1 car fewer', None)])
def test_what_is_made_of_the_answers(remembered, question, values, text, spans):
    answer = answered(Method(), past_question(question), remembered(*values))
    assert (answer.text, answer.unknown) == (text, '')
    if spans is not None:
        assert [
            (span.begin_ns // SECOND, span.end_ns // SECOND, span.answer) for span in answer.spans
        ] == spans
        assert all(span.probability == pytest.approx(.9) for span in answer.spans)


class ExactMethod(Method):
    """Counts what tokens hold, and names those that hold what is asked for."""

    def links(self):
        config = SimpleNamespace(encoder='e1', token_width=len(CHANNELS))
        return {'lidar': SimpleNamespace(config=config)}

    modalities = ('lidar',)

    def answering(self, question, tokens):
        return tuple(tokens)

    def answer_batch(self, questions, tokens):
        return [self._reply(*question, frame['lidar']) for question, frame in
                zip(questions, tokens, strict=True)]

    answer_each = answer_batch

    def answer(self, question, tokens):
        return self.answer_batch([question], [tokens])[0]

    def _reply(self, text, choices, frame):
        """Count the tokens of a bus or of cars, of those to the left if the text asks for these."""
        sort = 'bus' if 'bus' in text else 'car'
        held = frame.values[:, [category == sort for category, _ in CHANNELS]].sum(1)
        held = held * (frame.azimuth > .01) if 'left' in text else held
        said = str(int(held.sum())) if 'How many' in text else 'yes' if held.any() else 'no'
        grounding = tuple(Grounding('lidar', token, '', float(number), 1.) for token, number in
                          enumerate(held))
        return Reply(said, .9, tuple(float(choice == said) for choice in choices), ('lidar',), 0.,
                     grounding=grounding)


def beside_a_bus(*sides: str, distance: float = 20.) -> list[RememberedMoment]:
    """Moments of one second with a bus ahead and a car to its left or right; where empty, without a bus."""
    bus, car = (next(place for place, (name, _) in enumerate(CHANNELS) if name == category)
                for category in ('bus', 'car'))
    moments = []
    for second, side in enumerate(sides):
        values = np.zeros((2, len(CHANNELS)), np.float32)
        values[0, bus], values[1, car] = bool(side), 1.
        azimuth = np.array([0., {'left': .5, 'right': -.5}.get(side, 0.)], np.float32)
        frame = ModalityTokens('lidar', 'e1', values, azimuth, stamp_ns=second * SECOND,
                               distance=np.full(2, distance, np.float32))
        moments.append(RememberedMoment(frame.stamp_ns, {'lidar': frame}))
    return moments


@pytest.mark.parametrize(('question', 'sides', 'text'), [
    ('Did a car pass to the left of the bus?', ('left', '', 'right'), 'yes'),
    ('Did a car pass to the left of the bus in the last second?', ('left', '', 'right'), 'no'),
    ('When was the last car to the left of the bus?', ('left', 'left', '', 'right'), '2 s ago'),
    ('Since when is there a car to the left of the bus?', ('', 'left', 'left'), 'for 1 s or longer'),
    ('Since when is there a car to the left of the bus?', ('right', 'left', '', 'left'), 'for 2 s'),
    ('When was the last car to the left of the bus?', ('left', '', ''), '2 s ago'),
    ('How many cars are to the left of the bus?', ('left', '', 'right'),
     '0 now; unknown 1 s ago; 1 2 s ago')])
def test_one_thing_beside_another_is_asked_of_each_moment_in_steps(question, sides, text):
    answer = answered(ExactMethod(), past_question(question), beside_a_bus(*sides))
    assert (answer.text, answer.unknown) == (text, '')


def test_a_moment_in_which_nobody_looks_leaves_the_others_their_steps():
    """A method names no tokens where no sensor looks."""
    class Blinded(ExactMethod):
        def _reply(self, text, choices, frame):
            reply = super()._reply(text, choices, frame)
            return reply if frame.values.any() else replace(reply, grounding=())

    moments = beside_a_bus('left', 'left', 'left', 'right')
    dark = moments[1].tokens['lidar']
    moments[1] = RememberedMoment(dark.stamp_ns, {'lidar': replace(dark, values=np.zeros_like(dark.values))})
    answer = answered(Blinded(), past_question('How many cars are to the left of the bus?'), moments)
    assert answer.text == '0 now; 1 1 s ago; unknown 2 s ago; 1 3 s ago'


def test_why_one_thing_beside_another_cannot_be_told_is_said():
    asked = past_question('Did a car pass to the left of the bus?')
    assert 'no bus is seen' in answered(ExactMethod(), asked, beside_a_bus('', '')).unknown
    flat = beside_a_bus('left', 'left', distance=math.nan)
    assert 'do not tell how far' in answered(ExactMethod(), asked, flat).unknown


@given(st.lists(st.booleans(), min_size=1, max_size=80))
def test_last_since_and_ever_agree_with_a_look_at_all_moments(remembered, there):
    moments, newest = remembered(*map(float, there)), len(there) - 1
    last = answered(Method(), WHETHER, moments)
    ever = answered(Method(), PastQuestion(Wanted.EVER, 'Is there a bus?'), moments)
    since = answered(Method(), PastQuestion(Wanted.SINCE, 'Is there a bus?'), moments)
    assert (ever.text == 'yes') == any(there)
    if any(there):
        assert last.spans[0].end_ns // SECOND == max(second for second, yes in enumerate(there) if yes)
    else:
        assert 'not in the last' in last.text
    run = next((newest - second for second in range(newest, -1, -1) if not there[second]), newest + 1)
    assert (since.text == 'not now') == (run == 0)
    if run:
        assert since.spans[0].begin_ns // SECOND == newest - run + 1


def test_the_past_is_looked_at_no_further_than_needed(remembered):
    method = Method()
    answer = answered(method, WHETHER, remembered(*[0.] * 500, 1., 0., 0.))
    assert answer.text == '2 s ago'
    assert method.asked == answer.moments <= 1 + BATCH
    assert (
        answered(method, past_question('Was there a bus in the last 5 s?'), remembered(*[0.0] * 500)).moments
        == 6
    )


def test_what_cannot_be_told_says_why(remembered):
    asked = past_question('Was there a bus?')
    assert answered(Method(answerable=0.), asked, remembered(1., 1.)).unknown
    closer = past_question('Is the bus coming closer?')
    assert answered(Method(), closer, remembered(5., 0.)).unknown == 'no bus is seen'
    assert answered(Method(), closer, remembered(0., 5.)).unknown == 'the bus has been seen only now'
    assert answered(Method(answerable=0.), closer, remembered(5.)).unknown
    with pytest.raises(QuestionError, match='nothing is remembered that links can read'):
        answered(Method(), asked, [])
    with pytest.raises(QuestionError, match='nothing is remembered of 90 s ago; the memory begins 1 s ago'):
        answered(Method(), past_question('Was there a bus 90 s ago?'), remembered(1., 1.))
    with pytest.raises(QuestionError, match='refused'):
        answered(Method(), PastQuestion(Wanted.EVER, 'refused'), remembered(1.))


@pytest.mark.parametrize(('distances', 'text', 'span'), [
    ((20., 16., 12., 8.), 'yes', '20 m, then 8 m'), ((9., 9., math.nan, 9.), 'no', '9 m, then 9 m'),
    ((9., 9., 9., 40.), '', '')])
def test_the_tokens_that_answers_rest_on_tell_how_far_a_thing_is(remembered, distances, text, span):
    moments = remembered(*[1.] * len(distances))
    for moment, distance in zip(moments, distances, strict=True):
        far = np.array([3., distance] + [40.] * (moment.tokens['camera'].count - 2), np.float32)
        moment.tokens['camera'] = replace(moment.tokens['camera'], distance=far)
    answer = answered(Method(), past_question('Is the bus coming closer?'), moments)
    assert (answer.text, [entry.answer for entry in answer.spans]) == (text, [span] if span else [])
    assert answer.unknown == ('' if text else 'no bus is seen')


def test_a_thing_that_only_a_sensor_without_distances_sees_is_looked_for(remembered, tokens):
    moments = remembered(28., 20., 12.)
    far = tokens('lidar', distance=np.full(3, 25., np.float32))
    both = [RememberedMoment(moment.stamp_ns, {**moment.tokens, 'lidar': far}) for moment in moments]

    class Both(Method):
        modalities = ('camera', 'lidar')

        def answering(self, question, tokens):
            return tuple(sorted(tokens))

    answer = answered(Both(), past_question('Is the bus coming closer?'), both)
    assert (answer.text, answer.unknown) == ('yes', '')


def test_moments_without_tokens_that_answer_are_left_out(remembered, tokens):
    seen = remembered(1., 0.)
    for deaf in ({'lidar': tokens('lidar')}, {'imu': tokens('imu')},
                 {'camera': tokens('camera', encoder='old')}, {'camera': tokens('camera', width=5)}):
        moments = [RememberedMoment(0, deaf), *seen, RememberedMoment(9 * SECOND, deaf)]
        assert answered(Method(), WHETHER, moments).text == '1 s ago'


def test_between_two_batches_it_can_be_cancelled(remembered):
    counts: list[int] = []
    inquiry = PastInquiry(
        PastQuestion(Wanted.EVER, 'Is there a bus?'), (), remembered(*[0.0] * 100), counts.append
    )
    method = Method()
    assert not inquiry.go_on(method) and not inquiry.go_on(method)
    assert counts == [1, 1 + BATCH]
    assert inquiry.cancel()
    assert inquiry.go_on(method)
    with pytest.raises(CancelledError):
        inquiry.future.result()
    assert method.asked == 1 + BATCH
    done = PastInquiry(WHETHER, (), remembered(1.))
    while not done.go_on(method):
        pass
    assert not done.cancel() and not done.reason, 'too late'


def test_nearest_distances_are_told_apart():
    assert list(NEAREST) == sorted(NEAREST)
    assert [in_words(seconds) for seconds in (0, 59.6, 130, 7300)] == ['0 s', '60 s', '2 min', '2 h 2 min']


@pytest.fixture
def past(make_bench, monkeypatch):
    """A server that remembers, whose method answers as above."""
    bench = make_bench(memory=TokenMemory(math.inf, 10 ** 9, 0.5))
    bench.plug('camera')
    method = Method()
    for name in ('prepare', 'answering', 'answer', 'answer_batch'):
        monkeypatch.setattr(bench.method, name, getattr(method, name), raising=False)
    return bench


def test_a_server_answers_from_what_its_board_took(past):
    for value in (0., 1., 0., 0.):
        past.offer('camera', value)
        past.clock.advance(1)
    past.offer('camera', 1., encoder='other')
    counts: list[int] = []
    assert (
        past.server.recall('When was the last bus?', on_progress=counts.append).future.result(10).text
        == '2 s ago'
    )
    assert counts[0] == 1
    assert past.server.recall('Was there a bus?', window=1.).future.result(10).text == 'no'
    with pytest.raises(QuestionError, match='understood'):
        past.server.recall('who won')
    for window in (-1., 0., math.nan):
        with pytest.raises(QuestionError, match='window'):
            past.server.recall('Was there a bus?', window=window)


def test_answers_about_the_present_go_first_and_all_are_given(past, monkeypatch):
    for _ in range(200):
        past.offer('camera', 0.)
        past.clock.advance(1)
    order: list[str] = []
    gate, begun = threading.Event(), threading.Event()
    slow = past.method.answer_batch

    def answer_batch(questions, tokens):
        begun.set()
        assert gate.wait(10)
        order.append('past')
        return slow(questions, tokens)

    monkeypatch.setattr(past.method, 'answer_batch', answer_batch)
    inquiries = [past.server.recall('Was there a bus?') for _ in range(2)]
    assert begun.wait(10)
    present = [past.server.ask(Question('now?', ('no', 'yes'))) for _ in range(5)]
    for asked in present:
        asked.add_done_callback(lambda done: order.append('now'))
    gate.set()
    assert [inquiry.future.result(10).text for inquiry in inquiries] == ['no', 'no']
    assert order.index('now') == 1 and order[1:6].count('now') >= 4
    past.server.pause('deactivated')
    with pytest.raises(QuestionError, match='deactivated'):
        past.server.recall('Was there a bus?')


def test_questions_about_the_past_end_with_the_server(past):
    past.offer('camera', 0.)
    past.server.resume()
    gate = threading.Event()
    past.method.gate.clear()
    held = past.server.recall('Was there a bus?')
    gate.set()
    past.method.gate.set()
    past.server.close()
    assert held.future.done()
