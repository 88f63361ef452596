"""The report of a study: docs/results/accuracy.json, docs/results/accuracy.md and their picture."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.study.report import StudyReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.study.study import StudyConfig

INK, FAINT = '#1f2328', '#8c959f'
BARS = (('majority', 'majority', '#b8bec5'), ('blind', 'blind', '#8c959f'),
        ('camera_day', 'camera, day', '#e3a008'), ('rule_camera_day', 'rule, same tokens', '#f3d27a'),
        ('camera_night', 'camera, night', '#6b4f00'), ('lidar_night', 'LiDAR, night', '#0969da'),
        ('rule_lidar_night', 'rule, same tokens', '#9ec5f0'),
        ('camera_lidar_day', 'camera + LiDAR, day', '#1a7f37'),
        ('camera_lidar_night', 'camera + LiDAR, night', '#0b4d20'),
        ('true_objects', 'true objects', '#8250df'))
LEARNED = {'trust': 'the weight of each sensor where both look',
           'worth': 'the worth of their counts: missed, confused and imagined objects, and the weight '
                    'of each sensor',
           'aligners': 'how counts are passed to the language model', 'all': 'everything'}
"""Description of the trained part of links to sensors."""
PAGE = """# Accuracy in the simulated world

Output of `python -m bench.study --work study` (bench/study/study.yaml); the figures are in
[accuracy.json](accuracy.json). It is a synthetic world: none of this is accuracy on nuScenes.

{table}

{questions} questions on {scenes} held-out scenes, the same ones by day and at night, balanced so that
the text gives little away, with {answers} choices; seeds: {seeds}. In brackets is the 95 % interval
(bootstrap over seeds and scenes). Questions ask for objects relative to the vehicle, up to {distance:g} m
away and with at least {points} LiDAR points. Questions that relate two other objects to each other are
omitted. The language model is {model}, frozen; {last} blocks are linked.

- **Blind** links see learned constants instead of tokens: same parameters, same questions, same code,
  {blind} steps. They reach the majority answers.
- The **rule** reads the same tokens without a language model: it adds up the counts for the question.
- Links on **true objects** show what the link mechanism transmits. Links to sensors start from them.
- Links to camera and LiDAR use the unchanged reader of links on true objects. They learn
  {sensors}. All rows use one pair of links.

## Training

Links on true objects learn to count first, which is not in the table: {words} steps on texts alone and
{numbers} on painted frames ([experiments.md](../lab/experiments.md), section 7). After that their aligners
learn to pass the counts to the language model.

| links | steps | seconds a step | minutes | parameters, M | GMAC a step | peak memory, GB |
|---|---|---|---|---|---|---|
{training}

![accuracy](accuracy.png)
"""


def write_page(results: Sequence[Mapping[str, Any]], config: StudyConfig, folder: Path) -> Path:
    """Write JSON, page and picture, and return the page's path."""
    report, reader = StudyReport.of(results), config.objects.reader
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'accuracy.json').write_text(report.to_json())
    draw(report, results, folder / 'accuracy.png')
    page = folder / 'accuracy.md'
    page.write_text(PAGE.format(
        table=report.table(), questions=len(results[0]['types']), scenes=len(set(results[0]['scenes'])),
        answers=30, seeds=len(results), distance=config.questions.max_distance,
        points=config.questions.min_points, model=config.language_model, last=config.link.get('last', 'half'),
        blind=config.blind.steps, sensors=LEARNED[config.sensors.part],
        words=reader.word_steps, numbers=reader.number_steps,
        training=_training(results)))
    return page


def draw(report: StudyReport, results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw bars with their intervals, and the learning curve of links on true objects if it was measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = any(len(one['training'].get('objects', {}).get('accuracies', ())) > 2 for one in results)
    figure = Figure(figsize=(13 if curves else 8.5, 5.2), dpi=110, facecolor='white')
    axes = figure.subplots(1, 1 + curves, width_ratios=(1.7, 1)[:1 + curves], squeeze=False)[0]
    _bars(axes[0], report)
    if curves:
        _curves(axes[1], results)
    figure.tight_layout(w_pad=3)
    FigureCanvasAgg(figure).print_png(path)


def _bars(axes: Axes, report: StudyReport) -> None:
    bars = [bar for bar in BARS if bar[0] in report.overall]
    for place, (row, _, colour) in enumerate(bars):
        one = report.overall[row]
        axes.barh(place, one.mean, color=colour, height=.72)
        axes.plot(one.ci95, (place, place), color=INK, lw=1.2)
        axes.text(max(*one.ci95, one.mean) + 1, place, f'{one.mean:.1f}', va='center', color=INK, fontsize=9)
    axes.axvline(report.overall['blind'].mean, color=FAINT, lw=1, ls=':')
    axes.set_yticks(range(len(bars)), [label for _, label, _ in bars], fontsize=9)
    axes.invert_yaxis()
    axes.set(xlim=(0, 105), xlabel='right answers, %')
    axes.set_title('held-out scenes; dotted: blind', loc='left', fontsize=10, color=INK)
    _plain(axes)


def _curves(axes: Axes, results: Sequence[Mapping[str, Any]]) -> None:
    for one in results:
        if measured := one['training'].get('objects', {}).get('accuracies'):
            steps, values = zip(*measured, strict=True)
            axes.plot(steps, [100 * value for value in values], marker='.', lw=1.2,
                      label=f'seed {one["seed"]}')
    axes.set(ylim=(0, 100), xlabel='steps', ylabel='validation scenes, %')
    axes.set_title('links on true objects, learning', loc='left', fontsize=10, color=INK)
    if axes.lines:
        axes.legend(fontsize=9, frameon=False, loc='lower right')
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


def _training(results: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for one in results:
        for name, report in one['training'].items():
            steps, seconds = report['steps'], report['seconds']
            lines.append(f'| {name}, seed {one["seed"]} | {steps} '
                         f'| {seconds / max(1, steps):.2f} | {seconds / 60:.1f} '
                         f'| {report["parameters"] / 1e6:.2f} | {report["macs_per_step"] / 1e9:.1f} '
                         f'| {report["peak_bytes"] / 1e9:.2f} |')
    return '\n'.join(lines)
