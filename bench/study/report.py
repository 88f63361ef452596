"""The report of a study: means over seeds with intervals, as JSON, page and picture."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.common.accuracy import Estimate, estimate
from bench.common.figures import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    PURPLE,
    YELLOW,
    bars_with_intervals,
    new_figure,
    plain,
    save_png,
)
from bench.common.page import markdown_table, write_page
from mpnp_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from bench.study.study import StudyConfig

Result = Mapping[str, Any]
"""What :meth:`Study.run_seed` returns for one seed."""
ROWS: dict[str, str] = {
    'majority': 'most frequent answer of each text',
    'blind': 'links on learned constants instead of a sensor',
    'true_objects': '**links on true objects**',
    'rule_true_objects': 'rule on true objects',
    'camera_day': '**camera by day**',
    'rule_camera_day': 'rule on the same camera tokens',
    'camera_night': 'camera at night',
    'rule_camera_night': 'rule on the same camera tokens',
    'lidar_day': 'LiDAR by day',
    'rule_lidar_day': 'rule on the same LiDAR tokens',
    'lidar_night': '**LiDAR at night**',
    'rule_lidar_night': 'rule on the same LiDAR tokens',
    'camera_lidar_day': 'camera + LiDAR by day',
    'camera_lidar_night': 'camera + LiDAR at night',
}
"""Row -> its description, in the order of the page."""
BARS = (('majority', 'majority', '#b8bec5'), ('blind', 'blind', FAINT),
        ('camera_day', 'camera, day', YELLOW), ('rule_camera_day', 'rule, same tokens', '#f3d27a'),
        ('camera_night', 'camera, night', '#6b4f00'), ('lidar_night', 'LiDAR, night', BLUE),
        ('rule_lidar_night', 'rule, same tokens', '#9ec5f0'),
        ('camera_lidar_day', 'camera + LiDAR, day', GREEN),
        ('camera_lidar_night', 'camera + LiDAR, night', '#0b4d20'),
        ('true_objects', 'true objects', PURPLE))
LEARNED = {'trust': 'the weight of each sensor where both look',
           'worth': 'the worth of their counts: missed, confused and imagined objects, and the weight '
                    'of each sensor',
           'aligners': 'how counts are passed to the language model', 'all': 'everything'}
"""Description of the trained part of links to sensors."""
TRAINING_HEADS = ('links', 'steps', 'seconds a step', 'minutes', 'parameters, M', 'GMAC a step',
                  'peak memory, GB')
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

{training}

![accuracy](accuracy.png)
"""


@dataclass(frozen=True)
class StudyReport:
    """Estimates of every row: overall, by type and by number of hops."""

    seeds: tuple[int, ...]
    overall: Mapping[str, Estimate]
    by_type: Mapping[str, Mapping[str, Estimate]]
    by_hops: Mapping[str, Mapping[int, Estimate]]

    @classmethod
    def of(cls, results: Sequence[Result]) -> StudyReport:
        """The report of the results of all seeds.

        Raises ConfigurationError if the seeds answered different questions.
        """
        first = results[0]
        if any(result[name] != first[name] for result in results for name in ('scenes', 'types', 'hops')):
            raise ConfigurationError('the seeds of this study answered different questions; remove its '
                                     'seed-*.json and evaluate again')
        rows = [row for row in (*ROWS, *sorted(first['right'].keys() - ROWS.keys()))
                if all(row in result['right'] for result in results)]
        right = {row: np.array([result['right'][row] for result in results], float) for row in rows}
        scenes, types, hops = (np.array(first[name]) for name in ('scenes', 'types', 'hops'))

        def of_row(row: str, chosen: np.ndarray) -> Estimate:
            return estimate(right[row][:, chosen], scenes[chosen])

        return cls(tuple(result['seed'] for result in results),
                   {row: of_row(row, np.ones(len(scenes), bool)) for row in rows},
                   {row: {str(name): of_row(row, types == name) for name in sorted(set(types))}
                    for row in rows},
                   {row: {int(count): of_row(row, hops == count) for count in sorted(set(hops))}
                    for row in rows})

    def as_dict(self) -> dict[str, Any]:
        """{row: {mean, ci95, n, by_type, by_hops}, seeds: [...]}."""
        rows = {row: {'mean': round(whole.mean, 2), 'ci95': [round(edge, 2) for edge in whole.ci95],
                      'n': whole.n,
                      'by_type': {name: round(part.mean, 2) for name, part in self.by_type[row].items()},
                      'by_hops': {str(name): round(part.mean, 2) for name, part in self.by_hops[row].items()}}
                for row, whole in self.overall.items()}
        return {**rows, 'seeds': list(self.seeds)}

    def table(self) -> str:
        """A Markdown table: every row overall, by type and by hops."""
        types = list(next(iter(self.by_type.values())))
        hops = list(next(iter(self.by_hops.values())))
        lines = []
        for row, whole in self.overall.items():
            parts = [self.by_type[row][name] for name in types] + [self.by_hops[row][name] for name in hops]
            lines.append([ROWS.get(row, row.replace('_', ' ')), str(whole),
                          *(f'{part.mean:.1f}' for part in parts)])
        return markdown_table(['answers', 'right, %', *types, *(f'{count} hop' for count in hops)], lines)


