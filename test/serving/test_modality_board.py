"""The board: states, plugging, refusals and time."""
from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.serving.modality_board import MOST_TOKENS, ModalityBoard
from mpnp_ros.serving.modality_state import EncoderFacts, LinkFit, PlugMode, State, WatchLimits

FIT = LinkFit('e1', 4, 'v1')


@pytest.fixture
def board(clock) -> ModalityBoard:
    board = ModalityBoard(clock, ('camera', 'lidar'), WatchLimits(stale_after=1.), clock)
    board.connect({'camera': FIT})
    return board


def test_state_goes_from_absent_over_probing_to_healthy_and_stale(board, clock, tokens):
    assert board.state('camera').state is State.ABSENT
    assert math.isnan(board.state('camera').age)
    board.announce('camera', 1)
    assert board.state('camera').state is State.PROBING
    for _ in range(3):
        board.offer(tokens('camera', stamp_ns=clock.now))
        clock.advance(.1)
    row = board.state('camera')
    assert (row.state, row.accepted, row.encoder, row.links_version) == (State.HEALTHY, 3, 'e1', 'v1')
    assert row.rate == pytest.approx(10.)
    assert row.age == pytest.approx(.1)
    clock.advance(1.01)
    row = board.state('camera')
    assert (row.state, row.rate) == (State.STALE, 0.)
    assert 'no tokens for 1.1 s' in row.detail


def test_stale_exactly_after_the_limit(board, clock, tokens):
    board.offer(tokens('camera'))
    clock.advance(1.)
    assert list(board.usable()) == ['camera']
    clock.advance(1e-6)
    assert not board.usable()


def test_rate_starts_again_after_a_silence(board, clock, tokens):
    for gap in (.1, .1, 30., .5):
        board.offer(tokens('camera', stamp_ns=clock.now))
        clock.advance(gap)
    board.offer(tokens('camera', stamp_ns=clock.now))
    assert board.state('camera').rate == pytest.approx(2.)


def test_commands_pin_and_automatic_follows_the_links(board, tokens):
    board.offer(tokens('camera'))
    board.offer(tokens('lidar'))
    assert list(board.usable()) == ['camera']
    assert not board.state('lidar').plugged
    row = board.command('camera', PlugMode.UNPLUG)
    assert (row.plugged, row.pinned) == (False, True)
    assert not board.usable()
    row = board.command('camera', PlugMode.AUTO)
    assert (row.plugged, row.pinned) == (True, False)
    assert list(board.usable()) == ['camera']
    assert board.command('lidar', PlugMode.PLUG).plugged
    assert list(board.usable()) == ['camera'], 'plugged by hand, but without links'


def test_unknown_modality_and_command_are_named(board):
    with pytest.raises(ConfigurationError, match='radar'):
        board.command('radar', PlugMode.PLUG)
    with pytest.raises(ConfigurationError, match='9'):
        board.command('camera', 9)


@pytest.mark.parametrize(('wrong', 'reason'), [
    ({'encoder': 'other'}, 'trained with e1'), ({'width': 5}, '5 wide'),
    ({'count': MOST_TOKENS + 1}, 'at most')])
def test_tokens_that_do_not_fit_are_counted_and_the_good_ones_stay(board, clock, tokens, wrong, reason):
    good = tokens('camera')
    assert board.offer(good)
    assert not board.offer(tokens('camera', **wrong))
    row = board.state('camera')
    assert (row.state, row.accepted, row.rejected) == (State.DEGRADED, 1, 1)
    assert reason in row.detail
    assert board.usable()['camera'] is good
    for _ in range(7):
        clock.advance(.5)
        board.offer(tokens('camera', stamp_ns=clock.now))
    assert board.state('camera').state is State.HEALTHY


def test_only_bad_tokens_degrade_and_are_never_usable(board, clock):
    board.reject('camera', 'truncated')
    row = board.state('camera')
    assert (row.state, row.detail) == (State.DEGRADED, 'truncated')
    assert not board.usable()
    clock.advance(2)
    assert board.state('camera').state is State.PROBING


def test_new_links_drop_tokens_of_another_encoder_only(board, tokens):
    board.offer(tokens('camera'))
    board.connect({'camera': LinkFit('e1', 4, 'v2')})
    assert board.usable()
    board.connect({'camera': LinkFit('e2', 4, 'v3')})
    assert not board.usable()
    assert board.offer(tokens('camera', encoder='e2'))
    board.connect({})
    assert not board.usable()
    assert board.state('camera').links_version == ''


