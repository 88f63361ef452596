"""What happened when on the drive of the demo."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.cli.exchanges import Exchange
from mpnp_world.demo.drive import (
    BOTH,
    CAMERA,
    LABELLED,
    LIDAR,
    PHASES,
    Costs,
    Drive,
    DriveEvent,
    DriveMoment,
    Sight,
)
from mpnp_world.demo.picture import label_rows
from mpnp_world.demo.timeline import (
    Course,
    adaptations,
    milestones,
    moving_sums,
    phase_spans,
    plugged_in,
)

STEPS = PHASES[LABELLED]
TRIED = Costs(LABELLED, 10., 0, 1e12, 500, .6, .6)
TRAINED = Costs(LABELLED, 40., 200, 2e12, 900, .6, .7)


def told(*events: tuple[float, str, str]) -> list[DriveEvent]:
    return [DriveEvent(*event) for event in sorted([*events, *(
        (20. * place, 'phase', phase.title) for place, phase in enumerate(STEPS))])]


def exchange(used: tuple[str, ...], right: bool = True, training: bool = False) -> Exchange:
    return Exchange('?', 'exist', 'yes', 'no', 'yes' if right else 'no', .5, used, .1, training)


@pytest.fixture
def drive() -> Drive:
    """A trial from 62 s on, a training from 80 s on."""
    moments = [DriveMoment(phase, 20. * place + 20, [exchange((CAMERA,))], Sight(1))
               for place, phase in enumerate(STEPS)]
    events = told(
        (1., 'state', 'camera healthy'), (42., 'state', 'camera degraded'), (60.5, 'state', 'lidar probing'),
        (61., 'state', 'lidar healthy'), (62., 'stage', 'reading'), (62.1, 'state', 'lidar adapting'),
        (70., 'stage', 'idle'), (70.2, 'links', 'lidar 000001'), (70.3, 'state', 'lidar healthy'),
        (80.5, 'stage', 'reading'), (85., 'links', 'lidar 000002'), (86., 'stage', 'training'),
        (95., 'stage', 'idle'), (95.1, 'links', 'lidar 000003'), (104., 'state', 'camera healthy'))
    return Drive(STEPS, moments, events, [TRIED, TRAINED])


def test_milestones_are_what_was_noticed_decided_and_done(drive):
    assert [(milestone.seconds, milestone.text) for milestone in milestones(drive)] == [
        (20., 'dusk'), (40., 'night falls'), (42., 'camera degraded'), (60., 'LiDAR plugged in'),
        (61., 'LiDAR healthy'), (62., 'initial links evaluated'), (70.2, 'first links in use'),
        (80.5, 'training begins'), (95.1, 'trained links in use'), (100., 'morning'),
        (104., 'camera healthy again')]


def test_links_that_come_in_use_while_training_goes_on_are_not_the_trained_ones(drive):
    tried, trained = adaptations(drive)
    assert (tried.begin, tried.end, tried.costs) == (62., 70., TRIED)
    assert (tried.begun_in_use, tried.trained_in_use) == (70.2, None)
    assert (trained.begun_in_use, trained.trained_in_use) == (85., 95.1)
    assert plugged_in(drive) == 60.


def test_a_training_that_gives_nothing_ends_all_the_same(drive):
    drive.events = [event for event in drive.events if event.text != 'lidar 000003']
    assert milestones(drive)[-3].text == 'training ends'
    drive.events = [event for event in drive.events if (event.seconds, event.text) != (95., 'idle')]
    drive.adaptations.pop()
    tried, unfinished = adaptations(drive)
    assert tried.costs == TRIED and unfinished.costs is None and unfinished.end == 120.
    assert 'training ends' not in [milestone.text for milestone in milestones(drive)]


def test_a_drive_that_has_not_begun_has_no_milestones():
    nothing = Drive(STEPS)
    assert milestones(nothing) == adaptations(nothing) == phase_spans(nothing) == []
    assert plugged_in(nothing) is None and len(Course.of(nothing).seconds) == 0


def test_answers_are_spread_between_key_frames(drive):
    moments = [DriveMoment(STEPS[0], 4., [exchange((CAMERA,)), exchange((CAMERA,), False)], Sight(1)),
               DriveMoment(STEPS[3], 10., [
                   exchange((CAMERA,), training=True), exchange((LIDAR,), training=True), exchange(BOTH)],
                           Sight(2))]
    course = Course.of(Drive(STEPS, moments))
    assert course.seconds.tolist() == [2., 4., 6., 8., 10.]
    assert course.right.tolist() == [True, False, True, True, True] and not course.guessed.any()
    assert course.runs(course.training) == [(4., 8.)]
    assert course.runs(course.rests_on(CAMERA)) == [(0., 6.), (8., 10.)]
    assert course.runs(course.rests_on(LIDAR)) == [(6., 10.)]


@given(st.lists(st.booleans()), st.integers(1, 50))
def test_moving_sums_are_of_the_last_so_many(flags, window):
    expected = [sum(flags[max(0, place + 1 - window):place + 1]) for place in range(len(flags))]
    assert moving_sums(np.array(flags, bool), window).tolist() == expected


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(1, 200)), max_size=20))
def test_labels_never_meet_nor_are_crossed_by_lines(labels):
    spans = sorted((begin, begin + length) for begin, length in labels)
    rows = label_rows(spans)
    for place, (begin, end) in enumerate(spans):
        for other in range(place + 1, len(spans)):
            if begin <= spans[other][0] <= end:
                assert rows[other] < rows[place]
    assert not rows or min(rows) == 0