def write_report(results: Sequence[Result], config: StudyConfig, folder: Path) -> Path:
    """Write accuracy.json, accuracy.md and accuracy.png; returns the path of the page."""
    report, reader = StudyReport.of(results), config.objects.reader
    training = []
    for result in results:
        for name, costs in result['training'].items():
            steps, seconds = costs['steps'], costs['seconds']
            training.append([f'{name}, seed {result["seed"]}', steps,
                             f'{seconds / max(1, steps):.2f}', f'{seconds / 60:.1f}',
                             f'{costs["parameters"] / 1e6:.2f}', f'{costs["macs_per_step"] / 1e9:.1f}',
                             f'{costs["peak_bytes"] / 1e9:.2f}'])
    text = PAGE.format(
        table=report.table(), questions=len(results[0]['types']), scenes=len(set(results[0]['scenes'])),
        answers=30, seeds=len(results), distance=config.questions.max_distance,
        points=config.questions.min_points, model=config.language_model, last=config.link.get('last', 'half'),
        blind=config.blind.steps, sensors=LEARNED[config.sensors.part],
        words=reader.word_steps, numbers=reader.number_steps,
        training=markdown_table(TRAINING_HEADS, training))
    return write_page(folder / 'accuracy.md', text, report.as_dict(),
                      lambda path: draw(report, results, path))


def draw(report: StudyReport, results: Sequence[Result], path: Path) -> None:
    """Draw bars with their intervals, and the learning curve of links on true objects if it was measured."""
    curves = {result['seed']: result['training'].get('objects', {}).get('accuracies', ())
              for result in results}
    learning = any(len(points) > 2 for points in curves.values())
    figure = new_figure(13 if learning else 8.5, 5.2)
    axes = figure.subplots(1, 1 + learning, width_ratios=(1.7, 1)[:1 + learning], squeeze=False)[0]
    bars_with_intervals(axes[0], [(label, report.overall[row], colour) for row, label, colour in BARS
                                  if row in report.overall], .72)
    axes[0].axvline(report.overall['blind'].mean, color=FAINT, lw=1, ls=':')
    axes[0].set(xlim=(0, 105), xlabel='right answers, %')
    axes[0].set_title('held-out scenes; dotted: blind', loc='left', fontsize=10, color=INK)
    if learning:
        for seed, points in curves.items():
            if points:
                steps, values = zip(*points, strict=True)
                axes[1].plot(steps, [100 * value for value in values], marker='.', lw=1.2,
                             label=f'seed {seed}')
        axes[1].set(ylim=(0, 100), xlabel='steps', ylabel='validation scenes, %')
        axes[1].set_title('links on true objects, learning', loc='left', fontsize=10, color=INK)
        axes[1].legend(fontsize=9, frameon=False, loc='lower right')
        plain(axes[1])
    figure.tight_layout(w_pad=3)
    save_png(figure, path)