def test_tokens_of_another_sensor_are_refused_but_tell_its_encoder(board, tokens):
    board.offer(tokens('camera'))
    assert not board.offer(tokens('camera', encoder='e2'))
    assert board.state('camera').encoder == 'e2'
    board.connect({'camera': LinkFit('e2', 4, 'v2')})
    assert board.state('camera').encoder == 'e2'


def test_late_stamps_degrade_but_can_be_used(board, clock, tokens):
    board.offer(tokens('camera', stamp_ns=clock.now - 5_000_000_000))
    row = board.state('camera')
    assert row.state is State.DEGRADED
    assert 'use_sim_time' in row.detail
    assert row.age == pytest.approx(5.)
    assert board.usable()


def test_jump_back_forgets_and_recovers(board, clock, tokens):
    board.offer(tokens('camera', 1., stamp_ns=clock.now))
    clock.advance(-50)
    assert not board.usable()
    assert board.state('camera').state is State.PROBING
    board.offer(tokens('camera', 2., stamp_ns=clock.now))
    assert board.usable()['camera'].values[0, 0] == 2.
    clock.advance(1.01)
    assert not board.usable(), 'staleness is measured on the new time'


def test_small_step_back_keeps_tokens(board, clock, tokens):
    board.offer(tokens('camera'))
    clock.advance(-.2)
    assert board.usable()
    assert board.state('camera').age == 0.


ACTIONS = ['offer', 'misfit', 'connect', 'disconnect', *PlugMode]


@given(steps=st.lists(st.tuples(st.sampled_from(ACTIONS), st.floats(-5, 5)), max_size=40))
def test_usable_means_plugged_fresh_linked_and_fitting(make_clock, tokens, steps):
    clock = make_clock()
    board = ModalityBoard(clock, ('camera',), WatchLimits(stale_after=1.), clock)
    newest, arrived, linked, command, latest = None, 0, False, PlugMode.AUTO, clock.now
    for action, seconds in steps:
        clock.advance(seconds)
        if clock.now < latest - 1_000_000_000:
            newest, latest = None, clock.now
        latest = max(latest, clock.now)
        if action in ('offer', 'misfit'):
            sent = tokens('camera', encoder='e1' if action == 'offer' else 'e2')
            assert board.offer(sent) == (action == 'offer' or not linked)
            if action == 'offer' or not linked:
                newest, arrived = sent, clock.now
        elif action in ('connect', 'disconnect'):
            linked = action == 'connect'
            board.connect({'camera': FIT} if linked else {})
            newest = None if linked and newest is not None and newest.encoder != 'e1' else newest
        else:
            command = action
            board.command('camera', command)
        usable = linked and newest is not None and command is not PlugMode.UNPLUG \
            and clock.now - arrived <= 1_000_000_000
        assert board.usable() == ({'camera': newest} if usable else {})


def test_rows_keep_the_order_of_the_parameter(board):
    assert [row.modality for row in board.states()] == ['camera', 'lidar']


@pytest.fixture
def make_board(clock):
    """Makes boards with camera and LiDAR plugged."""
    def make(**limits: object) -> ModalityBoard:
        board = ModalityBoard(clock, ('camera', 'lidar'), WatchLimits(**{'stale_after': 1., **limits}), clock)
        board.connect({'camera': FIT, 'lidar': FIT})
        return board
    return make


@pytest.fixture
def pass_time(clock, tokens):
    """Gives a function: tokens of these qualities come ten times a second for so long."""
    def pass_time(board: ModalityBoard, seconds: float, **qualities: float) -> None:
        for _ in range(round(seconds * 10)):
            clock.advance(.1)
            for name, quality in qualities.items():
                concerns = () if quality > .5 else ('it is dark',)
                board.offer(tokens(name, stamp_ns=clock.now, quality=quality, concerns=concerns))
    return pass_time


