"""Exactly one answer to every question, whatever happens meanwhile."""
from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import LinksError
from mpnp_ros.methods.questions import Grounding, Reply
from mpnp_ros.serving.answers import Status
from mpnp_ros.serving.link_versions import LinkVersion
from mpnp_ros.serving.modality_state import PlugMode
from mpnp_ros.serving.questions import Question
from mpnp_ros.tokens import NO_SOURCE

WAIT = 10
FREE = Question('q')
CLOSED = Question('q', ('no', 'yes'))


def held(bench) -> None:
    """Let the method wait in the middle of the next answer."""
    while bench.method.begun.acquire(blocking=False):
        pass
    bench.method.gate.clear()


def begun(bench) -> None:
    assert bench.method.begun.acquire(timeout=WAIT)


@pytest.mark.parametrize('question', [FREE, CLOSED])
def test_an_answer_that_would_rest_on_nothing_says_so_and_why(make_bench, question):
    bench = make_bench(without_sensors=lambda: False)
    answer = bench.server.ask(question).result(WAIT)
    assert (answer.status, answer.text, answer.confidence) == (Status.NO_SENSOR, '', 0.)
    assert answer.error == 'no sensor can be used: no links are loaded; name some in the parameter links'
    bench.plug('camera')
    bench.plug('lidar')
    bench.board.announce('camera', 1)
    answer = bench.server.ask(question).result(WAIT)
    assert (answer.status, answer.text, answer.confidence) == (Status.NO_SENSOR, '', 0.)
    assert (answer.used, answer.probabilities, answer.missing) == ((), (), ('camera', 'lidar'))
    assert answer.error == (
        'no sensor can be used: camera: no tokens yet (camera_encoder publishes no tokens; see its '
        'diagnostics); lidar: no publisher; start its encoder')
    assert not bench.method.threads, 'the model was not run'
    bench.offer('camera')
    assert bench.server.ask(question).result(WAIT).status is Status.OK
    bench.clock.advance(5)
    assert 'camera: no tokens for 5.0 s' in bench.server.ask(question).result(WAIT).error
    bench.board.command('camera', PlugMode.UNPLUG)
    assert 'camera: unplugged by hand' in bench.server.ask(question).result(WAIT).error


def test_links_that_have_no_say_are_no_sensor(make_bench):
    bench = make_bench(without_sensors=lambda: False)
    bench.plug('camera')
    bench.offer('camera')
    bench.method.deaf = {'camera'}
    for question in (FREE, CLOSED):
        answer = bench.server.ask(question).result(WAIT)
        assert (answer.status, answer.used) == (Status.NO_SENSOR, ())
        assert 'camera: all gates of its links are closed' in answer.error


def test_a_modality_whose_links_cannot_answer_is_not_used(make_bench):
    bench = make_bench(without_sensors=lambda: False)
    bench.plug('camera')
    bench.plug('lidar')
    bench.offer('camera', **looking_ahead(-33, 33))
    bench.offer('lidar')
    bench.method.silent = {'lidar'}
    for choices in (('no', 'yes'), ()):
        answer = bench.server.ask(Question('Are there cars in front of me?', choices)).result(WAIT)
        assert [entry.modality for entry in answer.used] == ['camera'] and answer.status is Status.OK
    behind = bench.server.ask(Question('Are there cars behind me?', ('no', 'yes'))).result(WAIT)
    assert behind.status is Status.NO_SENSOR, 'what the other one sees does not help'
    assert behind.error == 'no sensor looks to the back: camera sees from -35 to 35 deg; add one that does'


def test_the_choice_unknown_is_the_status_unknown(bench):
    bench.plug('camera')
    bench.offer('camera')
    answer = bench.server.ask(Question('Where does it come from?', ('front', 'unknown'))).result(WAIT)
    assert (answer.status, answer.text, answer.confidence) == (Status.UNKNOWN, 'unknown', 0.)
    assert answer.error == 'unknown: the sensors in use do not tell this'


