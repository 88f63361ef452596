"""What is shown of the demo: the live table, the lines of a log, tables and pictures."""
from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mpnp_ros.cli.exchanges import Exchange
from mpnp_world.demo.drive import BOTH, LABELLED, PHASES, Costs, Drive, DriveEvent, DriveMoment, Phase, Sight
from mpnp_world.demo.picture import draw_drive
from mpnp_world.demo.real_drive import RealAnswers, RealMoment, find_drive
from mpnp_world.demo.robot import Diary, Running, Sense
from mpnp_world.demo.screen import (
    BAR,
    EMPTY,
    FULL,
    LiveView,
    PlainView,
    bar,
    conversation,
    make_view,
    progress,
    real_line,
)
from mpnp_world.demo.tables import adaptations_table, directions_line, examples, phases_table, types_table

STEPS = PHASES[LABELLED]
DAY, NIGHT, PLUGGED = STEPS[0], STEPS[2], STEPS[3]
COSTS = Costs(LABELLED, 40., 200, 2e12, 900_000_000, .43, .66)


class FakeDiary(Diary):
    """Says what it is given."""

    decision, running = 'lidar is trained', None
    senses = (Sense('camera', 'degraded', '000001', 'cam_front is dark'), Sense('lidar', 'absent', '', ''))


def exchange(answer: str = 'yes', kind: str = 'exist', guess: str = 'no') -> Exchange:
    return Exchange(f'{kind}, {answer}?', kind, 'yes', guess, answer, .5, ('camera',), .25)


