"""The picture of the drive, with its timeline."""
from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mpnp_ros.cli.exchanges import interval, milliseconds, p95
from mpnp_ros.cli.output import UNKNOWN
from mpnp_ros.training.evaluation import Share
from mpnp_world.demo.drive import BOTH, CAMERA, LIDAR, Drive, DriveMoment, sensors
from mpnp_world.demo.tables import adaptation_cells, score_cells
from mpnp_world.demo.timeline import Course, Milestone, adaptations, milestones, moving_sums, phase_spans
from mpnp_world.sensors.rig import LIDAR as WORLD_LIDAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

WINDOW = 40
"""Questions in the moving mean."""
INK, FAINT, RIGHT, BUSY = '#1f2328', '#6e7781', '#1a7f37', '#bc4c00'
SKY = {'day': '#fff8db', 'dusk': '#f6dcc8', 'night': '#d5dced'}
COLOURS = {CAMERA: '#0969da', LIDAR: '#8250df'}
LEFT, WIDE = .055, .93
LATENCY, RESTS, BOTTOM, TOP = (.055, .115), (.195, .095), .315, .7
"""Shares of the height: lowest edge and height of strips, lowest edge of the uppermost, end of labels."""
ROW, GAP = .0205, 8.
"""Height of a row of labels, and pixels between two labels in it."""

FRONT = 'cam_front'
WIDTH, DPI, CAPTION = 480, 100, 52
NEAR = 27.
"""Metres shown to either side in the view from above."""
WRONG = '#cf222e'


def draw_timeline(figure: Figure, canvas: FigureCanvasAgg, drive: Drive) -> None:
    """Draw accuracy, sensors in use, latency and milestones over time into the lower part of the figure."""
    course, end = Course.of(drive), max(drive.moments[-1].seconds if drive.moments else 0., 1.)
    found = milestones(drive)
    spans = _label_spans(figure, canvas, found, end)
    rows = label_rows(spans)
    strips = [(BOTTOM, TOP - BOTTOM - ROW * (max(rows, default=0) + 1)), RESTS, LATENCY]
    accuracy, rests, latency = axes = [figure.add_axes((LEFT, low, WIDE, high)) for low, high in strips]
    for strip in axes:
        strip.set(xlim=(0, end))
        for phase, begin, finish in phase_spans(drive):
            strip.axvspan(begin, finish, color=SKY[phase.light], lw=0, zorder=0)
        for milestone in found:
            strip.axvline(milestone.seconds, color=FAINT, lw=.8, zorder=1)
        leave_open(strip)
    _accuracy(accuracy, course)
    _rests(rests, course)
    _latency(latency, course)
    place = accuracy.get_position()
    for milestone, (begin, _), row in zip(found, spans, rows, strict=True):  # the label, with a line down
        low = place.y1 + ROW * row
        accuracy.plot([milestone.seconds] * 2, [1, 1 + (low + .7 * ROW - place.y1) / place.height], lw=.8,
                      color=FAINT, transform=accuracy.get_xaxis_transform(), clip_on=False)
        figure.text((begin + 3) / figure.bbox.width, low + .2 * ROW, milestone.text, fontsize=9, color=INK,
                    bbox={'facecolor': 'white', 'pad': .5, 'linewidth': 0})
    latency.set_xlabel('seconds of the drive; at every key frame the world waits until its questions are '
                       'answered', color=INK, fontsize=9)


def label_rows(spans: Sequence[tuple[float, float]]) -> list[int]:
    """Return a row for every label, so that labels do not overlap each other or another one's line.

    spans: start and end of each label, sorted by start; its line goes down from the start.
    """
    rows = [0] * len(spans)
    for place in reversed(range(len(spans))):
        later = range(place + 1, len(spans))
        rows[place] = 1 + max((rows[other] for other in later if spans[other][0] <= spans[place][1]),
                              default=-1)
    return rows


def _label_spans(figure: Figure, canvas: FigureCanvasAgg, found: Sequence[Milestone],
                 end: float) -> list[tuple[float, float]]:
    """Return the start and end of each label in pixels."""
    width = figure.bbox.width
    begins = [(LEFT + WIDE * milestone.seconds / end) * width for milestone in found]
    lengths = []
    for milestone in found:
        text = figure.text(0, 0, milestone.text, fontsize=9)
        lengths.append(text.get_window_extent(canvas.get_renderer()).width)
        text.remove()
    edge = width - 2 * GAP
    return [(min(begin, edge - length), min(begin + length, edge) + GAP)
            for begin, length in zip(begins, lengths, strict=True)]


