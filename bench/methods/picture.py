"""The picture of a benchmark of methods: accuracy against spent MACs, and final accuracy."""
from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from bench.methods.costs import TERA
from bench.methods.plan import BLIND, MethodsConfig
from bench.methods.report import MethodsReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.study.report import Figure

INK, FAINT = '#1f2328', '#8c959f'
OURS = ('#0969da', '#1a7f37', '#54aeff')
PEERS = ('#e36209', '#8250df', '#cf222e', '#bf8700', '#1b7c83', '#6e7781')
LIGHT = '#d0d7de'


def draw(report: MethodsReport, config: MethodsConfig, path: Path) -> None:
    """Draw curves against MACs on the left and final accuracies with intervals on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = _colours(report, config)
    figure = Figure(figsize=(14, 6), dpi=110, facecolor='white')
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _curves(left, report, colours, config.ours[0])
    _bars(right, report, colours)
    figure.suptitle(f'{config.modality} at {config.light}, links from nothing, at most '
                    f'{config.budget / TERA:g} TMAC', x=.01, ha='left', color=INK, fontsize=12)
    figure.tight_layout(w_pad=3)
    FigureCanvasAgg(figure).print_png(path)


def _colours(report: MethodsReport, config: MethodsConfig) -> dict[str, str]:
    """The colour of each method: blue and green for ours, others for peers, independent of the order."""
    ours, peers = cycle(OURS), cycle(PEERS)
    return {name: next(ours if name in config.ours else peers) for name in config.methods}


def _curves(axes: Axes, report: MethodsReport, colours: dict[str, str], compared: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    for row in report.rows:
        macs, colour, bold = row.points / TERA, colours[row.name], row.name == compared
        axes.fill_between(macs, row.values.min(0), row.values.max(0), color=colour, alpha=.12, lw=0)
        axes.plot(macs, row.curve, 'o-', color=colour, lw=2.4 if bold else 1.5, ms=5 if bold else 3.5,
                  label=row.name, zorder=3 if bold else 2)
    for name, value, style in _levels(report):
        axes.axhline(value, color=FAINT, lw=1.2, ls=style, label=f'{name} ({value:.0f} %)', zorder=1)
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f'{value:g}')
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel='TMAC spent, all costs counted', ylabel='percent right')
    axes.set_title('on the way, questions about scenes held out; bands: seeds', loc='left', fontsize=10,
                   color=INK)
    axes.legend(fontsize=9, frameon=False, loc='upper center', bbox_to_anchor=(.5, -.1), ncols=4)
    axes.grid(axis='y', color='#eaeef2')
    _plain(axes)


def _levels(report: MethodsReport) -> list[tuple[str, float, str]]:
    """Accuracies on the curve's questions without a sensor or training: label, value and line style."""
    levels = [('majority', report.yardsticks.majority_curve, ':')]
    if report.blind is not None:
        levels.append((BLIND, float(report.blind.curve[-1]), '--'))
    return [*levels, ('rule on the same tokens', report.yardsticks.rule_curve, '-.')]


def _bars(axes: Axes, report: MethodsReport, colours: dict[str, str]) -> None:
    bars: list[tuple[str, Figure, str]] = [(row.name, row.accuracy, colours[row.name]) for row in report.rows]
    bars.append(('rule, same tokens', report.yardsticks.rule, LIGHT))
    if report.blind is not None:
        bars.append((BLIND, report.blind.accuracy, LIGHT))
    bars.append(('majority', report.yardsticks.majority, LIGHT))
    for place, (_, accuracy, colour) in enumerate(bars):
        axes.barh(place, accuracy.mean, color=colour, height=.68)
        axes.plot(accuracy.ci95, (place, place), color=INK, lw=1.2)
        axes.text(max(*accuracy.ci95, accuracy.mean) + 1, place, f'{accuracy.mean:.1f}', va='center',
                  color=INK, fontsize=9)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel='percent right, with 95 % intervals')
    axes.set_title('the test, after the last step', loc='left', fontsize=10, color=INK)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