def test_concerns_of_what_an_answer_rests_on_go_with_it(bench):
    bench.plug('camera')
    bench.plug('lidar')
    bench.offer('camera', concerns=('front: no calibration',))
    bench.offer('lidar', stamp_ns=bench.clock.now - 5_000_000_000)
    bench.board.command('lidar', PlugMode.PLUG)
    answer = bench.server.ask(CLOSED).result(WAIT)
    assert answer.status is Status.OK
    assert answer.concerns[0] == 'camera: front: no calibration'
    assert answer.concerns[1].startswith('lidar: stamps are 5.0 s behind the clock')
    assert len(answer.concerns) == 2
    bench.board.command('lidar', PlugMode.UNPLUG)
    assert bench.server.ask(CLOSED).result(WAIT).concerns == ('camera: front: no calibration',)
    bench.offer('camera', concerns=('camera: no calibration',))  # of the one camera, which is called so
    assert bench.server.ask(CLOSED).result(WAIT).concerns == ('camera: no calibration',)


def looking_ahead(first: float, last: float) -> dict[str, object]:
    """Options of tokens every 5 degrees, of which a camera sees those between two angles."""
    degrees = np.arange(-177.5, 180, 5)
    return {'count': 72, 'azimuth': np.radians(degrees).astype(np.float32), 'sources': ('front',),
            'source_index': np.where((degrees > first) & (degrees < last), 0, NO_SOURCE).astype(np.uint16)}


def test_a_question_about_where_no_sensor_looks_is_not_answered(make_bench):
    bench = make_bench(without_sensors=lambda: False)
    bench.plug('camera')
    bench.plug('lidar')
    bench.offer('camera', **looking_ahead(-33, 33))
    behind = Question('Are there any cars to the back of me?', ('no', 'yes'))
    answer = bench.server.ask(behind).result(WAIT)
    assert (answer.status, answer.text, answer.confidence, answer.used) == (Status.NO_SENSOR, '', 0., ())
    assert answer.error == 'no sensor looks to the back: camera sees from -35 to 35 deg; add one that does'
    answer = bench.server.ask(Question('Are there any cars to the front of me?', ('no', 'yes'))).result(WAIT)
    assert (answer.status, answer.concerns) == (Status.OK, ())
    answer = bench.server.ask(Question('How many cars are there?', ('no', 'yes'))).result(WAIT)
    assert answer.concerns == ('not all around is seen: camera sees from -35 to 35 deg',)
    bench.offer('lidar')
    assert bench.server.ask(behind).result(WAIT).status is Status.OK


def test_what_the_text_suggests_is_said_only_where_that_is_wished(bench):
    bench.plug('camera')
    answer = bench.server.ask(CLOSED).result(WAIT)
    assert (answer.status, answer.text, answer.confidence) == (Status.NO_SENSOR, 'yes', 0.)
    assert 'camera: no publisher' in answer.error
    assert answer.probabilities == pytest.approx((1 / 3, 2 / 3))
    assert (answer.used, answer.missing) == ((), ('camera',))
    assert answer.stamp_ns == bench.clock.now
    assert (answer.method, answer.links_version) == ('fake', 'camera=v1')
    assert answer.question.id
    assert bench.delivered == [answer]


def test_answer_says_what_it_rests_on(bench):
    bench.plug('camera')
    bench.plug('lidar')
    bench.offer('camera', 3.)
    bench.clock.advance(.25)
    bench.offer('lidar', 4., stamp_ns=bench.clock.now)
    answer = bench.server.ask(FREE).result(WAIT)
    assert answer.text.startswith('q camera:3:v1 lidar:4:v1 on')
    assert [entry.modality for entry in answer.used] == ['camera', 'lidar']
    assert [entry.age for entry in answer.used] == pytest.approx([.25, 0.])
    assert answer.stamp_ns == min(entry.stamp_ns for entry in answer.used) == bench.clock.now - 250_000_000
    assert answer.confidence == pytest.approx(.5)
    assert answer.missing == ()


def test_stale_tokens_are_not_used(bench):
    bench.plug('camera')
    bench.offer('camera')
    assert bench.server.ask(FREE).result(WAIT).used
    bench.clock.advance(1.1)
    answer = bench.server.ask(FREE).result(WAIT)
    assert (answer.used, answer.missing) == ((), ('camera',))


def test_plug_and_unplug_follow_between_answers_but_not_within_one(bench):
    bench.plug('camera')
    bench.offer('camera')
    held(bench)
    first = bench.server.ask(FREE)
    begun(bench)
    bench.board.command('camera', PlugMode.UNPLUG)
    second = bench.server.ask(FREE)
    bench.method.gate.set()
    assert [entry.modality for entry in first.result(WAIT).used] == ['camera']
    assert second.result(WAIT).used == ()


