"""The drive of the demo, without a vehicle: what is chosen, counted and left out."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.cli.demo_drive import (
    BOTH,
    MOST_SKIPPED,
    PHASES,
    QUESTIONS_A_FRAME,
    Chooser,
    Exchange,
    Phase,
    Score,
    Sight,
    drive_through,
)
from mpnp_ros.cli.demo_majority import Majority
from mpnp_ros.cli.session import NotAnsweringError
from mpnp_ros.nuscenes.questions import LabelledQuestion

TYPES = {'exist': ('yes', 'no'), 'count': ('0', '1', '2'), 'object': ('car', 'bus')}
QUESTIONS = [LabelledQuestion(f'{kind} {number}?', answers[number % len(answers)], kind, 0, '', 'sample')
             for kind, answers in TYPES.items() for number in range(20)]
KINDS = st.sampled_from([(kind, answer) for kind, answers in TYPES.items() for answer in answers])


class FakeVehicle:
    """Shows the same questions at every key frame; answers rightly while the LiDAR is plugged."""

    def __init__(self, lost: int = 0) -> None:
        self.entered: list[Phase] = []
        self.lost, self.frames = lost, 0

    def enter(self, phase: Phase) -> None:
        self.entered.append(phase)

    def next_frame(self, plugged: Sequence[str]) -> tuple[Sight, Sequence[LabelledQuestion]] | None:
        assert tuple(plugged) == self.entered[-1].plugged
        self.lost -= 1
        if self.lost >= 0:
            return None
        self.frames += 1
        return Sight(self.frames), QUESTIONS

    def ask(self, question: LabelledQuestion, guess: str, plugged: Sequence[str], stamp_ns: int) -> Exchange:
        assert stamp_ns == self.frames
        answer = question.answer if 'lidar' in plugged else 'unknown'
        return Exchange(question.text, question.type, question.answer, guess, answer, .5, tuple(plugged), .1)


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


def test_every_phase_is_driven_and_asked_about():
    vehicle, view = FakeVehicle(), Silence()
    drive = drive_through(vehicle, PHASES, 0., Majority.of(QUESTIONS), view)
    assert vehicle.entered == list(PHASES) and [moment.phase for moment in drive.moments] == list(PHASES)
    assert view.told == {'entered': 7, 'answered': 7 * QUESTIONS_A_FRAME, 'passed': 7}
    for phase, score in drive.scores():
        assert score.asked == QUESTIONS_A_FRAME
        assert score.right == (score.asked if 'lidar' in phase.plugged else 0)
        assert score.guessed == score.asked


def test_the_story_is_from_day_into_night_and_back():
    lights = [phase.light for phase in PHASES]
    assert lights == ['day', 'dusk', 'night', 'night', 'night', 'dusk', 'day']
    assert [phase.plugged for phase in PHASES[2:5]] == [('camera',), BOTH, ('lidar',)]
    assert len({phase.name for phase in PHASES}) == len(PHASES)
    assert PHASES[3].figure == 'camera_lidar_night'


def test_key_frames_without_tokens_are_left_out_but_not_for_ever():
    drive = drive_through(FakeVehicle(lost=2), PHASES[:1], 0., Majority({}, {}), Silence())
    assert drive.skipped == 2 and len(drive.moments) == 1
    with pytest.raises(NotAnsweringError, match=f'{MOST_SKIPPED + 1} key frames came without tokens'):
        drive_through(FakeVehicle(lost=100), PHASES[:1], 0., Majority({}, {}), Silence())


@given(st.lists(st.lists(KINDS, max_size=30), min_size=1, max_size=4), st.integers(1, 8))
def test_chosen_questions_are_of_the_frame_and_distinct(frames, count):
    chooser = Chooser(Majority({}, {}))
    for frame in frames:
        questions = [LabelledQuestion(f'{place}?', answer, kind, 0, '', '')
                     for place, (kind, answer) in enumerate(frame)]
        chosen = chooser.choose(questions, count)
        assert len(chosen) == min(count, len(questions)) == len({one.text for one in chosen})
        assert all(one in questions for one in chosen)


def test_types_and_answers_come_up_evenly_over_frames():
    chooser, chosen = Chooser(Majority({}, {})), []
    for _ in range(3):
        chosen += chooser.choose(QUESTIONS, 12)
    assert set(Counter(one.type for one in chosen).values()) == {12}
    assert Counter(one.answer for one in chosen) == {'yes': 6, 'no': 6, '0': 4, '1': 4, '2': 4, 'car': 6,
                                                    'bus': 6}


def test_half_of_the_questions_are_those_that_the_majority_gets_wrong():
    expected = [LabelledQuestion(f'{place}?', 'yes', 'exist', 0, '', '') for place in range(20)]
    unexpected = [LabelledQuestion(f'{place}??', 'no', 'exist', 0, '', '') for place in range(3)]
    chooser = Chooser(Majority({}, {'exist': 'yes'}))
    assert Counter(one.answer for one in chooser.choose([*expected, *unexpected], 6)) == {'yes': 3, 'no': 3}
    assert Counter(one.answer for one in chooser.choose(expected, 6)) == {'yes': 6}
    assert Counter(one.answer for one in chooser.choose([*expected, *unexpected], 3)) == {'no': 3}


def test_a_score_of_nothing_is_no_number():
    score = Score.of([])
    assert score.asked == 0 and score.percent != score.percent and score.guess_percent != score.guess_percent