def _accuracy(axes: Axes, course: Course) -> None:
    """Draw the moving mean with its interval, and that of the majority."""
    asked = moving_sums(np.ones(len(course.exchanges), bool), WINDOW)
    right, guessed = moving_sums(course.right, WINDOW), moving_sums(course.guessed, WINDOW)
    known = asked >= min(WINDOW, 16)
    seconds = course.seconds[known]
    intervals = np.array([Share(*pair).interval for pair in zip(right[known].tolist(), asked[known].tolist(),
                                                                strict=True)]).reshape(-1, 2)
    axes.fill_between(seconds, *100 * intervals.T, color=RIGHT, alpha=.15, lw=0, zorder=2,
                      label='95 % interval')
    axes.plot(seconds, 100 * (guessed / asked)[known], color=INK, lw=1.1, ls='--', zorder=3,
              label='the majority')
    axes.plot(seconds, 100 * (right / asked)[known], color=RIGHT, lw=2.4, zorder=4,
              label=f'right answers, of the last {WINDOW}')
    axes.set(ylim=(0, 100))
    axes.tick_params(labelbottom=False)
    axes.set_ylabel('right, %', color=INK, fontsize=9.5)
    axes.legend(fontsize=9, loc='lower right', ncols=3, framealpha=.9)


def _rests(axes: Axes, course: Course) -> None:
    """Draw the sensors used by answers, and the trainings."""
    bars = [(sensors([name]), COLOURS[name], course.rests_on(name)) for name in BOTH]
    for row, (_, colour, flags) in enumerate([*bars, ('', BUSY, course.training)]):
        axes.broken_barh([(begin, end - begin) for begin, end in course.runs(flags)], (row - .32, .64),
                         color=colour, zorder=3)
    axes.set(ylim=(2.6, -.6))
    axes.set_yticks(range(3), [*(f'on {name}' for name, *_ in bars), 'training'])
    axes.tick_params(labelbottom=False, left=False)
    axes.set_title('sensors used by answers, and trainings', loc='left', fontsize=9, color=INK,
                   pad=3)


def _latency(axes: Axes, course: Course) -> None:
    """Draw the latency of every answer on a logarithmic axis."""
    said = []
    for training, colour, name in ((False, INK, 'idle'), (True, BUSY, 'while training')):
        chosen = course.training == training
        axes.scatter(course.seconds[chosen], 1e3 * course.latency[chosen], s=5, color=colour, alpha=.6, lw=0,
                     zorder=3)
        said.append(f'{name} {milliseconds(p95(course.latency[chosen]))}')
    shown = np.clip(1e3 * course.latency, 1., None)
    axes.set(yscale='log', ylim=(min([10., *shown]), max([1000., *shown])))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.set_ylabel('ms', color=INK, fontsize=9.5)
    axes.set_title(f'latency of answers; 95 % of them within: {", ".join(said)}', loc='left', fontsize=9,
                   color=INK, pad=3)


def draw_drive(drive: Drive, path: Path) -> Path:
    """Write the picture of the drive as a PNG and return its path."""
    figure, canvas = new_figure((16, 10))
    for place, light in ((0, 'day'), (1, 'night')):
        # The first key frame by day, the last at night, of those with the most questions.
        moment = max((moment for moment in (drive.moments if light == 'day' else drive.moments[::-1])
                      if moment.phase.light == light),
                     key=lambda moment: (len(moment.exchanges), len(moment.sight.images)), default=None)
        axes = figure.add_axes((LEFT + .19 * place, .78, .18, .162))
        show_image(axes, moment.sight.images.get(FRONT) if moment else None, FRONT)
        _talk(axes, light, moment)
    above = figure.add_axes((LEFT + .38, .78, .18, .162))
    show_sweep(above, WORLD_LIDAR.pose.apply(moment.sight.points) if moment else np.zeros((0, 3)), NEAR,
           NEAR * 9 / 16)
    _phases(figure.add_axes((LEFT + .58, .735, .35, .215)), drive)
    draw_timeline(figure, canvas, drive)
    figure.suptitle('mpnp_ros: a drive through the embedded world, from day into night; what it noticed, '
                    'decided and trained by itself', x=LEFT, ha='left', fontsize=13, color=INK)
    return write_png(canvas, path)