def test_full_queue_rejects_at_once_in_words(make_bench):
    bench = make_bench(capacity=2)
    held(bench)
    running = bench.server.ask(CLOSED)
    begun(bench)
    waiting = [bench.server.ask(CLOSED) for _ in range(2)]
    refused = bench.server.ask(CLOSED)
    assert refused.done()
    assert refused.result().status is Status.REJECTED
    assert 'queue_size' in refused.result().error
    bench.method.gate.set()
    assert [future.result(WAIT).status for future in (running, *waiting)] == [Status.NO_SENSOR] * 3


def test_standing_questions_may_come_all_at_once(make_bench):
    bench = make_bench(capacity=2, standing_capacity=5)
    held(bench)
    running = bench.server.ask(CLOSED)
    begun(bench)
    placed = [bench.server.ask(replace(CLOSED, id=str(number), standing=True)) for number in range(6)]
    waiting = [bench.server.ask(CLOSED) for _ in range(2)]
    assert [future.done() for future in placed] == [False] * 5 + [True]
    assert placed[5].result().status is Status.REJECTED
    assert 'standing_size' in placed[5].result().error
    bench.method.gate.set()
    assert {future.result(WAIT).status for future in (running, *placed[:5], *waiting)} == {Status.NO_SENSOR}


def test_bad_questions_are_rejected_and_not_echoed_in_full(bench):
    answer = bench.server.ask(Question('x' * 1_000_000)).result(0)
    assert (answer.status, len(answer.question.text)) == (Status.REJECTED, 2000)
    assert '1000000 characters' in answer.error


@pytest.mark.parametrize(('failure', 'reason'), [
    (MemoryError(), 'OutOfMemory'), (torch.OutOfMemoryError('CUDA out of memory'), 'OutOfMemory'),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 'OutOfMemory'),
    (KeyError('x'), 'KeyError'), (LinksError('broken'), 'LinksError: broken')])
@pytest.mark.parametrize('question', [FREE, CLOSED])
def test_a_failure_is_answered_and_serving_goes_on(bench, failure, reason, question):
    bench.plug('camera')
    bench.offer('camera')
    bench.method.failures = [failure]
    answer = bench.server.ask(question).result(WAIT)
    assert answer.status is Status.FAILED
    assert reason in answer.error
    answer = bench.server.ask(question).result(WAIT)
    assert (answer.status, answer.links_version) == (Status.OK, 'camera=v1')
    assert answer.used


def test_not_a_number_is_a_failure_not_an_answer(bench):
    bench.method.answer = lambda asked, tokens, influence: Reply(
        'yes', math.nan, (math.nan, math.nan), (), 0.)
    answer = bench.server.ask(CLOSED).result(WAIT)
    assert answer.status is Status.FAILED
    assert 'roll the links back' in answer.error


def test_stream_tells_every_token_and_ends_at_the_limit(bench):
    seen = []
    inquiry = bench.server.stream(FREE, seen.append, max_new_tokens=3)
    assert inquiry.future.result(WAIT).text == 'q on on'
    assert [(entry.stage, entry.tokens) for entry in seen] == [
        ('waiting', 0), ('reading', 0), ('answering', 1), ('answering', 2), ('answering', 3)]
    assert seen[-1].text.strip() == 'q on on'


def test_the_asked_for_length_is_obeyed_up_to_a_bound_and_refused_beyond(make_bench):
    bench = make_bench(max_new_tokens=4)
    assert bench.server.ask(FREE).result(WAIT).text == 'q on on on'
    assert len(bench.server.stream(FREE, max_new_tokens=1024).future.result(WAIT).text.split()) == 1024
    for limit in (1025, 4294967295):
        answer = bench.server.stream(FREE, max_new_tokens=limit).future.result(0)
        assert (answer.status, f'max_new_tokens is {limit}' in answer.error) == (Status.REJECTED, True)
        assert '1024' in answer.error


