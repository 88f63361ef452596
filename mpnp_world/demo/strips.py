"""The timeline of the drive: accuracy, sensors in use, latency, and events."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mpnp_ros.cli.exchanges import milliseconds, p95
from mpnp_ros.training.evaluation import Share
from mpnp_world.demo.drive import BOTH, CAMERA, LIDAR, Drive, sensors
from mpnp_world.demo.timeline import Course, Milestone, milestones, moving_sums, phase_spans

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


def draw_timeline(figure: Figure, canvas: FigureCanvasAgg, drive: Drive) -> None:
    """Draw all strips into the lower part of the figure."""
    course, end = Course.of(drive), max(drive.moments[-1].seconds if drive.moments else 0., 1.)
    found = milestones(drive)
    spans = _label_spans(figure, canvas, found, end)
    rows = label_rows(spans)
    strips = [(BOTTOM, TOP - BOTTOM - ROW * (max(rows, default=0) + 1)), RESTS, LATENCY]
    accuracy, rests, latency = axes = [figure.add_axes((LEFT, low, WIDE, high)) for low, high in strips]
    for one in axes:
        one.set(xlim=(0, end))
        _strip(one, drive, found)
    _accuracy(accuracy, course)
    _rests(rests, course)
    _latency(latency, course)
    for one, (begin, _), row in zip(found, spans, rows, strict=True):
        _label(accuracy, one, begin, row)
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
    begins = [(LEFT + WIDE * one.seconds / end) * width for one in found]
    lengths = []
    for one in found:
        text = figure.text(0, 0, one.text, fontsize=9)
        lengths.append(text.get_window_extent(canvas.get_renderer()).width)
        text.remove()
    edge = width - 2 * GAP
    return [(min(begin, edge - length), min(begin + length, edge) + GAP)
            for begin, length in zip(begins, lengths, strict=True)]


def _strip(axes: Axes, drive: Drive, found: Sequence[Milestone]) -> None:
    """Draw the light behind a strip, and a line for every event."""
    for phase, begin, end in phase_spans(drive):
        axes.axvspan(begin, end, color=SKY[phase.light], lw=0, zorder=0)
    for one in found:
        axes.axvline(one.seconds, color=FAINT, lw=.8, zorder=1)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


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


def _label(axes: Axes, one: Milestone, begin: float, row: int) -> None:
    """Draw the label of an event above the strip, with its line; begin: pixels from the left."""
    place, figure = axes.get_position(), axes.figure
    low = place.y1 + ROW * row
    axes.plot([one.seconds] * 2, [1, 1 + (low + .7 * ROW - place.y1) / place.height], color=FAINT, lw=.8,
              transform=axes.get_xaxis_transform(), clip_on=False)
    figure.text((begin + 3) / figure.bbox.width, low + .2 * ROW, one.text, fontsize=9, color=INK,
                bbox={'facecolor': 'white', 'pad': .5, 'linewidth': 0})
