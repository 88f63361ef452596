"""Events begin and end once each, whatever the answers are, and none is left open."""
from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.methods.questions import Reply
from mpnp_ros.serving.answers import Answer, Status, UsedModality
from mpnp_ros.serving.events import WITHDRAWN, EventKind, EventWatch, probability_of
from mpnp_ros.serving.questions import Condition, Question
from mpnp_ros.tokens import SECOND

BEGINS, ENDS, LOST = EventKind
USED = (UsedModality('camera', 0, 0.),)


def asked(hold: float = 0., **more: object) -> Question:
    return Question('Is there a bus?', ('no', 'yes'), 'bus', True,
                    condition=Condition(('yes',), begin=0.7, end=0.4, hold=hold), **more)


def answer(yes: float, second: float, question: Question, status: Status = Status.OK) -> Answer:
    return Answer(question, status, round(second * SECOND), text='yes' if yes > 0.5 else 'no', confidence=yes,
                  probabilities=(1 - yes, yes), used=USED)


def told(answers, hold: float = 0.) -> list[tuple[EventKind, float, float]]:
    """Kind, stamp and since, in seconds, of the events of answers (probability of yes, second)."""
    watch, question = EventWatch(), asked(hold)
    watch.place(question)
    events = [watch.see(answer(yes, second, question)) for yes, second in answers]
    return [(event.kind, event.stamp_ns / SECOND, event.since_ns / SECOND) for event in events if event]


def test_an_event_begins_at_one_limit_and_ends_below_a_lower_one():
    assert told([(.5, 0), (.69, 1), (.7, 2), (.9, 3), (.41, 4), (.4, 5), (.39, 6), (.6, 7)]) == [
        (BEGINS, 2, 2), (ENDS, 6, 6)]


def test_what_does_not_last_is_not_told():
    assert told(
        [(0.9, 0), (0.1, 0.5), (0.9, 1), (0.9, 1.9), (0.9, 2), (0.1, 3), (0.9, 3.5), (0.1, 4), (0.1, 5)],
        hold=1,
    ) == [(BEGINS, 2, 1), (ENDS, 5, 4)]


def test_a_bag_that_begins_anew_starts_the_time_again():
    assert told([(.9, 100), (.9, 1), (.9, 1.5), (.9, 2)], hold=1) == [(BEGINS, 2, 1)]


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([Status.OK, Status.NO_SENSOR, Status.UNKNOWN,
                                                            Status.FAILED])), max_size=60), st.floats(0, 3))
def test_begins_and_other_events_alternate_and_the_end_is_told(answers, hold):
    watch, question = EventWatch(), asked(hold)
    watch.place(question)
    events = [
        watch.see(answer(yes, second, question, status)) for second, (yes, status) in enumerate(answers)
    ]
    kinds = [event.kind for event in [*events, watch.withdraw('bus')] if event]
    assert all(kind is BEGINS for kind in kinds[::2])
    assert all(kind in (ENDS, LOST) for kind in kinds[1::2])
    assert len(kinds) % 2 == 0


def test_an_answer_that_does_not_tell_changes_nothing_and_one_without_a_sensor_ends_what_is_known():
    watch, question = EventWatch(), asked(hold=1)
    watch.place(question)
    watch.see(answer(.9, 0, question))
    assert watch.see(answer(0, 1, question, Status.UNKNOWN)) is None
    assert watch.see(answer(.9, 2, question)) is None, 'the time began again'
    assert watch.see(answer(.9, 3, question)).kind is BEGINS
    assert watch.see(answer(0, 4, question, Status.FAILED)) is None
    blind = answer(0, 5, question, Status.NO_SENSOR)
    lost = watch.see(blind)
    assert (lost.kind, lost.since_ns) == (LOST, 2 * SECOND)
    assert watch.see(blind) is None


def test_events_of_questions_that_end_are_lost():
    watch, question = EventWatch(), asked()
    watch.place(question)
    assert watch.withdraw('bus') is None, 'nothing had begun'
    for end in (lambda: watch.retain(['other']), lambda: [watch.place(asked(hold=2))],
                lambda: watch.interrupt(WITHDRAWN)):
        watch.place(question)
        assert watch.retain(['bus']) == []
        assert watch.see(answer(.9, 1, question)).kind is BEGINS
        lost, = end()
        assert (lost.kind, lost.reason) == (LOST, WITHDRAWN)
    assert watch.see(answer(.9, 2, question)).kind is BEGINS, 'after an interruption it goes on'
    assert watch.see(answer(.1, 3, asked(hold=9))) is None, 'the answer to another question of this id'
    assert watch.see(answer(.1, 4, asked(lease=5))).kind is ENDS, 'a renewed lease makes no other question'


