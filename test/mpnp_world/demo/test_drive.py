"""The drive of the demo, without a vehicle: what is chosen, counted and left out."""
from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.cli.exchanges import Exchange, Score
from mpnp_ros.errors import NotAnsweringError
from mpnp_ros.questions.generator import NEARBY, LabelledQuestion
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_world.demo import drive as demo_drive
from mpnp_world.demo.drive import (
    BOTH,
    CAMERA,
    DISTILLED,
    LABELLED,
    MOST_SKIPPED,
    PHASES,
    QUESTIONS_A_FRAME,
    Chooser,
    Costs,
    DriveEvent,
    Majority,
    Phase,
    Sight,
    count_majority,
    drive_through,
)

TYPES = {'exist': ('yes', 'no'), 'count': ('0', '1', '2'), 'object': ('car', 'bus')}
QUESTIONS = [LabelledQuestion(f'{kind} {number}?', answers[number % len(answers)], kind, 0, '', 'sample')
             for kind, answers in TYPES.items() for number in range(20)]
TRIED = Costs('labelled', 1., 0, 1e9, 10, .4, .4)
TRAINED = Costs('labelled', 9., 100, 1e10, 10, .4, .6)
KINDS = st.sampled_from([(kind, answer) for kind, answers in TYPES.items() for answer in answers])


class FakeVehicle:
    """Shows the same questions at every key frame; answers rightly once the LiDAR's links are trained.

    lost: key frames without tokens.  trials, slow: key frames with both sensors until links have been tried,
    and until they have been trained.  useful: whether these come into use.
    """

    decision = 'the new links are not offered'

    def __init__(self, lost: int = 0, trials: int = 1, slow: int = 3, useful: bool = True) -> None:
        self.entered: list[Phase] = []
        self.useful = useful
        self.lost, self.trials, self.slow, self.frames, self.seen = lost, trials, slow, 0, 0

    def enter(self, phase: Phase) -> None:
        self.entered.append(phase)

    def next_frame(self, sensors: Sequence[str]) -> tuple[Sight, Sequence[LabelledQuestion]] | None:
        assert tuple(sensors) == self.entered[-1].sensors
        self.lost -= 1
        if self.lost >= 0:
            return None
        self.frames += 1
        self.seen += 'lidar' in sensors
        return Sight(self.frames), QUESTIONS

    def ask(self, question: LabelledQuestion, guess: str) -> Exchange:
        answer = question.answer if self.seen > self.slow else 'unknown'
        return Exchange(question.text, question.type, question.answer, guess, answer, .5,
                        self.entered[-1].sensors, .1 * self.frames, self.seen == self.slow)

    def news(self, start: float) -> tuple[list[DriveEvent], list[Costs]]:
        ended = [costs for costs, frames in ((TRIED, self.trials), (TRAINED, self.slow))
                 if self.seen >= frames]
        return [DriveEvent(1e-9 * frame, 'state', f'camera {frame}') for frame in range(self.frames)], ended

    def adapted(self, modalities: Collection[str]) -> bool:
        assert set(modalities) == {'lidar'}
        return self.useful and self.seen >= self.slow