def test_cancel_takes_effect_within_one_token(bench):
    reached = threading.Event()

    def on_progress(progress):
        if progress.tokens == 2:
            bench.method.gate.clear()
            reached.set()

    inquiry = bench.server.stream(FREE, on_progress)
    assert reached.wait(WAIT)
    inquiry.cancel()
    bench.method.gate.set()
    answer = inquiry.future.result(WAIT)
    assert (answer.status, answer.text, answer.error) == (Status.FAILED, 'q on', 'cancelled after 2 tokens')
    assert bench.server.ask(FREE).result(WAIT).status is Status.NO_SENSOR


@pytest.mark.parametrize('question', [FREE, CLOSED])
def test_cancel_is_heeded_while_the_model_reads(bench, question):
    held(bench)
    inquiry = bench.server.stream(question)
    begun(bench)
    assert inquiry.cancel()
    bench.method.gate.set()
    answer = inquiry.future.result(WAIT)
    assert (answer.status, answer.text, answer.error) == (Status.FAILED, '', 'cancelled while it was read')
    assert not inquiry.cancel(), 'it is over'


def test_a_cancel_that_the_method_does_not_heed_still_leaves_no_answer(bench):
    bench.plug('camera')
    bench.offer('camera')
    answered = bench.method.answer

    def answer_and_be_cancelled(prepared, tokens, influence):
        reply = answered(prepared, tokens)
        inquiry.cancel()
        return reply

    bench.method.answer = answer_and_be_cancelled
    held(bench)
    inquiry = bench.server.stream(CLOSED)
    bench.method.gate.set()
    answer = inquiry.future.result(WAIT)
    assert (answer.status, answer.text, answer.error) == (Status.FAILED, '', 'cancelled')
    assert (answer.confidence, answer.probabilities) == (0., ())


def test_cancel_of_a_waiting_question_answers_at_once(bench):
    held(bench)
    running = bench.server.ask(FREE)
    begun(bench)
    waiting = bench.server.stream(FREE)
    waiting.cancel()
    waiting.cancel()
    assert waiting.future.result(0).status is Status.REJECTED
    bench.method.gate.set()
    assert running.result(WAIT).status is Status.NO_SENSOR
    assert len(bench.delivered) == 2


def test_a_listener_that_fails_does_not_harm_the_answer(bench):
    def on_progress(progress):
        raise OSError('gone')

    assert bench.server.stream(FREE, on_progress).future.result(WAIT).status is Status.NO_SENSOR


def wait_for_answers(bench, count: int) -> list:
    """The first `count` answers given out."""
    for _ in range(WAIT * 1000):
        if len(bench.delivered) >= count:
            return bench.delivered[:count]
        threading.Event().wait(.001)
    raise AssertionError(f'{len(bench.delivered)} of {count} answers')


def test_standing_question_is_answered_on_every_new_frame_until_withdrawn(bench):
    bench.plug('camera')
    standing = Question('q', id='s', standing=True)
    bench.server.ask(standing).result(WAIT)
    for value in (1., 2.):
        bench.offer('camera', value)
        wait_for_answers(bench, 1 + int(value))
    texts = [answer.text.split()[1] for answer in wait_for_answers(bench, 3)]
    assert texts == ['on', 'camera:1:v1', 'camera:2:v1']
    withdrawal = bench.server.ask(Question('', id='s', standing=True)).result(WAIT)
    assert (withdrawal.status, withdrawal.text) == (Status.OK, '')
    bench.offer('camera', 3.)
    bench.server.ask(FREE).result(WAIT)
    assert Counter(answer.question.id for answer in bench.delivered)['s'] == 4
    again = bench.server.ask(Question('', id='s', standing=True)).result(WAIT)
    assert again.status is Status.REJECTED


def test_a_standing_question_is_told_once_that_no_sensor_can_be_used(make_bench):
    bench = make_bench(without_sensors=lambda: False)
    bench.plug('camera')
    bench.server.ask(Question('q', ('no', 'yes'), 's', True)).result(WAIT)
    for _ in range(3):
        bench.server.look()
    bench.offer('camera')
    wait_for_answers(bench, 2)
    bench.clock.advance(2)
    for count in (3, 3, 3):
        bench.server.look()
        wait_for_answers(bench, count)
    bench.server.ask(Question('q', id='last')).result(WAIT)
    told = [answer.status for answer in bench.delivered if answer.question.id == 's']
    assert told == [Status.NO_SENSOR, Status.OK, Status.NO_SENSOR]
    assert [entry.answered for entry in bench.server.standing()] == [3]