def test_night_degrades_the_camera_and_morning_heals_it(make_board, pass_time):
    board = make_board()
    pass_time(board, 2, camera=1., lidar=1.)
    assert list(board.usable()) == ['camera', 'lidar']
    pass_time(board, .3, camera=.1, lidar=1.)
    assert board.state('camera').state is State.HEALTHY, 'it must last'
    pass_time(board, 2, camera=.1, lidar=1.)
    row = board.state('camera')
    assert (row.state, row.plugged) == (State.DEGRADED, True)
    assert row.detail == 'quality is 0.10: it is dark'
    assert row.quality == pytest.approx(.1, abs=.01)
    assert list(board.usable()) == ['lidar']
    pass_time(board, 2, camera=1., lidar=1.)
    row = board.state('camera')
    assert row.state is State.DEGRADED
    assert 'trusted after 3 s' in row.detail
    pass_time(board, 2, camera=1., lidar=1.)
    assert board.state('camera').state is State.HEALTHY
    assert list(board.usable()) == ['camera', 'lidar']


@pytest.mark.parametrize(('use', 'with_lidar', 'without', 'pinned'), [
    ('alone', ['lidar'], ['camera'], ['camera', 'lidar']),
    ('always', ['camera', 'lidar'], ['camera'], ['camera', 'lidar']),
    ('never', ['lidar'], [], ['camera', 'lidar'])])
def test_whether_answers_rest_on_a_degraded_modality(make_board, pass_time, use, with_lidar, without, pinned):
    board = make_board(use_degraded=use)
    pass_time(board, 3, camera=.1, lidar=1.)
    assert list(board.usable()) == with_lidar
    board.command('camera', PlugMode.PLUG)
    assert list(board.usable()) == pinned
    pass_time(board, 3, camera=.1)
    assert list(board.usable()) == ['camera'], 'plugged by hand is used while it is fresh'
    board.command('camera', PlugMode.AUTO)
    assert list(board.usable()) == without


def test_a_healthy_sensor_of_other_things_takes_no_place_of_a_degraded_one(make_board, pass_time):
    board = make_board()
    board.connect({'camera': replace(FIT, channels=('car',)), 'lidar': replace(FIT, channels=('siren',))})
    pass_time(board, 3, camera=.1, lidar=1.)
    assert list(board.usable()) == ['camera', 'lidar']
    board.connect({'camera': replace(FIT, channels=('car',)), 'lidar': replace(FIT, channels=('car',))})
    assert list(board.usable()) == ['lidar']


def test_where_all_are_degraded_all_are_used(make_board, pass_time):
    board = make_board()
    pass_time(board, 3, camera=.1, lidar=.2)
    assert list(board.usable()) == ['camera', 'lidar']


def test_first_tokens_are_used_at_once_but_not_bad_ones_beside_good_ones(make_board, pass_time):
    board = make_board()
    pass_time(board, .1, camera=1.)
    assert (board.state('camera').state, list(board.usable())) == (State.PROBING, ['camera'])
    pass_time(board, .1, camera=1., lidar=.1)
    assert list(board.usable()) == ['camera']


def test_a_modality_that_comes_back_is_used_at_once_and_healthy_later(make_board, pass_time, clock):
    board = make_board()
    pass_time(board, 2, camera=1., lidar=1.)
    pass_time(board, 2, lidar=1.)
    assert board.state('camera').state is State.STALE
    pass_time(board, 1, camera=1., lidar=1.)
    row = board.state('camera')
    assert (row.state, list(board.usable())) == (State.STALE, ['camera', 'lidar'])
    assert 'good again for 0.8 s' in row.detail
    pass_time(board, 3, camera=1., lidar=1.)
    assert board.state('camera').state is State.HEALTHY


def test_a_silence_that_nobody_looked_at_counts_too(make_board, pass_time, clock):
    board = make_board()
    pass_time(board, 2, camera=1.)
    clock.advance(5)
    pass_time(board, .5, camera=1.)
    assert board.state('camera').state is State.STALE


@pytest.mark.parametrize('period', [1., 3.])
def test_a_flapping_sensor_does_not_make_the_state_flap(make_board, pass_time, clock, period):
    board = make_board()
    shown = []
    for _ in range(12):
        pass_time(board, period / 2, camera=1.)
        shown.append(board.state('camera').state)
        clock.advance(period / 2)
        shown.append(board.state('camera').state)
    assert len(set(shown[2:])) == 1


def test_without_links_good_tokens_are_healthy_but_not_plugged(make_board, pass_time):
    board = make_board()
    board.connect({})
    pass_time(board, 1, camera=1.)
    row = board.state('camera')
    assert (row.state, row.plugged) == (State.HEALTHY, False)


