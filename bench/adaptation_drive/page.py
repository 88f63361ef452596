"""Write the results of bench.adaptation_drive as JSON, page and picture."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bench.common.figures import BLUE, GREEN, GRID, INK, ORANGE, SKY, YELLOW, new_figure, save_png
from bench.common.page import markdown_table, write_page
from mpnp_ros.adaptation.policy import DISTILLED, LABELLED
from mpnp_ros.training.evaluation import Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = {'camera_day': 'camera by day', 'camera_night': 'camera at night: before',
        'tried': 'LiDAR at night: tried',
        'distilled': 'LiDAR at night: taught by the camera', 'labelled': 'LiDAR at night: trained on labels',
        'offline': 'LiDAR at night: trained offline, shipped'}
COLOURS = {'camera_day': YELLOW, 'camera_night': '#6b4f00', 'tried': '#9ec5f0', 'distilled': SKY,
           'labelled': BLUE, 'offline': GREEN}
BIN, MIN_IN_BIN = 20, 60
"""Width of a bin of the picture in seconds, and the fewest questions of a bin that is drawn."""
TAUGHT = {LABELLED: 'at night, trained on labels', DISTILLED: 'by day, taught by the camera'}
COST_HEADS = ('run', 'something in use, s', 'trained links in use, s', 'steps', 'TMAC', 'peak memory, MB',
              'p95 latency idle, ms', 'while training, ms', 'ratio')
PAGE = """# Adaptation: drives from day into night

Output of `python -m bench.adaptation_drive --study study --work drives --seeds {numbers}` on
{machine}; figures of every run are in [adaptation.json](adaptation.json). The drives run as
processes on ROS topics in the simulated world: nothing here is accuracy on nuScenes. The robot has the
shipped links to its camera only. Night falls and a LiDAR encoder is started. The robot gets no command.

## Accuracy, percent right

On the {questions} questions of [the study](accuracy.md) about 24 held-out scenes, with the links at the
end of the drives; mean over drives {seeds}, in brackets each drive.

{accuracy}

- *Tried* are the first links to the LiDAR: copies of those to the camera or to true objects, without
  training. They are in use first, and answer {tried:.1f} points more than the camera at night.
- Training on labels changes that by {labelled:+.1f} points, teaching by the camera by {distilled:+.1f}, and
  training offline, as the shipped links to a LiDAR were, by {offline:+.1f}.

## Time and cost

{costs}

Seconds count from the start of the LiDAR encoder. Costs are those of the whole adaptation: reading the
questions, trying, training and every evaluation, without the encoders, which run for the answers anyway.
Memory is the peak of the training process; `python -m bench.adaptation_memory` compares it with
input-layer tuning. {note}

## During the drives

{live}

{asked} questions were asked during the drives, and each was answered; otherwise a drive ends with an error.
Questions are chosen so that the most frequent answer is right about half of the time, so these figures are
lower than those above.