def test_a_standing_question_whose_asker_has_gone_ends_with_its_lease(make_bench):
    now = [100.]
    bench = make_bench(steady=lambda: now[0])
    bench.plug('camera')
    leased = Question('q', ('no', 'yes'), 's', True, lease=10.)
    bench.server.ask(leased).result(WAIT)
    bench.server.ask(Question('q', id='t', standing=True)).result(WAIT)
    now[0] += 6
    assert bench.server.ask(leased).result(0).text == '', 'renewed, not asked again'
    now[0] += 6
    assert [(entry.question.id, entry.answered, entry.remaining) for entry in bench.server.standing()] == [
        ('s', 1, 4.), ('t', 1, pytest.approx(math.nan, nan_ok=True))]
    assert len(bench.delivered) == 2
    now[0] += 4
    bench.server.look()
    assert [entry.question.id for entry in bench.server.standing()] == ['t']
    load = bench.server.load()
    assert (load.standing, load.expired) == (1, 1)
    bench.server.ask(leased).result(WAIT)
    assert len(bench.delivered) == 3, 'asked anew, it is answered'


def test_newest_frame_wins_and_skipped_ones_are_counted(bench):
    bench.plug('camera')
    bench.server.ask(Question('q', id='s', standing=True)).result(WAIT)
    held(bench)
    bench.offer('camera', 1.)
    begun(bench)
    for value in (2., 3., 4.):
        bench.offer('camera', value)
    bench.method.gate.set()
    texts = [answer.text.split()[1] for answer in wait_for_answers(bench, 3)[1:]]
    assert texts == ['camera:1:v1', 'camera:4:v1']
    assert bench.server.load().skipped_frames == 2


def test_frames_that_cannot_be_used_ask_nothing(bench):
    bench.plug('camera')
    bench.server.ask(Question('q', id='s', standing=True)).result(WAIT)
    assert bench.offer('lidar')
    assert not bench.offer('camera', encoder='other')
    bench.board.command('camera', PlugMode.UNPLUG)
    assert bench.offer('camera')
    bench.server.ask(FREE).result(WAIT)
    assert len(bench.delivered) == 2


def test_single_questions_and_standing_ones_take_turns(bench):
    bench.plug('camera')
    bench.server.ask(Question('q', id='s', standing=True)).result(WAIT)
    held(bench)
    bench.server.ask(Question('q', id='0'))
    bench.offer('camera')
    for name in ('1', '2'):
        bench.server.ask(Question('q', id=name))
    bench.method.gate.set()
    assert [answer.question.id for answer in wait_for_answers(bench, 5)] == ['s', '0', 's', '1', '2']


def test_swap_between_two_answers_and_rollback(bench, link):
    bench.plug('camera')
    bench.offer('camera')
    held(bench)
    before = bench.server.ask(FREE)
    begun(bench)
    swap = bench.server.install(LinkVersion(link('camera', 'v2')))
    after = bench.server.ask(FREE)
    assert not swap.done()
    bench.method.gate.set()
    first, second = before.result(WAIT), after.result(WAIT)
    assert (first.links_version, second.links_version) == ('camera=v1', 'camera=v2')
    assert 'camera:1:v1' in first.text and 'camera:1:v2' in second.text
    listed = [(version.version, active) for version, active in bench.server.links]
    assert listed == [('v2', True), ('v1', False)]
    assert bench.server.rollback('camera').result(WAIT).version == 'v1'
    assert 'camera:1:v1' in bench.server.ask(FREE).result(WAIT).text
    with pytest.raises(LinksError, match='no earlier'):
        bench.server.rollback('camera').result(WAIT)


def test_rollback_across_encoders_never_feeds_wrong_tokens(bench, link):
    bench.plug('camera')
    bench.offer('camera')
    bench.server.install(LinkVersion(link('camera', 'v2', encoder='e2', width=6))).result(WAIT)
    assert bench.server.ask(FREE).result(WAIT).missing == ('camera',)
    assert bench.offer('camera', encoder='e2', width=6)
    assert bench.server.ask(FREE).result(WAIT).used
    bench.server.rollback('camera').result(WAIT)
    assert bench.server.ask(FREE).result(WAIT).missing == ('camera',)