def test_adapting_is_shown_while_tokens_come_and_changes_nothing_else(make_board, pass_time, clock):
    board = make_board()
    board.adapting(['camera'])
    assert board.state('camera').state is State.ABSENT
    pass_time(board, 3, camera=.1, lidar=1.)
    row = board.state('camera')
    assert row.state is State.ADAPTING
    assert row.detail == 'its links are being trained; quality is 0.10: it is dark'
    assert board.state('lidar').state is State.HEALTHY
    assert list(board.usable()) == ['lidar']
    board.command('camera', PlugMode.UNPLUG)
    assert board.state('camera').state is State.DEGRADED
    board.command('camera', PlugMode.AUTO)
    board.connect({'lidar': FIT})
    assert board.state('camera').state is State.ADAPTING, 'it waits for links'
    board.adapting(())
    assert board.state('camera').state is State.DEGRADED
    with pytest.raises(ConfigurationError, match='radar'):
        board.adapting(['radar'])


@given(steps=st.lists(st.tuples(st.sampled_from(['good', 'bad', 'late', 'misfit', 'reject', 'look']),
                                st.floats(0, 4)), max_size=80))
def test_whatever_comes_counts_add_up_and_changes_are_bounded_by_time(make_clock, tokens, steps):
    clock = make_clock()
    limits = WatchLimits(stale_after=1., degrade_after=.5, recover_after=2.)
    board = ModalityBoard(clock, ('camera',), limits, clock)
    board.connect({'camera': FIT})
    start, shown, changes, accepted, rejected = clock.now, State.ABSENT, 0, 0, 0
    for action, seconds in steps:
        clock.advance(seconds)
        if action in ('good', 'bad', 'late', 'misfit'):
            taken = board.offer(tokens('camera', encoder='e2' if action == 'misfit' else 'e1',
                                       stamp_ns=clock.now - (5_000_000_000 if action == 'late' else 0),
                                       quality=float(action != 'bad')))
            assert taken == (action != 'misfit')
            accepted, rejected = accepted + taken, rejected + (not taken)
        elif action == 'reject':
            board.reject('camera', 'truncated')
            rejected += 1
        row = board.state('camera')
        changes, shown = changes + (row.state is not shown), row.state
        assert (row.accepted, row.rejected) == (accepted, rejected)
    elapsed = (clock.now - start) / 1e9
    assert changes <= 2 + elapsed / min(limits.degrade_after, limits.recover_after)


@pytest.fixture
def stopping(clock, make_clock):
    """A board with a healthy camera, its clock, and a clock that always runs."""
    steady = make_clock()
    board = ModalityBoard(clock, ('camera', 'lidar'), WatchLimits(stale_after=1.), steady)
    board.connect({'camera': FIT})
    board.announce('camera', 1)
    return board, clock, steady


def run_for(board, clock, steady, tokens, seconds: float, running: bool = True) -> None:
    for _ in range(round(seconds * 10)):
        steady.advance(.1)
        clock.advance(.1 if running else 0)
        board.offer(tokens('camera', stamp_ns=clock.now))


def test_a_clock_that_stops_does_not_keep_tokens_fresh(stopping, tokens):
    board, clock, steady = stopping
    run_for(board, clock, steady, tokens, 4)
    assert (board.state('camera').state, board.age(clock.now - 10 ** 9)) == (State.HEALTHY, 1.)
    assert board.clock_note() == ''
    steady.advance(1.9)
    assert list(board.usable()) == ['camera']
    steady.advance(60)
    assert not board.usable()
    row = board.state('camera')
    assert row.state is State.STALE
    assert row.detail == ('no tokens for 60.9 s; the clock has stopped for 62 s; is the bag over or the '
                          'simulation paused?')
    assert math.isnan(row.age) and math.isnan(board.age(clock.now))
    assert 'the clock has stopped' in board.absences()['camera']
    run_for(board, clock, steady, tokens, 4)
    assert (board.state('camera').state, board.state('camera').detail) == (State.HEALTHY, '')
    assert board.age(clock.now) == 0.


