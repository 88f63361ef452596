"""What is decided when modalities come, go and change, with a clock of the test's own."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.adaptation.policy import (
    AvailableData,
    Copy,
    Decision,
    ModalityCondition,
    Outcome,
    PastAction,
    Plug,
    PolicyLimits,
    Situation,
    StoredVersion,
    Train,
    Wait,
    active_modalities,
    decide,
)
from mpnp_ros.errors import ConfigurationError

CAMERA = ModalityCondition('camera', 'healthy', 'camera-encoder', .9, 0., links_version='000001',
                           links_encoder='camera-encoder', links_accuracy=.7)
LIDAR = ModalityCondition('lidar', 'healthy', 'lidar-encoder', .9, 0.)
STORED = StoredVersion('lidar', '000002', 'lidar-encoder', 'lm', 8, .6)
MUCH = {'lidar': AvailableData(500)}


def situation(*conditions: ModalityCondition, **known: object) -> Situation:
    """A situation long after everything in it began."""
    return Situation(**{'now': 1000., 'language_model': 'lm', 'conditions': conditions or (CAMERA, LIDAR),
                        **known})


def decided(*conditions: ModalityCondition, limits: PolicyLimits | None = None, **known: object) -> Decision:
    """What is decided in it."""
    return decide(situation(*conditions, **known), limits)


def only(decision: Decision) -> Plug | Copy | Train | Wait:
    """The only action of a decision."""
    action, = decision.actions
    assert decision.reason == action.reason
    return action


def test_nothing_is_done_where_nothing_is_missing() -> None:
    assert decided(CAMERA) == Decision(('camera',), (), 'answers rest on camera; nothing is missing')
    assert decided(replace(CAMERA, state='stale')).active == ()


def test_stored_links_are_plugged_at_once() -> None:
    fresh = replace(LIDAR, since=1000.)
    assert only(decided(CAMERA, fresh, stored=[STORED], available=MUCH)) == Plug(
        'lidar', '000002', 'the links 000002 of lidar fit and are not in use')


@pytest.mark.parametrize('odd', [
    {'encoder': 'another'}, {'language_model': 'another'}, {'linked_blocks': 4}, {'withdrawn': True},
    {'modality': 'radar'}], ids=lambda odd: next(iter(odd)))
def test_links_that_do_not_fit_are_not_plugged(odd: dict) -> None:
    limits = PolicyLimits(linked_blocks=8)
    action = only(decided(stored=[replace(STORED, **odd)], available=MUCH, limits=limits))
    assert isinstance(action, Train)
    assert isinstance(only(decided(stored=[STORED], available=MUCH, limits=limits)), Plug)


def test_of_links_that_fit_those_last_in_use_then_the_best_then_the_newest_are_plugged() -> None:
    worse, better = replace(STORED, version='000003', accuracy=.5), replace(STORED, version='000001')
    unknown = replace(STORED, version='000009', accuracy=math.nan)
    versions = [worse, better, unknown, STORED]
    assert only(decided(stored=versions)).version == '000002'
    assert only(decided(stored=[worse, unknown])).version == '000003'
    assert only(decided(stored=[replace(worse, current=True), STORED])).version == '000003'


def test_trains_on_labels_where_there_are_enough() -> None:
    action = only(decided(available={'lidar': AvailableData(200, {'camera': 900})}))
    assert action == Train('lidar', 'labelled',
                           'lidar is healthy and has no links; training on 200 labelled questions',
                           encoder=LIDAR.encoder, questions=200)


def test_tries_what_links_could_begin_with_once_and_then_trains() -> None:
    limits, few, many = PolicyLimits(min_trial_questions=50), AvailableData(60), AvailableData(200)
    action = only(decided(available={'lidar': few}, limits=limits))
    assert (action.only_try, action.questions) == (True, 60)
    assert only(decided(available={'lidar': many}, limits=limits)).only_try is False
    for outcome in (Outcome.DONE, Outcome.FAILED):
        tried = [PastAction(action, 999., outcome, 1000.)]
        assert isinstance(only(decided(available={'lidar': few}, limits=limits, history=tried)), Wait)
        assert only(decided(available={'lidar': many}, limits=limits, history=tried)).only_try is False
    in_use = replace(LIDAR, links_version='000001', links_encoder=LIDAR.encoder, links_trained=False)
    training = only(decided(in_use, available={'lidar': many}, limits=limits))
    assert training.reason == ('the links 000001 of lidar were not trained on its tokens yet; training on '
                               '200 labelled questions')


def test_links_that_count_the_same_are_copied_at_once_and_only_once() -> None:
    alike = replace(LIDAR, since=1000., copy_source='links/camera/000001')
    action = only(decided(CAMERA, alike))
    assert action == Copy('lidar', LIDAR.encoder, 'links/camera/000001', 'lidar is healthy and has no links; '
                          'a copy of links that count the same is used until it is trained')
    assert isinstance(only(decided(CAMERA, alike, limits=PolicyLimits(copy_links=False))), Wait)
    assert isinstance(only(decided(CAMERA, alike, limits=PolicyLimits(automatic=False))), Wait)
    assert decided(CAMERA, replace(alike, state='degraded')).actions == ()
    assert isinstance(only(decided(CAMERA, alike, stored=[STORED])), Plug), 'its own come first'
    for outcome in (Outcome.DONE, Outcome.FAILED):
        copied = [PastAction(action, 999., outcome, 1000.)]
        assert isinstance(only(decided(CAMERA, alike, history=copied)), Wait)
    other = replace(alike, encoder='another')
    assert isinstance(only(decided(CAMERA, other, history=copied)), Copy), 'another encoder, another copy'


def test_else_on_answers_of_the_modality_that_saw_most_beside_it() -> None:
    radar = replace(CAMERA, modality='radar')
    available = {'lidar': AvailableData(12, {'camera': 300, 'radar': 250, 'imu': 800})}
    action = only(decided(CAMERA, LIDAR, radar, available=available))
    assert (action.supervision, action.teacher, action.questions) == ('distilled', 'camera', 300)
    assert action.reason.endswith('training on answers of camera to 300 questions')


@pytest.mark.parametrize('odd', [
    {'links_version': ''}, {'unplugged': True}, {'links_encoder': 'other'}], ids=lambda odd: next(iter(odd)))
def test_what_has_no_links_teaches_nothing(odd: dict) -> None:
    teacher, available = replace(CAMERA, state='stale', **odd), {'lidar': AvailableData(12, {'camera': 300})}
    decision = decided(teacher, LIDAR, available=available)
    assert only(decision).reason == (
        'lidar is healthy and has no links; labelled questions with lidar tokens so far: 12 of 200; no '
        'trusted modality has links')


def test_says_how_much_is_lacking() -> None:
    action = only(decided(available={'lidar': AvailableData(12, {'camera': 30})}))
    assert isinstance(action, Wait)
    assert action.reason == ('lidar is healthy and has no links; labelled questions with lidar tokens so '
                             'far: 12 of 200; questions for camera to teach it: 30 of 200')


def test_a_lost_teacher_still_teaches_by_what_it_saw() -> None:
    night = replace(CAMERA, state='degraded', quality=.1)
    decision = decided(night, LIDAR, available={'lidar': AvailableData(0, {'camera': 300})})
    assert only(decision).teacher == 'camera' and decision.active == ('camera',)


def test_links_for_another_encoder_are_replaced() -> None:
    refused = replace(LIDAR, state='degraded', links_version='000001', links_encoder='old')
    assert only(decided(refused, stored=[STORED])) == only(decided(LIDAR, stored=[STORED]))
    action = only(decided(refused, available=MUCH))
    assert (action.supervision, action.encoder) == ('labelled', LIDAR.encoder)
    assert action.reason.startswith('the links 000001 of lidar do not read the tokens of its encoder lidar-e')
    assert decided(refused).active == ()
    few, limits = {'lidar': AvailableData(60)}, PolicyLimits(min_trial_questions=50)
    assert only(decided(refused, available=few, limits=limits)).only_try


@pytest.mark.parametrize('state', ['absent', 'probing', 'healthy'])
def test_links_that_were_in_use_are_plugged_again_after_a_restart(state: str) -> None:
    back = replace(LIDAR, state=state, encoder='' if state == 'absent' else 'lidar-encoder')
    plugged = PastAction(Plug('lidar', '000002', ''), 990., Outcome.DONE, 991.)
    current, limits = [replace(STORED, current=True)], PolicyLimits(automatic=False)
    decision = decided(CAMERA, back, stored=current, history=[plugged], fusion_since=995., limits=limits)
    assert only(decision).version == '000002'
    assert isinstance(only(decided(CAMERA, back, stored=current, history=[plugged])), Wait)


def test_what_answers_worse_than_it_did_is_trained_again() -> None:
    worse = replace(CAMERA, fresh_accuracy=.55, fresh_questions=80)
    action = only(decided(worse, stored=[replace(STORED, modality='camera', encoder='camera-encoder')],
                          available={'camera': AvailableData(300)}))
    assert action.modality == 'camera'
    assert action.reason == ('the links 000001 of camera answer 55% of fresh questions rightly, 70% when '
                             'they were made; training on 300 labelled questions')
    for fine in (replace(worse, fresh_questions=49), replace(worse, fresh_accuracy=.61),
                 replace(worse, links_accuracy=math.nan), replace(worse, state='degraded')):
        assert decided(fine, available={'camera': AvailableData(300)}).actions == ()


def test_what_was_taken_back_by_hand_is_not_offered_again() -> None:
    taken = PastAction(Plug('lidar', '000002', ''), 10., Outcome.WITHDRAWN, 20.)
    assert isinstance(only(decided(stored=[STORED], history=[taken])), Wait)
    older = replace(STORED, version='000001')
    assert only(decided(stored=[STORED, older], history=[taken])).version == '000001'
    trained = PastAction(Train('lidar', 'labelled', ''), 900., Outcome.WITHDRAWN, 950.)
    assert 'failed before' in only(decided(available=MUCH, history=[trained])).reason


def test_what_is_unplugged_by_hand_is_left_alone() -> None:
    for one in (replace(LIDAR, unplugged=True), replace(CAMERA, modality='lidar', unplugged=True)):
        decision = decided(CAMERA, one, stored=[replace(STORED, current=True)], available=MUCH)
        assert decision.actions == () and decision.active == ('camera',)


def test_without_automation_it_says_so() -> None:
    action = only(decided(stored=[STORED], available=MUCH, limits=PolicyLimits(automatic=False)))
    assert action == Wait('lidar', 'lidar is healthy and has no links, but automatic adaptation is disabled')


@pytest.mark.parametrize('odd', [{'state': 'probing'}, {'state': 'degraded'}, {'state': 'stale'},
                                 {'quality': .3}, {'encoder': ''}], ids=str)
def test_nothing_is_learned_from_what_is_not_sound(odd: dict) -> None:
    assert decided(CAMERA, replace(LIDAR, **odd), available=MUCH, stored=[STORED]).actions == ()


def test_plugging_goes_before_training_and_one_is_trained_at_a_time() -> None:
    radar, imu = replace(LIDAR, modality='radar'), replace(LIDAR, modality='imu', quality=.7)
    available = {'lidar': AvailableData(500), 'radar': AvailableData(600), 'imu': AvailableData(900)}
    waiting = {Wait(name, f'{name} is to be trained when links are plugged') for name in ('radar', 'imu')}
    first = decided(radar, imu, LIDAR, stored=[STORED], available=available)
    assert isinstance(first.actions[0], Plug) and set(first.actions[1:]) == waiting
    then = decided(LIDAR, imu, radar, available=available)
    assert [(type(one), one.modality) for one in then.actions] == [
        (Train, 'radar'), (Wait, 'lidar'), (Wait, 'imu')]
    running = PastAction(Train('radar', 'labelled', ''), 900.)
    assert decided(LIDAR, radar, available=available, history=[running]).actions == (
        Wait('lidar', 'lidar is to be trained when radar is trained'),)


def test_a_modality_settles_before_it_is_trained() -> None:
    fresh = replace(LIDAR, since=998.)
    assert only(decided(CAMERA, fresh, available=MUCH)) == Wait('lidar', (
        'lidar is healthy and has no links; lidar has only just become healthy, so training waits for 1 s'))
    assert isinstance(only(decided(CAMERA, replace(LIDAR, since=997.), available=MUCH)), Train)


def test_links_of_a_modality_are_not_trained_twice_in_a_row() -> None:
    for kind, words in ((Train('lidar', 'labelled', ''), 'lidar was trained recently'),
                        (Plug('lidar', '000001', ''), 'links of lidar were plugged recently')):
        past = PastAction(kind, 990., Outcome.DONE, 990.)
        assert f'{words}, so training waits for 50 s' in only(decided(available=MUCH, history=[past])).reason
        assert isinstance(only(decided(available=MUCH, history=[past], now=1050.)), Train)


def test_failures_are_repeated_ever_later() -> None:
    def history(count: int) -> list[PastAction]:
        return [PastAction(Train('lidar', 'labelled', ''), 0., Outcome.FAILED, 1000.)] * count

    limits = PolicyLimits(min_interval=0, retry_delay=10)
    for failures, wait in ((1, 10), (2, 20), (4, 80), (40, 640)):
        for late, kind in ((-1, Wait), (0, Train)):
            known = {'now': 1000. + wait + late, 'available': MUCH, 'history': history(failures)}
            assert isinstance(only(decided(limits=limits, **known)), kind)
    success = PastAction(Train('lidar', 'labelled', ''), 0., Outcome.DONE, 1000.)
    known = {'now': 1001., 'available': MUCH, 'history': [*history(3), success]}
    assert isinstance(only(decided(limits=limits, **known)), Train)


def test_links_that_could_not_be_plugged_are_passed_over_for_a_while() -> None:
    failed = PastAction(Plug('lidar', '000002', ''), 990., Outcome.FAILED, 990.)
    older = replace(STORED, version='000001', accuracy=.1)
    assert only(decided(stored=[STORED, older], history=[failed])).version == '000001'
    assert isinstance(only(decided(stored=[STORED], history=[failed], available=MUCH)), Train)
    assert only(decided(stored=[STORED], history=[failed], now=1051.)).version == '000002'


def test_answers_rest_on_the_healthy_and_on_the_best_degraded_one_only_alone() -> None:
    lidar = replace(CAMERA, modality='lidar')
    dim, dark = (replace(CAMERA, modality=name, state='degraded', quality=quality)
                 for name, quality in (('dim', .4), ('dark', .1)))
    assert active_modalities([lidar, dark, CAMERA, LIDAR]) == ('camera', 'lidar')
    assert active_modalities([replace(lidar, state='adapting'), dim]) == ('lidar',)
    assert active_modalities([dark, dim, replace(dim, modality='unknown', quality=math.nan)]) == ('dim',)
    assert active_modalities([replace(lidar, state='stale')]) == ()


class Robot:
    """Does what is decided, at a clock of its own; training takes a while."""

    def __init__(self, seconds: float, keeps: bool) -> None:
        self.seconds, self.keeps = seconds, keeps
        self.history: list[PastAction] = []
        self.stored: list[StoredVersion] = []
        self.version, self.state, self.since = '', '', 0.

    def run(self, until: float, state_at: Callable[[float], str], period: float = .1) -> None:
        """Ask for a decision every `period` seconds and follow it."""
        for now in (period * n for n in range(round(until / period))):
            self.see(state_at(now), now)
            lidar = replace(LIDAR, state=self.state, since=self.since, links_version=self.version,
                            links_encoder='lidar-encoder' if self.version else '')
            seen = Situation(now, 'lm', (CAMERA, lidar), self.stored, MUCH, self.history)
            for action in decide(seen).actions:
                self.follow(action, now)

    def see(self, state: str, now: float) -> None:
        """A new state may cost the links; a training may be over."""
        if state != self.state:
            self.state, self.since = state, now
            self.version = self.version if self.keeps or state == 'healthy' else ''
        for place, past in enumerate(self.history):
            if past.outcome is Outcome.RUNNING and now >= past.at + self.seconds:
                self.history[place] = replace(past, outcome=Outcome.DONE, ended=now)
                self.stored.append(replace(STORED, version=f'{len(self.stored) + 1:06d}'))

    def follow(self, action: Plug | Train | Wait, now: float) -> None:
        """Begin what is decided."""
        if isinstance(action, Train):
            self.history.append(PastAction(action, now))
        elif isinstance(action, Plug):
            self.history.append(PastAction(action, now, Outcome.DONE, now))
            self.version = action.version


@given(st.floats(.2, 1.), st.floats(0, 1), st.booleans(), st.booleans(), st.floats(0, 20))
def test_a_flapping_modality_causes_at_most_two_adaptations(share: float, phase: float, keeps: bool,
                                                            known: bool, seconds: float) -> None:
    robot = Robot(seconds, keeps)
    robot.stored = [STORED] if known else []
    robot.run(60., lambda now: 'healthy' if (now + phase) % 1 < share else 'stale')
    assert len(robot.history) <= 2


def test_a_modality_that_comes_to_stay_is_trained_plugged_and_then_left_alone() -> None:
    robot = Robot(20., True)
    robot.run(600., lambda now: 'healthy' if now >= 1 else 'absent', period=.5)
    assert [type(past.action) for past in robot.history] == [Train, Plug]
    assert robot.history[0].at == 4. and robot.history[1].at == 24.


shares = st.floats(0, 1) | st.just(math.nan)
any_condition = st.builds(
    ModalityCondition, st.just('lidar'),
    st.sampled_from(['absent', 'probing', 'healthy', 'degraded', 'stale', 'adapting']),
    st.sampled_from(['', 'lidar-encoder', 'other']), shares, st.floats(0, 1000), st.booleans(),
    st.sampled_from(['', '000001']), st.sampled_from(['', 'lidar-encoder']), shares, shares,
    st.integers(0, 100))


@given(st.lists(any_condition, max_size=4), st.booleans(), st.integers(0, 400), st.integers(0, 400))
def test_every_decision_is_one_sentence_and_at_most_one_training(drawn: list[ModalityCondition], known: bool,
                                                                 labelled: int, paired: int) -> None:
    conditions = [replace(one, modality=f'm{n}') for n, one in enumerate(drawn)]
    names = [one.modality for one in conditions]
    available = {name: AvailableData(labelled, dict.fromkeys(names, paired)) for name in names}
    stored = [replace(STORED, modality=name) for name in names] if known else []
    decision = decided(*conditions, stored=stored, available=available) if conditions else decide(
        Situation(0., 'lm', ()))
    acted_on = [action.modality for action in decision.actions]
    trained = [action for action in decision.actions if isinstance(action, Train)]
    assert decision.reason and '\n' not in decision.reason and len(decision.reason) < 250
    assert len(set(acted_on)) == len(acted_on) and len(trained) <= 1
    assert not trained or not any(isinstance(action, Plug) for action in decision.actions)
    assert all(one.teacher != one.modality for one in trained)


@pytest.mark.parametrize('odd', [{'min_labelled_questions': 0}, {'min_interval': -1},
                                 {'retrain_accuracy_drop': math.nan}], ids=str)
def test_nonsense_is_refused_by_name(odd: dict) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(odd))):
        PolicyLimits(**odd)
