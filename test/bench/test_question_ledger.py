"""Accounts of questions: what counts as lost, doubled and torn, and what fell with a node that was killed."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.endurance.question_ledger import (
    ANSWER_TIMEOUT,
    RECOVERY_GRACE,
    REJECTED,
    EncoderLookup,
    QuestionLedger,
    ReceivedAnswer,
    faults,
    versions,
)

CHOICES = ('yes', 'no')
MADE = {('camera', 7): 'c', ('lidar', 7): 'new', ('lidar', 5): 'old'}
READ = {('camera', '1'): 'c', ('lidar', '1'): 'old', ('lidar', '2'): 'new'}
MAKERS = EncoderLookup(lambda *key: MADE.get(key), lambda *key: READ.get(key))
GOOD = ReceivedAnswer('q00001', 'why?', 0, '', 'no', .75, CHOICES, (.25, .75), {'lidar': 7}, ('camera',),
                      {'camera': '1', 'lidar': '2'}, 7, .1)


@pytest.fixture
def ledger() -> QuestionLedger:
    return QuestionLedger(CHOICES, MAKERS)


def test_versions_are_read():
    assert versions('camera=1 lidar=2') == {'camera': '1', 'lidar': '2'}
    assert versions('') == {}


@pytest.mark.parametrize(('changes', 'fault'), [
    ({}, ''), ({'used': {'lidar': 7, 'camera': 7}, 'missing': ()}, ''),
    ({'question': 'what?'}, 'asked was'), ({'choices': ('no', 'yes')}, 'not those asked'),
    ({'text': 'maybe'}, 'none of its choices'), ({'probabilities': (1.,)}, '1 probabilities for 2'),
    ({'probabilities': (float('nan'), .5)}, 'that are none'), ({'probabilities': (-.5, 1.5)}, 'are none'),
    ({'probabilities': (.25, .5)}, 'add up to 0.75'), ({'text': 'yes'}, 'likeliest'),
    ({'confidence': .5}, 'confidence'), ({'missing': ()}, 'had links of'),
    ({'stamp_ns': 5}, 'oldest'), ({'used': {'lidar': 5}, 'stamp_ns': 5}, 'tokens of old answered by links 2'),
    ({'links': {'camera': '1', 'lidar': '1'}}, 'tokens of new answered by links 1, which read old'),
    ({'links': {'camera': '1', 'lidar': '9'}}, 'read None'),
    ({'used': {'lidar': 6}, 'stamp_ns': 6}, 'of None')])
def test_what_is_torn_is_named(changes: dict[str, Any], fault: str):
    found = faults(replace(GOOD, **changes), 'why?', CHOICES, MAKERS)
    assert bool(found) == bool(fault)
    assert any(fault in text for text in found) or not fault


def test_every_question_has_one_answer(ledger):
    assert ledger.ask('why?', 0.) == ('q00001', 'why?')
    assert not ledger.take(GOOD, 1.)
    assert (ledger.answered, ledger.latencies, ledger.good) == (1, [.1], True)
    ledger.take(GOOD, 1.)
    assert (ledger.counts['doubled'], ledger.good) == (1, False)


def test_rejections_need_words(ledger):
    for name, error in (('q00001', 'fusion is not active'), ('q00002', '')):
        ledger.ask('why?', 0.)
        ledger.take(replace(GOOD, name=name, status=REJECTED, error=error), 1.)
    assert (ledger.counts['rejected'], ledger.counts['failed'], ledger.good) == (1, 1, False)


def test_what_is_not_answered_is_lost(ledger):
    ledger.ask('why?', 0.)
    ledger.look(ANSWER_TIMEOUT)
    assert (ledger.waiting, ledger.lost) == (1, [])
    ledger.look(ANSWER_TIMEOUT + 1)
    assert (ledger.waiting, ledger.lost, ledger.good) == (0, ['q00001'], False)


def test_what_fell_with_a_node_is_asked_again(ledger):
    ledger.ask('why?', 0.)
    ledger.killed(1.)
    ledger.ask('who?', 2.)
    ledger.look(ANSWER_TIMEOUT + 2)
    assert ledger.silent and ledger.waiting == 0 and not ledger.lost
    assert ledger.ask('where?', 40.)[1] == 'where?'
    assert not ledger.take(GOOD, 41.), 'asked before, so it says nothing of the node that came back'
    assert ledger.take(replace(GOOD, name='q00003', question='where?'), 41.)
    ledger.look(41. + RECOVERY_GRACE)
    assert ledger.counts['unheard'] == 0
    ledger.look(42. + RECOVERY_GRACE)
    assert (ledger.counts['unheard'], ledger.good) == (1, True)
    assert ledger.ask('when?', 50.)[1] == 'who?'