def jpeg(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.new('RGB', (96, 54), (grey, grey, grey)).save(stream, 'jpeg')
    return stream.getvalue()


def moment(phase: Phase, seconds: float, right: int, grey: int = 20) -> DriveMoment:
    """A key frame about which 4 questions were asked."""
    sight = Sight(1, dict.fromkeys(('cam_front_left', 'cam_front', 'cam_front_right'), jpeg(grey)),
                  np.random.default_rng(0).uniform(-20, 20, (500, 3)))
    exchanges = [exchange('yes' if place < right else 'no') for place in range(4)]
    return DriveMoment(phase, seconds, exchanges, sight)


@pytest.fixture
def drive() -> Drive:
    """By day, then at night, where a LiDAR is plugged in at 7 s."""
    return Drive(STEPS, [moment(DAY, 2., 3, 220), moment(DAY, 4., 4, 220), moment(NIGHT, 6., 1, 20)],
                 [DriveEvent(0., 'phase', DAY.title), DriveEvent(4., 'phase', STEPS[1].title),
                  DriveEvent(4.1, 'phase', NIGHT.title)])


@pytest.fixture
def adapted(drive) -> Drive:
    """The same, with links that were trained while a question was asked."""
    busy = Exchange('?', 'exist', 'yes', 'no', 'yes', .5, ('camera',), .5, training=True)
    drive.moments += [DriveMoment(PLUGGED, 9., [busy], Sight(2)), moment(PLUGGED, 60., 2)]
    drive.events += [DriveEvent(7., 'phase', PLUGGED.title), DriveEvent(8., 'stage', 'training'),
                     DriveEvent(48., 'stage', 'idle'), DriveEvent(49., 'links', 'lidar 000001')]
    drive.adaptations = [COSTS]
    return drive


def shown(part: object) -> str:
    console = Console(file=io.StringIO(), width=150)
    console.print(part)
    return console.file.getvalue()


def test_bars_are_as_long_as_the_share():
    assert bar(0.).plain == EMPTY * BAR and bar(100.).plain == FULL * BAR
    assert bar(50.).plain.count(FULL) == BAR // 2


def test_the_live_table_counts_the_present_key_frame_too(drive):
    text = shown(progress(drive, NIGHT, [exchange(), exchange()]))
    night = next(line for line in text.splitlines() if line.startswith('▶'))
    assert 'night' in night and night.split()[-3:] == ['50', '0', '6']
    assert sum(EMPTY * BAR in line for line in text.splitlines()) == len(STEPS) - 2


def test_in_a_terminal_there_is_one_screen(drive):
    console = Console(file=io.StringIO(), force_terminal=True, width=150, height=50)
    diary = FakeDiary()
    with make_view(console, diary) as view:
        assert isinstance(view, LiveView)
        view.entered(NIGHT)
        view.answered(drive, NIGHT, [exchange('no')])
        first = shown(view._screen())
        diary.running = Running('training', 120, 400, 61., COSTS)
        view.answered(drive, NIGHT, [exchange('no'), exchange()])
        view.passed(drive, drive.moments[-1])
        second = shown(view._screen())
    assert first.startswith('night, camera') and 'key frame 4' in first
    assert 'exist, no?' in first and '✗' in first and 'exist, yes?' not in first
    assert 'cam_front is dark' in first and 'no links' in first and 'lidar is trained' in first
    assert 'held-out' not in first and 'key frame 3' in second and '250 ms' in second and '✓' in second
    assert '120 of 400, 61 s left; labelled, 200 steps, held-out 43.0 % -> 66.0 %, 2.00 TMACs' in second
    assert 'events' in console.file.getvalue()


def test_a_low_terminal_shows_fewer_questions(drive):
    def lines(height: int) -> int:
        console = Console(file=io.StringIO(), force_terminal=True, width=150, height=height)
        view = make_view(console, FakeDiary())
        for _ in range(10):
            view.answered(drive, NIGHT, [exchange()])
        return shown(view._screen()).count('exist, yes?')

    assert 0 == lines(15) < lines(24) < lines(60) == 8


def test_a_log_gets_a_line_for_every_key_frame(drive, console):
    with make_view(console, Diary()) as view:
        assert isinstance(view, PlainView)
        view.entered(DAY)
        view.answered(drive, DAY, [exchange()])
        view.passed(drive, drive.moments[0])
    lines = console.file.getvalue().splitlines()
    assert lines[0] == 'day, camera' and len(lines) == 2
    assert '3 of  4 right, phase so far  88 % of 8, majority   0 %' in lines[1]
    assert 'camera: exist, no? no (yes)' in lines[1]


def test_a_log_says_once_what_has_happened(adapted, console):
    adapted.events.append(DriveEvent(5., 'state', 'camera degraded'))
    with make_view(console, Diary()) as view:
        for moment in adapted.moments[-2:]:
            view.passed(adapted, moment)
    told = [line.split('* ')[1] for line in console.file.getvalue().splitlines() if '* ' in line]
    assert told == ['adaptation: training', 'LiDAR: links 000001 in use', 'camera: degraded',
                    'adaptation over: labelled, 200 steps, held-out 43.0 % -> 66.0 %, 2.00 TMACs, 900.0 MB']


def test_the_table_of_phases_says_what_answers_rested_on(drive):
    text = shown(phases_table(drive))
    day = next(line for line in text.splitlines() if '│ day, camera' in line)
    assert '7 of 8' in day and '53 to 98' in day and '250 ms' in day
    assert '1 of 4' in text and '0 of 0' in text


def test_the_table_of_adaptations_says_what_they_took_and_gave(adapted):
    def row() -> list[str]:
        return [cell.strip() for line in shown(adaptations_table(adapted)).splitlines()
                if line.startswith('│') for cell in line.strip('│').split('│')]

    assert row() == ['labelled', '-', '42 s', '40 s', '200', '2.00 TMACs', '900.0 MB', '43.0 % -> 66.0 %',
                     '500 ms', '250 ms', '2.00']
    adapted.adaptations = []
    assert row() == ['under way', '42 s', *'------', '500 ms', '250 ms', '2.00']


def test_examples_are_of_many_types():
    exchanges = [*(exchange() for _ in range(9)), exchange(kind='count'), exchange('no', 'status')]
    assert {example.type for example in examples(exchanges, True)} == {'exist', 'count'}
    assert len(examples(exchanges, True)) == 4
    assert [example.type for example in examples(exchanges, False)] == ['status']


def test_types_are_counted_apart_and_together():
    both = [exchange(), exchange('no'), exchange(kind='count')]
    text = shown(types_table({BOTH: both, ('camera',): [exchange('no')] * 2 + [exchange(kind='count')]}))
    assert 'status' not in text
    cells = {line.split()[1]: line.replace('│', ' ').split()[1:] for line in text.splitlines()
             if line.startswith('│')}
    assert cells['exist'] == ['2', '50', '0', '0']
    assert cells['all'] == ['3', '67', '33', '0']


def test_answers_about_a_direction_are_held_against_another_one():
    said = directions_line([exchange(), exchange('no'), exchange()], ['yes', 'no', None])
    assert said.startswith('2 questions name a direction: 1 right;') and ' 2 of these answers' in said
    assert directions_line([exchange()], [None]) == ''


def test_a_real_key_frame_is_one_line(standin):
    drive = find_drive(standin, whole=False)
    answers = RealAnswers(drive, [RealMoment(drive.frames[0], Sight(1), {
        BOTH: [exchange(), exchange()], ('camera',): [exchange('no'), exchange()]}, ['yes', 'no'])])
    assert real_line(answers).strip() == ('key frame  1 of 1: right of  2: camera + LiDAR 2, camera 1, '
                                          'majority 0')


def test_why_an_adaptation_was_given_up_is_shown(drive):
    drive.events.append(DriveEvent(7., 'given up', 'the new links are worse'))
    plain, screen = Console(file=io.StringIO(), width=132), FakeDiary()
    with make_view(plain, Diary()) as view:
        view.passed(drive, drive.moments[-1])
    assert 'adaptation given up: the new links are worse' in plain.file.getvalue()
    console = Console(file=io.StringIO(), force_terminal=True, width=150, height=50)
    live = make_view(console, screen)
    live.passed(drive, drive.moments[-1])
    assert 'adaptation given up: the new links are worse' in shown(live._screen())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == 'PNG'
        return np.asarray(image.convert('RGB')).astype(int)


def test_the_drive_as_a_picture(drive, tmp_path):
    path = draw_drive(drive, tmp_path / 'new' / 'demo.png')
    shades = pixels(path)
    assert shades.shape == (1000, 1600, 3)
    by_day, by_night = shades[150, 300], shades[150, 500]
    assert by_day.min() > 180 and by_night.max() < 60
    nothing = draw_drive(Drive(STEPS), tmp_path / 'nothing.png')
    assert pixels(nothing).std() < shades.std()


def test_the_picture_shows_when_links_were_trained(adapted, tmp_path):
    def orange(drawn: Drive) -> int:
        shades = pixels(draw_drive(drawn, tmp_path / 'demo.png'))[700:820]
        return int(((shades[..., 0] > 150) & (shades[..., 1] < 120) & (shades[..., 2] < 60)).sum())

    before = Drive(adapted.phases, adapted.moments[:3], adapted.events[:3])
    assert orange(before) == 0 < orange(adapted)


def test_pictures_of_real_frames_have_a_name_that_git_ignores():
    ignored = Path(__file__).parents[3].joinpath('.gitignore').read_text().split()
    assert {'docs/results/demo_nuscenes.png', 'docs/results/demo_real.png'} <= set(ignored)
    assert 'docs/results/demo.png' not in ignored


def test_what_was_counted_stands_beside_the_answer():
    told = replace(exchange(), counted='2.1 of car to the left by camera')
    shown = Console(width=160, record=True, file=io.StringIO())
    shown.print(conversation([told, exchange('no')]))
    assert '2.1 of car to the left by camera' in shown.export_text()