def new_figure(size: tuple[float, float]) -> tuple[Figure, FigureCanvasAgg]:
    """Return an empty figure of a size in inches, and its canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, facecolor='white')
    return figure, FigureCanvasAgg(figure)


def write_png(canvas: FigureCanvasAgg, path: Path) -> Path:
    """Write a PNG and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.print_png(path)
    return path


def show_image(axes: Axes, jpeg: bytes | None, name: str, width: int = WIDTH) -> None:
    """Draw a camera image with its name; width: pixels that it is shrunk to."""
    axes.set_axis_off()
    if jpeg is None:
        axes.text(.5, .5, f'no {name}', ha='center', color=FAINT)
        return
    with Image.open(io.BytesIO(jpeg)) as image:
        image.draft('RGB', (width, width))
        axes.imshow(image.convert('RGB').resize((width, width * image.height // image.width)))
    axes.text(.015, .96, name, transform=axes.transAxes, va='top', color='white', fontsize=9,
              bbox={'facecolor': 'black', 'alpha': .55, 'pad': 2, 'linewidth': 0})


def show_sweep(axes: Axes, points: np.ndarray, reach: float, height: float) -> None:
    """Draw LiDAR points [N, 3] from above, heading up; reach, height: metres to the sides, ahead."""
    axes.set(xlim=(-reach, reach), ylim=(-height, height), xticks=[], yticks=[], aspect='equal')
    axes.scatter(-points[:, 1], points[:, 0], s=.35, c=np.clip(points[:, 2], -1, 4), cmap='viridis',
                 linewidths=0)
    axes.plot(0, 0, marker='^', color=WRONG, ms=7)
    axes.text(.02, .96, 'lidar_top, heading up', transform=axes.transAxes, va='top', fontsize=9, color=INK,
              bbox={'facecolor': 'white', 'alpha': .8, 'pad': 2, 'linewidth': 0})


def _talk(axes: Axes, light: str, moment: DriveMoment | None) -> None:
    """Draw a question about a picture below it, if possible one with a right answer."""
    if moment is None or not moment.exchanges:
        said = f'The drive had no {light}.'
    else:
        exchange = next((exchange for exchange in moment.exchanges if exchange.is_right),
                        moment.exchanges[0])
        said = (f'{textwrap.fill(exchange.question, CAPTION)}\n{exchange.answer} '
                f'({"right" if exchange.is_right else exchange.truth}; {sensors(exchange.used)})')
    axes.text(0, -.04, said, transform=axes.transAxes, va='top', fontsize=8.5, color=INK, linespacing=1.3)


def _phases(axes: Axes, drive: Drive) -> None:
    """Draw the table of the phases, and the costs of adaptations."""
    axes.set_axis_off()
    columns = dict(zip((0., .71, .77, .88, 1.), ('phase', 'right', '%', '95 %', 'majority'), strict=True))
    lines = [tuple(columns.values())] + [
        (phase.title, *score_cells(score)[:2], interval(score), score_cells(score)[2])
        for phase, score in drive.scores()]
    for line, cells in enumerate(lines):
        for x, text in zip(columns, cells, strict=True):
            axes.text(x, line, text, fontsize=9, color=INK if line else FAINT, ha='right' if x else 'left')
    below = adaptations(drive)
    for line, adaptation in enumerate(below, len(lines)):
        name, begun, trained, took, steps, compute, memory, *_ = adaptation_cells(drive, adaptation)
        parts = [f'links in use after {begun}' * (begun != UNKNOWN),
                 f'trained after {trained}' * (trained != UNKNOWN),
                 f'took {took}, {steps} steps, {compute}, {memory}']
        axes.text(0, line + .3, f'{name}: {"; ".join(filter(None, parts))}', fontsize=8, color=FAINT)
    axes.set(xlim=(0, 1), ylim=(len(lines) + len(below), -.6))


def leave_open(axes: Axes) -> None:
    """Leave the upper and the right edge open, and set the size and colour of ticks."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
