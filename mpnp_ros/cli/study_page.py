"""The report of a study: docs/accuracy.json, docs/accuracy.md and the picture in it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpnp_ros.adaptation.study_report import StudyReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mpnp_ros.adaptation.study import StudyConfig

INK, FAINT = '#1f2328', '#8c959f'
BARS = (('majority', 'majority', '#b8bec5'), ('blind', 'blind', '#8c959f'),
        ('camera_day', 'camera, day', '#e3a008'), ('rule_camera_day', 'rule, same tokens', '#f3d27a'),
        ('camera_night', 'camera, night', '#6b4f00'), ('lidar_night', 'LiDAR, night', '#0969da'),
        ('rule_lidar_night', 'rule, same tokens', '#9ec5f0'),
        ('camera_lidar_day', 'camera + LiDAR, day', '#1a7f37'),
        ('camera_lidar_night', 'camera + LiDAR, night', '#0b4d20'),
        ('true_objects', 'true objects', '#8250df'))
LEARNED = {'trust': 'whose word counts how far where both look',
           'worth': 'what their counts are worth: what is missed, confused and imagined, and whose word '
                    'counts how far',
           'aligners': 'how what was counted is told to the language model', 'all': 'all of it'}
"""By the part of links to sensors that is trained."""
PAGE = """# Accuracy in the embedded driving world

Made by `mpnp evaluate --work study` (config/study.yaml); the figures are in [accuracy.json](accuracy.json).
It is a synthetic world: none of this is accuracy on nuScenes.

{table}

{questions} questions on {scenes} scenes that nothing was trained on, the same ones by day and at night,
balanced so that the text gives little away, {answers} answers to choose from; seeds: {seeds}. In brackets the
95 % interval (bootstrap over seeds and scenes). Questions ask what is where from the vehicle, up to
{distance:g} m and with at least {points} LiDAR points; those that relate two other things to each other are
left out. The language model is {model}, frozen; {last} blocks are linked.

- **Blind** links see learned constants instead of tokens: same parameters, same questions, same code,
  {blind} steps, by which they say what the majority says.
- The **rule** reads the same tokens without a language model: it adds up what the question asks for.
- Links on **true objects** say what the link mechanism itself transmits. Links to sensors start from them.
- Links to camera and LiDAR count by the reader of those on true objects, as it is. What they learn is
  {sensors}. One pair of links serves all rows.

## Training

Links on true objects learn to count first, which the table leaves out: {words} steps on texts alone and
{numbers} on painted frames ([experiments.md](experiments.md), section 7). After that their aligners learn to
speak to the language model.

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
    """Bars with their intervals, and how the links on true objects learned where that was looked at often."""
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
    axes.set(xlim=(0, 105), xlabel='questions answered rightly, %')
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