![adaptation](adaptation.png)
"""


class Evaluation(Protocol):
    """Accuracy of links on held-out scenes, in percent."""

    def shipped(self, modality: str, light: str) -> float:
        """The accuracy with the shipped links to one modality, in one light."""

    def adapted(self, seed: int, supervision: str) -> dict[str, float]:
        """The accuracy of each version of the links of a drive."""


def write_report(runs: Sequence[Mapping[str, Any]], held: Evaluation, folder: Path, machine: str,
                 questions: int, note: str = '') -> Path:
    """Write adaptation.json, .md and .png; returns the path of the page.  note: a remark on the machine."""
    accuracy = measured(runs, held)
    costs = [cost_of(run) for run in runs]
    phases = [{'seed': run['seed'], 'supervision': run['supervision'], **run['phases']} for run in runs]
    return write_page(folder / 'adaptation.md', text_of(accuracy, costs, runs, machine, questions, note),
                      {'accuracy': accuracy, 'costs': costs, 'phases': phases},
                      lambda path: draw(accuracy, runs, path))


def measured(runs: Sequence[Mapping[str, Any]], held: Evaluation) -> dict[str, list[float]]:
    """The accuracy in percent by row: of each drive, or one number of shipped links."""
    rows = {'camera_day': [held.shipped('camera', 'day')], 'camera_night': [held.shipped('camera', 'night')],
            'offline': [held.shipped('lidar', 'night')]}
    for supervision in sorted({run['supervision'] for run in runs}):
        versions = [held.adapted(run['seed'], supervision) for run in runs
                    if run['supervision'] == supervision]
        rows[supervision] = [list(version.values())[-1] for version in versions]
        rows['tried'] = [next(iter(version.values())) for version in versions]
    return {name: rows[name] for name in ROWS if name in rows}


def cost_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds, operations and memory of the adaptation of one run, and latencies during it."""
    plugged = _when(run, 'phase', 'plugged in')
    latencies = {training: [latency for moment in run['moments']
                            for latency, busy in zip(moment['latency'], moment['training'], strict=True)
                            if busy is training] for training in (False, True)}
    idle, busy = (float(np.percentile(latencies[training], 95)) if latencies[training] else math.nan
                  for training in (False, True))
    versions = [event['text'].removeprefix('lidar ') for event in run['events']
                if event['kind'] == 'links' and event['text'].startswith('lidar 0')]
    trained = [adaptation for adaptation in run['adaptations'] if adaptation['steps']]
    return {'seed': run['seed'], 'supervision': run['supervision'],
            'degraded': _since(run, 'state', 'camera degraded', _when(run, 'phase', 'night')),
            'tried': _since(run, 'links', 'lidar 000001', plugged),
            'trained': _since(run, 'links', f'lidar {max(versions, default="?")}', plugged),
            'training': sum(adaptation['seconds'] for adaptation in trained),
            'steps': sum(adaptation['steps'] for adaptation in trained),
            'tmacs': sum(adaptation['macs'] for adaptation in run['adaptations']) / 1e12,
            'memory_mb': max((adaptation['memory'] for adaptation in run['adaptations']), default=0) / 1e6,
            'idle_p95': idle, 'training_p95': busy, 'asked_in_training': len(latencies[True])}


def _when(run: Mapping[str, Any], kind: str, text: str, after: float = 0.) -> float:
    return next((event['seconds'] for event in run['events'] if event['kind'] == kind
                 and text in event['text'] and event['seconds'] >= after), math.nan)


def _since(run: Mapping[str, Any], kind: str, text: str, start: float) -> float:
    return _when(run, kind, text, start) - start


def text_of(accuracy: Mapping[str, Sequence[float]], costs: Sequence[Mapping[str, Any]],
            runs: Sequence[Mapping[str, Any]], machine: str, questions: int, note: str) -> str:
    """The page as Markdown."""
    mean = {name: fmean(values) for name, values in accuracy.items()}
    seeds = sorted({run['seed'] for run in runs})
    asked = sum(len(moment['right']) for run in runs for moment in run['moments'])
    accuracies = markdown_table(('answers rest on', 'right'), [
        (ROWS[name], f'{mean[name]:.1f}' + (f' ({", ".join(f"{value:.1f}" for value in values)})'
                                            if values[1:] else ''))
        for name, values in accuracy.items()])
    return PAGE.format(
        note=note, machine=machine, questions=f'{questions:,}',
        seeds=', '.join(map(str, seeds)), numbers=' '.join(map(str, seeds)), accuracy=accuracies,
        costs=markdown_table(COST_HEADS, map(cost_cells, costs)), live=live_table(runs),
        tried=mean['tried'] - mean['camera_night'],
        **{name: mean.get(name, math.nan) - mean['tried'] for name in (LABELLED, DISTILLED, 'offline')},
        asked=f'{asked:,}')


def cost_cells(cost: Mapping[str, Any]) -> list[str]:
    """The row of one run in the table of costs."""
    tried, trained = ('-' if math.isnan(cost[name]) else f'{cost[name]:.0f}' for name in ('tried', 'trained'))
    return [f'{cost["supervision"]}, drive {cost["seed"]}', tried, trained, str(cost['steps']),
            f'{cost["tmacs"]:.2f}', f'{cost["memory_mb"]:.0f}', f'{1e3 * cost["idle_p95"]:.0f}',
            f'{1e3 * cost["training_p95"]:.0f} (n = {cost["asked_in_training"]})',
            f'{cost["training_p95"] / cost["idle_p95"]:.2f}']


