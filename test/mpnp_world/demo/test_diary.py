"""What the demo notes of the topics `modalities` and `adaptation`."""
from __future__ import annotations

import math
import time
from types import SimpleNamespace

import pytest

from mpnp_world.demo.drive import Costs
from mpnp_world.demo.robot import STAGES, STATES, Diary, Sense


def said(state: str, decision: str = 'training', step: int = 0, **values: float | str) -> SimpleNamespace:
    """An Adaptation."""
    return SimpleNamespace(**{
        'state': STAGES.index(state), 'decision': decision, 'supervision': 'labelled', 'step': step,
        'steps': 40, 'duration': 2., 'remaining': 60., 'macs': 1e9, 'memory': 1000, 'start_accuracy': .4,
        'accuracy': math.nan, **values})


def rows(**states: str) -> SimpleNamespace:
    """ModalityStates: the state of each, with links where it is healthy."""
    return SimpleNamespace(modalities=[SimpleNamespace(
        modality=name, state=STATES.index(state), links_version='000001' if state == 'healthy' else '',
        detail=f'{name} is {state}') for name, state in states.items()])


def texts(diary: Diary, kind: str) -> list[str]:
    return [event.text for event in diary.events(0.) if event.kind == kind]


def test_states_and_stages_are_numbered_as_in_the_messages():
    messages = pytest.importorskip('mpnp_ros.msg', reason='the messages are not built')
    assert [getattr(messages.ModalityState, name.upper()) for name in STATES] == list(range(len(STATES)))
    assert [getattr(messages.Adaptation, name.upper()) for name in STAGES] == list(range(len(STAGES)))


def test_a_state_is_noted_when_it_changes():
    diary = Diary()
    for states in ({'camera': 'healthy'}, {'camera': 'healthy'}, {'camera': 'degraded', 'lidar': 'probing'}):
        diary.note_states(rows(**states))
    assert texts(diary, 'state') == ['camera healthy', 'camera degraded', 'lidar probing']
    assert texts(diary, 'links') == ['camera 000001', 'camera none', 'lidar none']
    assert diary.senses == [Sense('camera', 'degraded', '', 'camera is degraded'),
                            Sense('lidar', 'probing', '', 'lidar is probing')]


def test_a_decision_in_which_only_numbers_count_on_is_the_newest_but_not_a_new_one():
    diary = Diary()
    for decision in ('waits for 3 s', 'waits for 2 s', 'trained on 1200 questions'):
        diary.note_adaptation(said('idle', decision))
        assert diary.decision == decision
    assert texts(diary, 'decision') == ['waits for 3 s', 'trained on 1200 questions']


def test_steps_are_those_of_training_alone():
    diary = Diary()
    for stage, step in (('reading', 500), ('evaluating', 30), ('training', 1), ('training', 40),
                        ('evaluating', 3)):
        diary.note_adaptation(said(stage, step=step))
    running = diary.running
    assert diary.training and running.costs.steps == 40
    assert (running.stage, running.done, running.of, running.remaining) == ('evaluating', 3, 40, 60.)


def test_an_adaptation_that_ends_leaves_its_costs():
    diary = Diary()
    for message in (said('reading', step=9), said('idle'), said('training', step=7, accuracy=.5),
                    said('idle'), said('idle')):
        diary.note_adaptation(message)
    tried, trained = diary.adaptations()
    assert tried.steps == 0 and math.isnan(tried.accuracy)
    assert trained == Costs('labelled', 2., 7, 1e9, 1000, .4, .5)
    assert diary.running is None and not diary.training
    assert texts(diary, 'stage') == ['reading', 'idle', 'training', 'idle']


def test_events_before_the_start_are_left_out():
    diary = Diary()
    diary.note_states(rows(camera='healthy'))
    start = time.monotonic()
    diary.note_states(rows(camera='stale'))
    assert [event.text for event in diary.events(start)] == ['camera stale', 'camera none']
    assert all(0 <= event.seconds <= time.monotonic() - start for event in diary.events(start))
