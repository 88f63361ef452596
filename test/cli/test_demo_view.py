"""What is shown of the demo: the live table, the lines of a log, tables and pictures."""
from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mpnp_ros.cli import demo_tables
from mpnp_ros.cli.demo_drive import BOTH, PHASES, Drive, Exchange, Moment, Phase, Sight
from mpnp_ros.cli.demo_picture import draw_drive, draw_key_frame
from mpnp_ros.cli.demo_scene import find_scene
from mpnp_ros.cli.demo_tables import examples, measured, phases_table, types_table
from mpnp_ros.cli.demo_view import BAR, EMPTY, FULL, LiveView, PlainView, bar, make_view, progress

DAY, NIGHT = PHASES[0], PHASES[2]


def exchange(answer: str = 'yes', kind: str = 'exist', guess: str = 'no') -> Exchange:
    return Exchange(f'{kind}, {answer}?', kind, 'yes', guess, answer, .5, ('camera',), .25)


def jpeg(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.new('RGB', (96, 54), (grey, grey, grey)).save(stream, 'jpeg')
    return stream.getvalue()


def moment(phase: Phase, seconds: float, right: int, grey: int = 0) -> Moment:
    """A key frame about which 4 questions were asked."""
    sight = Sight(1, dict.fromkeys(('cam_front_left', 'cam_front', 'cam_front_right'), jpeg(grey)),
                  np.random.default_rng(0).uniform(-20, 20, (500, 3)))
    return Moment(phase, seconds, [exchange('yes' if place < right else 'no') for place in range(4)], sight)


@pytest.fixture
def drive() -> Drive:
    return Drive(PHASES, [moment(DAY, 2., 3, 220), moment(DAY, 4., 4, 220), moment(NIGHT, 6., 1, 20)])


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
    assert sum(EMPTY * BAR in line for line in text.splitlines()) == len(PHASES) - 2


def test_in_a_terminal_the_table_is_drawn_anew_after_every_answer(drive):
    console = Console(file=io.StringIO(), force_terminal=True, width=150)
    with make_view(console) as view:
        assert isinstance(view, LiveView)
        view.entered(NIGHT)
        view.answered(drive, NIGHT, [exchange('no')])
        first = console.file.getvalue()
        view.answered(drive, NIGHT, [exchange('no'), exchange()])
    assert 'exist, no?' in first and '✗' in first and 'exist, yes?' not in first
    assert '✓' in console.file.getvalue() and '250 ms' in console.file.getvalue()


def test_a_log_gets_a_line_for_every_key_frame(drive, console):
    with make_view(console) as view:
        assert isinstance(view, PlainView)
        view.entered(DAY)
        view.answered(drive, DAY, [exchange()])
        view.passed(drive, drive.moments[0])
    lines = console.file.getvalue().splitlines()
    assert lines[0] == 'day, camera' and len(lines) == 2
    assert '3 of  4 right, phase so far  88 % of 8, majority   0 %' in lines[1]
    assert 'exist, no? no (yes)' in lines[1]


def test_the_table_of_phases_says_what_answers_rested_on(drive):
    text = shown(phases_table(drive, {}))
    assert '7 of 8' in text and '1 of 4' in text and '0 of 0' in text and 'accuracy.md' not in text
    assert '71.5' in shown(phases_table(drive, {'camera_day': 71.5}))


def test_figures_of_the_study_are_read_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_tables, 'source_folder', lambda: tmp_path)
    assert measured() == {}
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'docs' / 'accuracy.json').write_text(json.dumps(
        {'camera_day': {'mean': 70.5, 'ci95': [69, 72], 'n': 10}, 'seeds': [0, 1]}))
    assert measured() == {'camera_day': 70.5}


def test_examples_are_of_many_types():
    exchanges = [*(exchange() for _ in range(9)), exchange(kind='count'), exchange('no', 'status')]
    assert {one.type for one in examples(exchanges, True)} == {'exist', 'count'}
    assert len(examples(exchanges, True)) == 4
    assert [one.type for one in examples(exchanges, False)] == ['status']


def test_types_are_counted_apart_and_together():
    both = [exchange(), exchange('no'), exchange(kind='count')]
    text = shown(types_table({BOTH: both, ('camera',): [exchange('no')] * 2 + [exchange(kind='count')]}))
    assert 'status' not in text
    cells = {line.split()[1]: line for line in text.splitlines() if ' of ' in line}
    assert '1 of 2' in cells['exist'] and '2 of 3' in cells['all'] and '0 of 2' in cells['exist']


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == 'PNG'
        return np.asarray(image.convert('RGB')).astype(int)


def test_the_drive_as_a_picture(drive, tmp_path):
    path = draw_drive(drive, tmp_path / 'new' / 'demo.png')
    shades = pixels(path)
    assert shades.shape == (1160, 1600, 3)
    height = len(shades)
    by_day, by_night = shades[height // 6, 300], shades[int(.42 * height), 300]
    assert by_day.min() > 180 and by_night.max() < 60
    nothing = draw_drive(Drive(PHASES), tmp_path / 'nothing.png')
    assert pixels(nothing).std() < shades.std()


def test_the_real_key_frame_as_a_picture(standin, tmp_path):
    scene = find_scene(standin)

    def drawn(answer: str) -> np.ndarray:
        answers = {plugged: [exchange(answer), exchange(answer, 'count')]
                   for plugged in (BOTH, ('camera',), ('lidar',))}
        shades = pixels(draw_key_frame(scene, answers, tmp_path / f'{answer}.png'))[600:, :780]
        return np.array([(shades[..., 1] > shades[..., 0] + 40).sum(),
                         (shades[..., 0] > shades[..., 1] + 40).sum()])

    (green, no_red), (no_green, red) = drawn('yes'), drawn('no')
    assert green > 50 and red > 50 and no_red == no_green == 0


def test_pictures_of_nuscenes_have_a_name_that_git_ignores():
    ignored = Path(__file__).parents[2].joinpath('.gitignore').read_text().split()
    assert 'docs/demo_nuscenes.png' in ignored and 'docs/demo.png' not in ignored