def live_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Accuracies during the drives by phase, as a Markdown table."""
    rows = []
    for supervision in sorted({run['supervision'] for run in runs}, reverse=True):
        chosen = [run['phases'] for run in runs if run['supervision'] == supervision]
        for name, first in chosen[0].items():
            asked, right, guessed = (sum(phases[name][key] for phases in chosen)
                                     for key in ('asked', 'right', 'guessed'))
            rows.append((supervision, first['title'], f'{100 * right / asked:.1f} % of {asked}',
                         f'{100 * guessed / asked:.1f} %'))
    return markdown_table(('drive', 'phase', 'right', 'most frequent answer'), rows)


def draw(accuracy: Mapping[str, Sequence[float]], runs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the held-out accuracies and the live accuracy around the start of the LiDAR."""
    figure = new_figure(15, 6.5, dpi=100)
    bars, line = figure.subplots(1, 2, width_ratios=(1, 1.35))
    figure.subplots_adjust(left=.2, right=.985, top=.9, bottom=.1, wspace=.12)
    _draw_accuracies(bars, accuracy)
    _draw_drives(line, runs)
    save_png(figure, path)


def _draw_accuracies(axes: Axes, accuracy: Mapping[str, Sequence[float]]) -> None:
    names = list(accuracy)
    axes.barh(range(len(names)), [fmean(accuracy[name]) for name in names],
              color=[COLOURS[name] for name in names], height=.66)
    for place, name in enumerate(names):
        axes.plot(accuracy[name], [place] * len(accuracy[name]), 'o', color='white', mec=INK, ms=5)
        axes.text(max(accuracy[name]) + .8, place, f'{fmean(accuracy[name]):.1f}', va='center', color=INK)
    axes.set_yticks(range(len(names)), [ROWS[name] for name in names], color=INK)
    axes.invert_yaxis()
    axes.set(xlim=(30, 100), xlabel='percent right of held-out questions; dots: drives')
    axes.set_title('What the links answer afterwards', loc='left', color=INK)
    axes.spines[['top', 'right']].set_visible(False)


def _draw_drives(axes: Axes, runs: Sequence[Mapping[str, Any]]) -> None:
    for supervision, colour in ((LABELLED, BLUE), (DISTILLED, ORANGE)):
        chosen = [run for run in runs if run['supervision'] == supervision]
        if chosen:
            middles, shares = binned(chosen)
            bounds = 100 * np.array([share.interval for share in shares])
            axes.fill_between(middles, *bounds.T, color=colour, alpha=.13, lw=0)
            axes.plot(middles, [100 * share.value for share in shares], 'o-', color=colour, lw=1.6, ms=4,
                      label=f'{TAUGHT[supervision]} ({len(chosen)} drives)')
    axes.axvline(0, color=INK, lw=1)
    axes.text(2, 31, 'LiDAR plugged in', color=INK)
    axes.set(xlabel='seconds', ylim=(30, 100), ylabel=f'percent right of the questions within {BIN} s')
    axes.set_title('Live answers on the drives, with 95 % intervals', loc='left', color=INK)
    axes.legend(frameon=False, loc='lower right')
    axes.grid(axis='y', color=GRID)
    axes.spines[['top', 'right']].set_visible(False)


def binned(runs: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[Share]]:
    """The middles of the bins, in seconds since the start of the LiDAR, and their shares of right answers."""
    tally: dict[int, list[bool]] = {}
    for run in runs:
        plugged = _when(run, 'phase', 'plugged in')
        for moment in run['moments']:
            tally.setdefault(math.floor((moment['seconds'] - plugged) / BIN), []).extend(moment['right'])
    kept = {place: right for place, right in sorted(tally.items()) if len(right) >= MIN_IN_BIN}
    shares = [Share(sum(right), len(right)) for right in kept.values()]
    return [(place + .5) * BIN for place in kept], shares
