"""The board: states, plugging, refusals and time."""
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.serving.modality_board import ModalityBoard
from mpnp_ros.serving.modality_watch import MOST_TOKENS, Command, LinkFit, State

FIT = LinkFit('e1', 4, 'v1')


@pytest.fixture
def board(clock) -> ModalityBoard:
    board = ModalityBoard(clock, ('camera', 'lidar'), stale_after=1.)
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
    row = board.command('camera', Command.UNPLUG)
    assert (row.plugged, row.pinned) == (False, True)
    assert not board.usable()
    row = board.command('camera', Command.AUTO)
    assert (row.plugged, row.pinned) == (True, False)
    assert list(board.usable()) == ['camera']
    assert board.command('lidar', Command.PLUG).plugged
    assert list(board.usable()) == ['camera'], 'plugged by hand, but without links'


def test_unknown_modality_and_command_are_named(board):
    with pytest.raises(ConfigurationError, match='radar'):
        board.command('radar', Command.PLUG)
    with pytest.raises(ConfigurationError, match='9'):
        board.command('camera', 9)


@pytest.mark.parametrize(('wrong', 'reason'), [
    ({'encoder': 'other'}, 'trained with e1'), ({'width': 5}, '5 wide'),
    ({'count': MOST_TOKENS + 1}, 'at most')])
def test_tokens_that_do_not_fit_are_counted_and_the_good_ones_stay(board, tokens, wrong, reason):
    good = tokens('camera')
    assert board.offer(good)
    assert not board.offer(tokens('camera', **wrong))
    row = board.state('camera')
    assert (row.state, row.accepted, row.rejected) == (State.DEGRADED, 1, 1)
    assert reason in row.detail
    assert board.usable()['camera'] is good
    board.offer(good)
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


ACTIONS = ['offer', 'misfit', 'connect', 'disconnect', *Command]


@given(steps=st.lists(st.tuples(st.sampled_from(ACTIONS), st.floats(-5, 5)), max_size=40))
def test_usable_means_plugged_fresh_linked_and_fitting(make_clock, tokens, steps):
    clock = make_clock()
    board = ModalityBoard(clock, ('camera',), stale_after=1.)
    newest, arrived, linked, command, latest = None, 0, False, Command.AUTO, clock.now
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
        usable = linked and newest is not None and command is not Command.UNPLUG \
            and clock.now - arrived <= 1_000_000_000
        assert board.usable() == ({'camera': newest} if usable else {})


def test_rows_keep_the_order_of_the_parameter(board):
    assert [row.modality for row in board.states()] == ['camera', 'lidar']