def test_tokens_that_come_while_the_clock_has_stopped_can_be_used_but_have_no_age(stopping, tokens):
    board, clock, steady = stopping
    run_for(board, clock, steady, tokens, 2)
    run_for(board, clock, steady, tokens, 5, running=False)
    row = board.state('camera')
    assert (row.state, list(board.usable())) == (State.DEGRADED, ['camera'])
    assert 'the clock has stopped for 5 s' in row.detail
    assert math.isnan(row.age) and row.rate == pytest.approx(10.)
    assert board.concerns(['camera']) == (f'camera: {row.detail}',)
    steady.advance(3)
    assert not board.usable()


def test_in_a_pause_tokens_stay_what_they_are_while_their_encoder_is_there(stopping, tokens):
    board, clock, steady = stopping
    board.hold(True)
    run_for(board, clock, steady, tokens, 4)
    steady.advance(600)
    assert list(board.usable()) == ['camera']
    row = board.state('camera')
    assert (row.state, row.age) == (State.HEALTHY, 0.)
    assert row.detail == 'the clock has stopped for 600 s; is the simulation paused?'
    board.announce('camera', 0)
    assert not board.usable()
    assert 'its encoder has gone' in board.state('camera').detail
    board.announce('camera', 1)
    assert board.usable()
    board.hold(False)
    assert not board.usable(), 'who set the clock has gone too'


def test_a_clock_that_has_never_run_is_not_a_pause(make_clock, tokens):
    clock, steady = make_clock(), make_clock()
    clock.now = 0
    board = ModalityBoard(clock, ('camera',), WatchLimits(stale_after=1.), steady)
    board.connect({'camera': FIT})
    board.announce('camera', 1)
    board.hold(True)
    run_for(board, clock, steady, tokens, 2, running=False)
    assert list(board.usable()) == ['camera']
    assert board.clock_note().startswith('use_sim_time is set, but /clock does not run')
    steady.advance(5)
    assert not board.usable()


def test_a_slow_simulation_is_measured_by_its_own_time(stopping, tokens):
    board, clock, steady = stopping
    board.hold(True)
    for _ in range(20):
        board.offer(tokens('camera', stamp_ns=clock.now))
        for _ in range(5):
            clock.advance(.1)
            steady.advance(1.9)
            assert list(board.usable()) == ['camera']
    assert board.state('camera').state is State.HEALTHY


def facts(encoder: str = 'e1', *changed: str, node: str = '/camera_encoder') -> EncoderFacts:
    return EncoderFacts('camera', node, encoder, 4, changed)


def test_which_links_fit_which_encoder_is_known_before_the_first_tokens(board):
    board.introduce(facts())
    assert board.fits() == {'/camera_encoder': (True, 'camera: links v1 fit encoder e1 of /camera_encoder')}
    assert board.state('camera').detail == 'no tokens yet'
    board.introduce(facts('e2', 'encoder.tokens: columns'))
    misfit = ('links v1 do not fit encoder e2 of /camera_encoder, which has encoder.tokens: columns set; '
              'remove that setting, or train links for it with `mpnp train` and name them in the parameter '
              'links')
    assert board.fits() == {'/camera_encoder': (False, f'camera: {misfit}')}
    assert (board.state('camera').state, board.state('camera').detail) == (State.PROBING, misfit)
    assert board.absences() == {'camera': misfit}
    board.introduce(facts('e2'))
    assert 'were trained with e1' in board.state('camera').detail
    board.introduce(EncoderFacts('camera', '/camera_encoder', 'e1', 4, (), ('/front', '/rear')))
    assert board.absences() == {
        'camera': 'no tokens yet (/camera_encoder reads /front, /rear; see its diagnostics)'}
    board.introduce(facts('e2'))
    board.connect({})
    assert 'no links are loaded for encoder e2' in board.state('camera').detail
    board.connect({'camera': LinkFit('e2', 4, 'v2')})
    assert board.fits()['/camera_encoder'][0]
    board.retain_encoders(['/lidar_encoder'])
    assert not board.fits()
    assert board.absences() == {'camera': 'no publisher; start its encoder'}


def test_a_rejection_names_what_to_set(board, tokens):
    board.introduce(facts('e2', 'encoder.tokens: columns', 'encoder.height: 9'))
    assert not board.offer(tokens('camera', encoder='e2'))
    assert 'has encoder.tokens: columns, encoder.height: 9 set; remove those settings' \
        in board.state('camera').detail
    assert not board.offer(tokens('camera', encoder='e3'))
    assert 'train links for it with `mpnp train`' in board.state('camera').detail