@pytest.mark.parametrize('bad', ['unreadable', 'refused', 'not listened to'])
def test_refused_links_leave_the_old_ones(bench, link, bad):
    bench.plug('camera')
    bench.files = {'refused': link('camera', 'refused'), 'not listened to': link('radar')}
    with pytest.raises(LinksError):
        bench.server.load_links(bad).result(WAIT)
    bench.offer('camera')
    assert 'camera:1:v1' in bench.server.ask(FREE).result(WAIT).text
    assert [active for _, active in bench.server.links] == [True]


def test_old_versions_are_bounded(bench, link):
    for number in range(10):
        bench.server.install(LinkVersion(link('camera', f'v{number}'))).result(WAIT)
    assert [version.version for version, _ in bench.server.links] == ['v9', 'v8', 'v7', 'v6']


def test_paused_it_rejects_with_the_reason_and_resumed_it_answers(bench):
    bench.plug('camera')
    bench.server.ask(Question('q', id='s', standing=True)).result(WAIT)
    held(bench)
    running = bench.server.ask(FREE)
    begun(bench)
    waiting = bench.server.ask(FREE)
    bench.server.pause('out for lunch', 'interrupted by lunch')
    assert (waiting.result(0).status, waiting.result(0).error) == (Status.REJECTED, 'out for lunch')
    bench.method.gate.set()
    assert (running.result(WAIT).status, running.result().error) == (
        Status.FAILED, 'interrupted by lunch while it was read')
    assert bench.server.ask(FREE).result(0).error == 'out for lunch'
    bench.server.resume()
    count = len(bench.delivered)
    bench.offer('camera')
    assert wait_for_answers(bench, count + 1)[-1].question.id == 's'


def test_closed_it_rejects_and_its_threads_end(bench):
    before = threading.active_count()
    bench.server.close()
    bench.server.resume()
    assert bench.server.ask(FREE).result(0).status is Status.REJECTED
    for future in (bench.server.rollback('camera'), bench.server.load_links('x')):
        with pytest.raises(LinksError, match='closed'):
            future.result(0)
    bench.server.close()
    assert threading.active_count() < before


STANDING = Question('q', id='s', standing=True)
QUESTIONS = [FREE, CLOSED, Question(''), STANDING, Question('', id='s', standing=True)]
MODALITY, ENCODER = st.sampled_from(['camera', 'lidar']), st.sampled_from(['e1', 'e2'])
STEP = st.one_of(
    st.tuples(st.just('ask'), st.sampled_from(QUESTIONS)),
    st.tuples(st.just('cancel'), st.booleans()),
    st.tuples(st.just('offer'), st.tuples(MODALITY, ENCODER)),
    st.tuples(st.just('command'), st.tuples(MODALITY, st.sampled_from(PlugMode))),
    st.tuples(st.just('swap'), st.tuples(MODALITY, ENCODER | st.just('refused'))),
    st.tuples(st.just('rollback'), MODALITY),
    st.tuples(st.just('fail'), st.sampled_from([MemoryError, ValueError])),
    st.tuples(st.just('clock'), st.floats(-3, 3)),
    st.tuples(st.just('hold'), st.booleans()),
    st.tuples(st.just('pause'), st.booleans()))


def take(bench, link, action: str, value: object) -> list:
    """One step of the property test; gives the inquiries it began."""
    server = bench.server
    if action == 'ask':
        return [server.stream(value)]
    if action == 'cancel':
        inquiry = server.stream(FREE)
        (bench.method.gate.set if value else lambda: None)()
        inquiry.cancel()
        return [inquiry]
    if action == 'offer':
        bench.offer(value[0], encoder=value[1])
    elif action == 'command':
        bench.board.command(*value)
    elif action == 'swap':
        server.install(LinkVersion(link(value[0], version=value[1], encoder=value[1])))
    elif action == 'rollback':
        server.rollback(value)
    elif action == 'fail':
        bench.method.failures.append(value())
    elif action == 'clock':
        bench.clock.advance(value)
    elif action == 'hold':
        (bench.method.gate.clear if value else bench.method.gate.set)()
    else:
        (lambda: server.pause('paused') if value else server.resume())()
    return []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEP, max_size=40))
