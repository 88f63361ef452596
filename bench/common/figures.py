"""Figures in one style: colours, plain axes, bars with intervals, PNG files.

Matplotlib is imported in the functions, because programs measure without it.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.common.accuracy import Estimate

INK, FAINT, LIGHT, GRID = '#1f2328', '#8c959f', '#d0d7de', '#eaeef2'
BLUE, SKY, GREEN, YELLOW, ORANGE, PURPLE = '#0969da', '#54aeff', '#1a7f37', '#e3a008', '#e36209', '#8250df'


def new_figure(width: float, height: float, dpi: int = 110) -> Figure:
    """A white figure; width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi, facecolor='white')


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path)


def plain(axes: Axes) -> None:
    """Remove the frame at the top and on the right, and write ticks small and dark."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


def bars_with_intervals(axes: Axes, bars: Sequence[tuple[str, Estimate, str]], height: float) -> None:
    """Draw horizontal bars from the top.  bars: label, estimate, colour.  height: share of the distance."""
    for place, (_, accuracy, colour) in enumerate(bars):
        axes.barh(place, accuracy.mean, color=colour, height=height)
        axes.plot(accuracy.ci95, (place, place), color=INK, lw=1.2)
        axes.text(max(*accuracy.ci95, accuracy.mean) + 1, place, f'{accuracy.mean:.1f}', va='center',
                  color=INK, fontsize=9)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    axes.invert_yaxis()
    plain(axes)