def test_the_probability_of_generated_answers_is_that_of_their_text():
    generated = Answer(Question('what?'), Status.OK, 0, text='A bus.', confidence=.6)
    assert probability_of(['a bus'], generated) == .6
    assert probability_of(['a car'], generated) == 0
    both = Answer(Question('what?', ('a', 'b', 'c')), Status.OK, 0, probabilities=(.2, .3, .5))
    assert probability_of(['a', 'c'], both) == pytest.approx(.7)


@pytest.fixture
def yes(make_bench, monkeypatch):
    """A server with a camera whose method says yes with the value of the tokens as probability."""
    events: list = []
    bench = make_bench(tell=events.append, without_sensors=lambda: False)
    bench.events = events
    bench.plug('camera')

    def reply(prepared, tokens, influence):
        value = float(tokens['camera'].values[0, 0])
        return Reply(
            'yes' if value > 0.5 else 'no', max(value, 1 - value), (1 - value, value), ('camera',), 0.0
        )

    monkeypatch.setattr(bench.method, 'answer', reply)

    def see(value: float) -> None:
        bench.clock.advance(.5)
        bench.offer('camera', value)
        bench.settle()

    bench.settle = lambda: bench.server.ask(Question('settle', ('no', 'yes'))).result(10)
    bench.see = see
    return bench


def kinds(bench) -> list[EventKind]:
    return [event.kind for event in bench.events]


def test_a_server_tells_events_of_standing_questions(yes):
    yes.see(0.)
    yes.server.ask(asked()).result(10)
    for value in (np.float32(.9), .8, .5, .1, .9):
        yes.see(value)
    assert kinds(yes) == [BEGINS, ENDS, BEGINS]
    assert [event.used for event in yes.events] == [('camera',)] * 3
    yes.server.pause('deactivated')
    assert kinds(yes)[3:] == [LOST]
    yes.server.resume()
    yes.see(.9)
    yes.server.ask(Question('', id='bus', standing=True)).result(10)
    assert kinds(yes)[4:] == [BEGINS, LOST]


def test_an_event_is_lost_with_the_sensor_and_with_the_lease(yes, make_bench):
    yes.see(.9)
    yes.server.ask(asked()).result(10)
    yes.clock.advance(5)
    yes.server.look()
    yes.settle()
    assert kinds(yes) == [BEGINS, LOST]
    assert 'no tokens for 5.0 s' in yes.events[-1].reason
    now, events = [0.], []
    bench = make_bench(steady=lambda: now[0], tell=events.append)
    bench.plug('camera')
    bench.offer('camera')
    bench.server.ask(Question('q', ('no', 'yes'), 'a', True, lease=2.,
                              condition=Condition(('yes',), begin=.6))).result(10)
    bench.server.ask(Question('settle')).result(10)
    now[0] = 3.
    bench.server.look()
    assert [event.kind for event in events] == [BEGINS, LOST]
    assert events[1].reason == WITHDRAWN


def test_answers_that_say_the_same_are_left_out_where_only_changes_are_wanted(yes):
    yes.see(.9)
    yes.server.ask(Question('q', ('no', 'yes'), 'c', True, on_change=True)).result(10)
    for value in (.8, .9, .1, .2, .9):
        yes.see(value)
    texts = [answer.text for answer in yes.delivered if answer.question.id == 'c']
    assert texts == ['yes', 'no', 'yes']


def test_an_event_that_cannot_be_told_does_not_stop_answers(yes):
    def broken(event: object) -> None:
        raise RuntimeError('no subscriber')

    yes.server._tell = broken
    yes.see(.9)
    yes.server.ask(asked()).result(10)
    yes.see(.8)
    assert yes.server.ask(Question('still?', ('no', 'yes'))).result(10).status is Status.OK


def test_events_are_told_in_the_order_in_which_they_happen(yes, monkeypatch):
    yes.see(.9)
    slow, reached = threading.Event(), threading.Event()

    def deliver(answer: Answer) -> None:
        reached.set()
        assert slow.wait(10)

    monkeypatch.setattr(yes.server, '_deliver', deliver)
    asking = yes.server.ask(asked())
    assert reached.wait(10)
    yes.server.pause('deactivated')
    slow.set()
    asking.result(10)
    yes.server.resume()
    assert kinds(yes) == [BEGINS, LOST]