def test_exactly_one_answer_whatever_happens(bench_type, link, steps):
    bench = bench_type(capacity=4)
    try:
        inquiries = [inquiry for step in steps for inquiry in take(bench, link, *step)]
        bench.method.gate.set()
        bench.server.resume()
        bench.server.ask(Question('end', id='end')).result(WAIT)
        answers = [inquiry.future.result(WAIT) for inquiry in inquiries]
    finally:
        bench.method.gate.set()
        bench.server.close()
    counts = Counter(answer.question.id for answer in bench.delivered)
    for inquiry, answer in zip(inquiries, answers, strict=True):
        assert inquiry.question.standing or counts[answer.question.id] == 1
        assert sum(delivered is answer for delivered in bench.delivered) == 1
        assert (answer.status is Status.OK) == (answer.error == '')
        assert 'AssertionError' not in answer.error, 'the method was given tokens that do not fit its links'
    assert len(bench.method.threads) <= 1


def test_questions_that_wait_are_answered_in_one_pass_and_each_gets_its_own(bench):
    bench.plug('camera')
    bench.offer('camera')
    held(bench)
    first = bench.server.ask(CLOSED)
    begun(bench)
    waiting = [bench.server.ask(Question('q', ('no', f'yes {number}'))) for number in range(5)]
    free = bench.server.ask(FREE)
    bench.method.gate.set()
    assert [future.result(WAIT).text for future in waiting] == [f'yes {number}' for number in range(5)]
    assert first.result(WAIT).status is free.result(WAIT).status is Status.OK
    assert bench.method.together == [5]
    assert all(future.result().used[0].modality == 'camera' for future in waiting)


def test_a_pass_that_fails_fails_only_the_question_that_fails_alone(bench):
    bench.plug('camera')
    bench.offer('camera')
    held(bench)
    bench.server.ask(CLOSED)
    begun(bench)
    waiting = [bench.server.ask(CLOSED) for _ in range(3)]
    cancelled = bench.server.stream(CLOSED)
    cancelled.cancel()
    bench.method.failures.append(LinksError('these links are broken'))
    bench.method.gate.set()
    outcomes = Counter(future.result(WAIT).status for future in waiting)
    assert cancelled.future.result(WAIT).status is Status.REJECTED
    assert outcomes[Status.OK] >= 2


BESIDE = 'Are there any cars to the front of the bus?'


@pytest.mark.parametrize('standing', [False, True])
def test_a_question_about_one_thing_beside_another_is_answered_in_steps(bench, standing):
    texts = []

    def answer_each(questions, frames):
        texts.extend((text, frame['camera'].distance.tolist()) for (text, _), frame in zip(
            questions, frames, strict=True))
        return [Reply('yes', .9, (.1, .9), ('camera',), .1, grounding=(
            Grounding('camera', 1, 'bus', .9, 1.),)) for _ in questions]

    bench.method.answer_each = answer_each
    bench.plug('camera')
    bench.offer('camera', distance=np.array([5., 10., 20.], np.float32))
    question = Question(BESIDE, ('no', 'yes'), id='a', standing=standing)
    answer = bench.server.ask(question).result(WAIT)
    assert (answer.status, answer.text, answer.confidence) == (Status.OK, 'yes', .9)
    assert texts == [('Are there any buses?', [5., 10., 20.]),
                     ('Are there any cars to the front of me?', [5., 10.])]
    assert [entry.distance for entry in answer.grounding] == [10., 20.]
    assert [entry.modality for entry in answer.used] == ['camera']


def test_the_place_of_one_thing_beside_another_needs_distances(bench):
    bench.plug('camera')
    bench.offer('camera')
    answer = bench.server.ask(Question(BESIDE, ('no', 'yes'))).result(WAIT)
    assert (answer.status, answer.text) == (Status.UNKNOWN, 'unknown')
    assert 'do not tell how far things are' in answer.error


def test_standing_questions_share_a_pass_about_a_new_frame(make_bench):
    bench = make_bench(standing_capacity=40)
    bench.plug('camera')
    bench.offer('camera')
    for number in range(35):
        bench.server.ask(Question('q', ('no', 'yes'), id=str(number), standing=True)).result(WAIT)
    bench.method.together.clear()
    count = len(bench.delivered)
    bench.offer('camera', 2.)
    wait_for_answers(bench, count + 35)
    assert bench.method.together == [16, 16, 3]
    assert {answer.question.id for answer in bench.delivered[count:]} == set(map(str, range(35)))