class Silence:
    """A view that counts what it is told."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()

    def entered(self, phase: Phase) -> None:
        self.told['entered'] += 1

    def answered(self, drive: object, phase: Phase, exchanges: Sequence[Exchange]) -> None:
        self.told['answered'] += 1

    def passed(self, drive: object, moment: object) -> None:
        self.told['passed'] += 1


@pytest.mark.parametrize('phases', PHASES.values(), ids=PHASES)
def test_every_phase_is_driven_and_the_one_that_adapts_until_links_are_trained(phases):
    vehicle, view = FakeVehicle(), Silence()
    drive = drive_through(vehicle, phases, 0, Majority.of(QUESTIONS), view)
    frames = [3 if phase.adapts else 1 for phase in phases]
    assert vehicle.entered == list(phases)
    assert [moment.phase for moment in drive.moments] == [
        phase for phase, count in zip(phases, frames, strict=True) for _ in range(count)]
    assert view.told == {'entered': len(phases), 'answered': sum(frames) * QUESTIONS_A_FRAME,
                         'passed': sum(frames)}
    adapted = False
    for (phase, score), count in zip(drive.scores(), frames, strict=True):
        assert score.asked == score.guessed == count * QUESTIONS_A_FRAME
        assert score.right == (score.asked if adapted else 0)
        adapted |= phase.adapts
    assert drive.adaptations == [TRIED, TRAINED]


@pytest.mark.parametrize(('limit', 'value', 'frames'), [
    ('MOST_IDLE_FRAMES', 4, 4), ('MOST_ADAPTATIONS', 1, 1)])
@pytest.mark.parametrize('phases', PHASES.values(), ids=PHASES)
def test_a_phase_without_its_adaptation_ends_and_none_after_it_is_called_adapted(monkeypatch, phases, limit,
                                                                                 value, frames):
    monkeypatch.setattr(demo_drive, limit, value)
    drive = drive_through(FakeVehicle(slow=10_000), phases, 0, Majority({}, {}), Silence())
    assert len(drive.moments) == len(phases) - 1 + frames and drive.adaptations == [TRIED]
    assert drive.given_up == 'the new links are not offered'
    titles = [phase.title for phase in drive.phases]
    assert 'night, not adapted' in titles and 'night, adapted' not in titles
    assert [event.text for event in drive.events if event.kind == 'phase'] == titles
    assert [phase.title for phase, _ in drive.scores()] == titles


def test_trained_links_that_do_not_come_into_use_are_no_adaptation(monkeypatch):
    monkeypatch.setattr(demo_drive, 'MOST_ADAPTATIONS', 2)
    drive = drive_through(FakeVehicle(useful=False), PHASES[LABELLED], 0, Majority({}, {}), Silence())
    assert drive.adaptations == [TRIED, TRAINED] and drive.phases[-2].title == 'night, not adapted'
    assert not drive_through(FakeVehicle(), PHASES[LABELLED], 0, Majority({}, {}), Silence()).given_up


def test_a_running_training_is_waited_for(monkeypatch):
    class Busy(FakeVehicle):
        def ask(self, question: LabelledQuestion, guess: str) -> Exchange:
            return replace(super().ask(question, guess), training=self.seen < self.slow)

    monkeypatch.setattr(demo_drive, 'MOST_IDLE_FRAMES', 1)
    drive = drive_through(Busy(slow=9), PHASES[LABELLED], 0, Majority({}, {}), Silence())
    assert not drive.given_up and len(drive.moments) == len(PHASES[LABELLED]) - 1 + 9


def test_a_phase_lasts_as_many_questions_as_its_share(monkeypatch):
    phases = [Phase('day', 'day', 'day', (CAMERA,), 3), Phase('dusk', 'dusk', 'dusk', (CAMERA,), 1)]
    drive = drive_through(FakeVehicle(), phases, 8 * QUESTIONS_A_FRAME, Majority({}, {}), Silence())
    assert [len(drive.exchanges(phase)) // QUESTIONS_A_FRAME for phase in phases] == [6, 2]


def test_a_training_alone_is_no_adaptation_while_answers_rest_on_the_camera():
    class Unheard(FakeVehicle):
        def ask(self, question: LabelledQuestion, guess: str) -> Exchange:
            used = ('camera',) if self.frames < 9 else ('lidar',)
            return replace(super().ask(question, guess), used=used)

    drive = drive_through(Unheard(), PHASES[LABELLED], 0, Majority({}, {}), Silence())
    plugged = next(phase for phase in drive.phases if phase.adapts)
    frames = [moment.sight.stamp_ns for moment in drive.moments if moment.phase is plugged]
    assert frames[-1] == 9 and drive.exchanges(plugged)[-1].used == ('lidar',)


def test_what_has_happened_is_kept_in_order_with_what_the_drive_did():
    drive = drive_through(FakeVehicle(), PHASES[LABELLED], 0, Majority({}, {}), Silence())
    assert [event.seconds for event in drive.events] == sorted(event.seconds for event in drive.events)
    assert [event.text for event in drive.events if event.kind == 'phase'] == [
        phase.title for phase in PHASES[LABELLED]]
    assert sum(event.kind == 'state' for event in drive.events) == len(drive.moments)
    assert drive.when('state', 'camera 2') == 2e-9 and drive.when('state', 'camera 2', after=1.) is None


def test_latencies_are_told_apart_by_whether_links_were_trained():
    drive = drive_through(FakeVehicle(), PHASES[LABELLED], 0, Majority({}, {}), Silence())
    busy = [moment for moment in drive.moments if moment.exchanges[0].training]
    assert len(drive.latencies(True)) == QUESTIONS_A_FRAME and len(busy) == 1
    assert set(drive.latencies(True)) == {busy[0].exchanges[0].latency}
    assert len(drive.latencies(False)) == QUESTIONS_A_FRAME * (len(drive.moments) - 1)


def test_the_story_is_from_day_into_night_and_back():
    for phases in PHASES.values():
        lights = list(dict.fromkeys(phase.light for phase in phases[:-1]))
        assert lights == ['day', 'dusk', 'night'] and phases[-1].light == 'day'
        assert phases[0].sensors == (CAMERA,) and phases[-1].sensors == BOTH
        assert [phase.adapts for phase in phases].count(True) == 1
        assert len({phase.title for phase in phases}) == len({phase.name for phase in phases}) == len(phases)
        plugged = next(phase for phase in phases if phase.sensors == BOTH)
        assert plugged.adapts and 'plugged in' in plugged.title
    light = {name: next(phase.light for phase in phases if phase.adapts) for name, phases in PHASES.items()}
    assert light == {LABELLED: 'night', DISTILLED: 'day'}


def test_key_frames_without_tokens_are_left_out_but_not_for_ever():
    phases = PHASES[LABELLED][:1]
    drive = drive_through(FakeVehicle(lost=2), phases, 0, Majority({}, {}), Silence())
    assert drive.skipped == 2 and len(drive.moments) == 1
    with pytest.raises(NotAnsweringError, match=f'{MOST_SKIPPED + 1} key frames came without tokens'):
        drive_through(FakeVehicle(lost=100), phases, 0, Majority({}, {}), Silence())


@given(st.lists(st.lists(KINDS, max_size=30), min_size=1, max_size=4), st.integers(1, 8))
def test_chosen_questions_are_of_the_frame_and_distinct(frames, count):
    chooser = Chooser(Majority({}, {}))
    for frame in frames:
        questions = [LabelledQuestion(f'{place}?', answer, kind, 0, '', '')
                     for place, (kind, answer) in enumerate(frame)]
        chosen = chooser.choose(questions, count)
        assert len(chosen) == min(count, len(questions)) == len({item.text for item in chosen})
        assert all(item in questions for item in chosen)


def test_types_and_answers_come_up_evenly_over_frames():
    chooser, chosen = Chooser(Majority({}, {})), []
    for _ in range(3):
        chosen += chooser.choose(QUESTIONS, 12)
    assert set(Counter(item.type for item in chosen).values()) == {12}
    assert Counter(item.answer for item in chosen) == {'yes': 6, 'no': 6, '0': 4, '1': 4, '2': 4, 'car': 6,
                                                     'bus': 6}


def test_half_of_the_questions_are_those_that_the_majority_gets_wrong():
    expected = [LabelledQuestion(f'{place}?', 'yes', 'exist', 0, '', '') for place in range(20)]
    unexpected = [LabelledQuestion(f'{place}??', 'no', 'exist', 0, '', '') for place in range(3)]
    chooser = Chooser(Majority({}, {'exist': 'yes'}))
    assert Counter(item.answer for item in chooser.choose([*expected, *unexpected], 6)) == {'yes': 3, 'no': 3}
    assert Counter(item.answer for item in chooser.choose(expected, 6)) == {'yes': 6}
    assert Counter(item.answer for item in chooser.choose([*expected, *unexpected], 3)) == {'no': 3}


def test_a_score_of_nothing_is_no_number():
    score = Score.of([])
    assert score.asked == 0 and score.percent != score.percent and score.guess_percent != score.guess_percent


def question(text: str, answer: str, kind: str = 'exist') -> LabelledQuestion:
    return LabelledQuestion(text, answer, kind, 0, '', '')


def test_the_most_frequent_answer_of_a_text_else_of_its_type():
    majority = Majority.of([question('a?', 'yes'), question('a?', 'yes'), question('a?', 'no'),
                            question('b?', 'no'), question('c?', 'no'), question('n?', '3', 'count')])
    assert majority.guess(question('a?', 'no')) == 'yes'
    assert majority.guess(question('never asked?', 'yes')) == 'no'
    assert majority.guess(question('never asked?', '1', 'count')) == '3'
    assert majority.guess(question('what?', 'car', 'object')) == ''


def test_it_is_counted_once(monkeypatch, tmp_path):
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path))
    monkeypatch.setattr(demo_drive, 'MAJORITY_SEEDS', range(2))
    monkeypatch.setattr(demo_drive, 'MAJORITY_FRAMES', 2)
    counted = count_majority(NEARBY, 4)
    assert set(counted.by_type) >= {'exist', 'count'} and set(counted.by_text.values()) <= set(ANSWERS)
    assert len(counted.by_text) > 10
    monkeypatch.setattr(demo_drive, 'scene_questions', None)
    assert count_majority(NEARBY, 4) == counted
