"""Page, figures, picture and table of a benchmark of methods."""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.common.figures import (
    BLUE,
    FAINT,
    GREEN,
    GRID,
    INK,
    LIGHT,
    ORANGE,
    PURPLE,
    SKY,
    bars_with_intervals,
    new_figure,
    plain,
    save_png,
)
from bench.common.page import markdown_table, terminal_table, write_page
from bench.common.timing import machine, machine_text
from bench.methods.answering import FOLDED, FRAME, QUESTION, ROUNDS, UNFOLDED
from bench.methods.plan import BLIND, MethodsConfig
from bench.methods.report import COSTS, MethodRow, MethodsReport, Reach
from bench.methods.train import MEASURED_STEPS, TERA
from mpnp_ros.training.budget import ADAMW
from mpnp_ros.training.true_objects import OBJECTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEGA = 1e6
OURS = (BLUE, GREEN, SKY)
PEERS = (ORANGE, PURPLE, '#cf222e', '#bf8700', '#1b7c83', '#6e7781')
HEADS = ('method', 'right, %', 'steps', 'trained, M', 'TMAC', 'minutes', 'peak, MB', 'new frame, ms',
         'new question, ms')
PAGE = """# Methods: cost and accuracy of an adaptation

{verdict}Output of `python -m bench.methods{study} --work {name} --config bench/methods/{name}.yaml` on
{machine}; all figures are in [{name}.json]({name}.json). They were measured in the simulated
world: none of this is accuracy on nuScenes.

{scenario}

Every method is trained on the same questions about the same tokens within {budget:g} TMAC (10^12
multiply-accumulates), all costs counted, and answers the same {questions} questions about {scenes} held-out
scenes.

{table}

- *right*: {seeds}, after the last step, without any selection by it. In brackets is the 95 %
  interval of the bootstrap over seeds and scenes, because questions of one scene are correlated.
- *{blind}*: `{ours}` with learned constants instead of the sensor, trained in the same way. *majority*: the
  most frequent answer of each text. *rule*: a fixed rule that adds up the same tokens, without a language
  model.
- *steps*: number x questions per step. *minutes*: in steps, one thread, without evaluations. *peak*: of the
  whole process after the model is loaded, with the model, all questions and all tokens in memory, and with a
  copy of what is trained where rates were searched.
- *new frame*: answering a known question about a new frame; *new question*: both are
  new. Median / 95th percentile of {rounds} single answers, one thread, all methods in turn in one process.

## The picture

![accuracy against MACs]({name}.png)

Left: percent right of {curve} questions about scenes held out from training, which only this curve uses.
Each point is an intermediate state of the training in the table, so its learning rate was still
high. The band spans the seeds. Right: the table.

## How they learn

{learning}

Percent right of the questions of the picture, at the last point until then. *{first}'s operations* and
*{first}'s questions* are what `{first}` took for its whole training: {first_macs:.2f} TMAC and
{first_questions:,.0f} questions, with those of its reader. *TMAC to*: the first point at which the accuracy
is reached.{search}

## Findings

{claims}

## Where the MACs go

{costs}

Encoders: the {modality} frames of the training, each once, measured on one; every method reads the same
stored tokens. Reader: links that count learn first what a question asks for and how to count it, without
the upper part of the model. They are told the meaning of each question (direction, category and status),
which the generator knows; other methods learn from questions and answers alone. Reading: all texts, each
once, through the part of the model below the modalities; none if columns are in front of the first block.
Calibration: trials of a method before training, such as the choice of skipped attentions. Steps: forward
and backward with the head, the mean of {measured} measured ones. Optimiser: AdamW, {optimiser}
multiply-adds a parameter and step. Evaluations are not counted for any method.
{folding}{failed}"""
SENSOR = "The paper's runtime switch: {light}, the {modality} alone, and nothing to begin from."
OBJECTS_ALONE = ('True objects in place of a sensor, as a perfect encoder would tell of them, so that no\n'
                 "encoder's errors blur what each method carries; and nothing to begin from.")
TASK = ('The task: questions about true objects ({types}), {directions} directions, in frames with\n'
        '{objects} objects within 30 m; {asked:,} to train on.')
SEARCH = """ Each method tried the rates
{rates} for {steps} steps, and took the one with the lowest loss in the second half of them. That is not in
the budget, and the rate of gates was not searched."""
FOLDING = """
## Skipped attention

{table}

*folded*: the adapters are part of other weights; *unfolded*: the same method and links, computing them. All
of one seed. {differences}
"""
FAILED = """
## What failed

{lines}
"""


def write_report(report: MethodsReport, config: MethodsConfig, folder: Path) -> Path:
    """Write the figures, the picture and the page; returns the path of the page."""
    return write_page(folder / f'{config.name}.md', text_of(report, config), as_json(report, config),
                      lambda path: draw(report, config, path))


def results_table(report: MethodsReport) -> Table:
    """The table of the page, for the terminal."""
    table = terminal_table('Adaptation from nothing, all costs counted', HEADS, no_wrap=True)
    for cells in _lines(report):
        table.add_row(*cells)
    return table


def text_of(report: MethodsReport, config: MethodsConfig) -> str:
    """The page as Markdown."""
    first, failed = report.rows[0], '\n'.join(f'- {name}: {why}' for name, why in report.failed.items())
    if (task := config.task).types:
        scenario = TASK.format(
            types=', '.join(task.types), directions='also with' if task.directions else 'without',
            objects=f'at most {task.most_objects}' if task.most_objects else 'any number of',
            asked=report.training_questions)
    elif config.modality == OBJECTS:
        scenario = OBJECTS_ALONE
    else:
        scenario = SENSOR.format(light=config.light, modality=config.modality)
    costs = markdown_table(('TMAC', *COSTS), ([row.name, *(f'{row.macs[part] / TERA:.3f}' for part in COSTS)]
                                              for row in report.rows))
    return PAGE.format(
        verdict=_verdict(report, config.ours[0]), study='' if task.types else ' --study study',
        machine=machine_text(), name=config.name, scenario=scenario, modality=config.modality,
        budget=config.budget / TERA, questions=f'{first.accuracy.n:,}', scenes=report.test_scenes,
        table=markdown_table(HEADS, _lines(report)), blind=BLIND, ours=config.ours[0],
        seeds=('mean over seeds ' if first.seeds[1:] else 'of seed ') + ', '.join(map(str, first.seeds)),
        rounds=ROUNDS, curve=report.curve_questions, learning=_learning(report, config),
        first=first.name, first_macs=first.total / TERA, first_questions=first.seen[-1],
        search=SEARCH.format(rates=', '.join(f'{rate:g}' for rate in config.rates),
                             steps=config.rate_steps) if config.rates else '',
        claims='\n'.join(f'- {line}' for line in _findings(report, config.ours[0])), costs=costs,
        measured=MEASURED_STEPS, optimiser=ADAMW, folding=_folding(report, config),
        failed=FAILED.format(lines=failed) if failed else '')


def as_json(report: MethodsReport, config: MethodsConfig) -> dict[str, Any]:
    """All figures and settings, as plain values."""
    def entry(row: MethodRow) -> dict[str, Any]:
        return {'seeds': row.seeds, 'right': asdict(row.accuracy),
                'of_each_seed': (100 * row.right.mean(1)).tolist(), 'steps': row.steps, 'batch': row.batch,
                'parameters': row.parameters, 'macs': dict(row.macs), 'seconds': row.seconds,
                'peak_bytes': row.peak_bytes, 'beforehand': row.beforehand,
                'learning_rates': row.rates,
                'curve': {'macs': row.points.tolist(), 'questions': row.seen.tolist(),
                          'right': row.values.tolist()}}

    rows = [*report.rows, *filter(None, [report.blind])]
    return {
        'settings': asdict(config), 'machine': machine(),
        'rows': {row.name: entry(row) for row in rows},
        'yardsticks': asdict(report.yardsticks),
        'ahead': {name: asdict(lead) for name, lead in report.ahead.items()},
        'reach': report.reach and {**asdict(report.reach), 'share': report.reach.share},
        'answering': {'machine': report.answering.get('machine'), 'folding': report.answering.get('folding'),
                      'forms': [{name: value for name, value in times.items() if name != 'right'}
                                for times in report.answering.get('forms', ())]},
        'failed': dict(report.failed)}


def _lines(report: MethodsReport) -> Iterator[list[str]]:
    """The cells of every row; methods first, then yardsticks."""
    for row in (*report.rows, *filter(None, [report.blind])):
        times = report.form(row.name)
        fewer = '' if row.seeds == report.rows[0].seeds else (
            f', seed{"s" if row.seeds[1:] else ""} {", ".join(map(str, row.seeds))}')
        yield [row.name + fewer, str(row.accuracy), f'{row.steps:.0f} x {row.batch}',
               f'{row.parameters / MEGA:.2f}', f'{row.total / TERA:.2f}', f'{row.seconds / 60:.1f}',
               f'{row.peak_bytes / MEGA:.0f}',
               *(_times(times[way]) if times else '-' for way in (FRAME, QUESTION))]
    for name in ('rule', 'majority'):
        yield [name, str(getattr(report.yardsticks, name)), *['-'] * (len(HEADS) - 2)]


def _times(summary: Mapping[str, float]) -> str:
    return f'{summary["p50"]:.0f} / {summary["p95"]:.0f}'


def _verdict(report: MethodsReport, ours: str) -> str:
    """The first line of the page: which published methods end clearly above ours."""
    above = [f'`{peer}` by {-lead.mean:.1f} points [{-lead.ci95[1]:.1f}, {-lead.ci95[0]:.1f}]'
             for peer, lead in report.ahead.items() if lead.ci95[1] < 0]
    if above:
        return f'**Better than `{ours}` at the end: {", ".join(above)}.**\n\n'
    return f'**No published method is clearly better than `{ours}` at the end.**\n\n' if report.ahead else ''


def _learning(report: MethodsReport, config: MethodsConfig) -> str:
    """What each method has learned at equal operations, at equal questions and at the end."""
    first = report.rows[0]
    heads = ('method', 'learning rate', f"{first.name}'s operations", f"{first.name}'s questions", 'the end',
             'TMAC', 'questions', *(f'TMAC to {target:g} %' for target in config.targets))

    def cells(row: MethodRow) -> list[str]:
        values = (row.after_macs(float(first.points[-1])), row.after_questions(float(first.seen[-1])),
                  float(row.curve[-1]))
        reached = [row.macs_to(target) for target in config.targets]
        return [row.name, ', '.join(f'{rate:g}' for rate in dict.fromkeys(row.rates)),
                *('-' if math.isnan(value) else f'{value:.1f}' for value in values),
                f'{row.total / TERA:.2f}', f'{row.seen[-1]:,.0f}',
                *('-' if macs is None else f'{macs / TERA:.2f}' for macs in reached)]

    return markdown_table(heads, map(cells, (*report.rows, *filter(None, [report.blind]))))


def _findings(report: MethodsReport, ours: str) -> Iterator[str]:
    for peer, lead in report.ahead.items():
        low, high = lead.ci95
        said = 'more' if low > 0 else 'fewer' if high < 0 else 'no clear difference'
        yield f'Within the same budget, `{ours}` minus `{peer}`: {lead.mean:+.1f} points [{low:+.1f}, ' \
              f'{high:+.1f}], {said}.'
    if report.reach is not None:
        yield _reach(ours, report.reach)
    for row in report.rows:
        if row.beforehand:
            yield f'`{row.name}` took {row.beforehand / TERA:.2f} TMAC beforehand, once for the language ' \
                  'model and without labels, which are not in its budget.'


def _reach(ours: str, reach: Reach) -> str:
    best = (f"The best peer, `{reach.peer}`, ends at {reach.percent:.1f} % of the curve's questions after "
            f'{reach.peer_macs / TERA:.2f} TMAC; ')
    if reach.blind is not None:
        best += f'`{BLIND}` ends at {reach.blind:.1f} %; '
    if reach.macs is None:
        return f'{best}`{ours}` does not end as good.'
    return (f'{best}from {reach.macs / TERA:.2f} TMAC on, {reach.share:.2f} of that, `{ours}` is never below '
            'the peer.')


def _folding(report: MethodsReport, config: MethodsConfig) -> str:
    """The section on folded and unfolded adapters; empty without methods that skip attention."""
    lines = []
    for row, other in config.without_skipping.items():
        for form in (FOLDED, UNFOLDED):
            if times := report.form(row, form):
                share = 100 * sum(times['right']) / len(times['right'])
                lines.append([f'{row}, {form}', f'{share:.1f}', _times(times[FRAME]),
                              _times(times[QUESTION])])
        if report.form(row, UNFOLDED) and (plain_form := report.form(other)):
            share = 100 * next(method for method in report.rows if method.name == other).right[0].mean()
            lines.append([f'{other}, nothing skipped', f'{share:.1f}', _times(plain_form[FRAME]),
                          _times(plain_form[QUESTION])])
    if not lines:
        return ''
    differences = ' '.join(f'`{row}`: probabilities of the two forms differ by at most {value:.1e}.'
                           for row, value in report.answering['folding'].items())
    return FOLDING.format(table=markdown_table(('method', 'right, %', 'new frame, ms', 'new question, ms'),
                                               lines), differences=differences)


def draw(report: MethodsReport, config: MethodsConfig, path: Path) -> None:
    """Draw curves against MACs on the left and final accuracies with intervals on the right."""
    ours, peers = cycle(OURS), cycle(PEERS)  # the colour of a method does not depend on its rank
    colours = {name: next(ours if name in config.ours else peers) for name in config.methods}
    figure = new_figure(14, 6)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _draw_curves(left, report, colours, config.ours[0])
    yardsticks = [('rule, same tokens', report.yardsticks.rule, LIGHT),
                  *([(BLIND, report.blind.accuracy, LIGHT)] if report.blind else []),
                  ('majority', report.yardsticks.majority, LIGHT)]
    bars_with_intervals(right, [*((row.name, row.accuracy, colours[row.name]) for row in report.rows),
                                *yardsticks], .68)
    right.set(xlim=(0, 100), xlabel='percent right, with 95 % intervals')
    right.set_title('the test, after the last step', loc='left', fontsize=10, color=INK)
    seen = 'true objects' if config.modality == OBJECTS else f'{config.modality} at {config.light}'
    figure.suptitle(f'{config.name}: {seen}, links from nothing, at most '
                    f'{config.budget / TERA:g} TMAC', x=.01, ha='left', color=INK, fontsize=12)
    figure.tight_layout(w_pad=3)
    save_png(figure, path)


def _draw_curves(axes: Axes, report: MethodsReport, colours: Mapping[str, str], compared: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    for row in report.rows:
        macs, colour, bold = row.points / TERA, colours[row.name], row.name == compared
        axes.fill_between(macs, row.values.min(0), row.values.max(0), color=colour, alpha=.12, lw=0)
        axes.plot(macs, row.curve, 'o-', color=colour, lw=2.4 if bold else 1.5, ms=5 if bold else 3.5,
                  label=row.name, zorder=3 if bold else 2)
    levels: Sequence[tuple[str, float, str]] = [
        ('majority', report.yardsticks.majority_curve, ':'),
        *([(BLIND, float(report.blind.curve[-1]), '--')] if report.blind else []),
        ('rule on the same tokens', report.yardsticks.rule_curve, '-.')]
    for name, value, style in levels:
        axes.axhline(value, color=FAINT, lw=1.2, ls=style, label=f'{name} ({value:.0f} %)', zorder=1)
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f'{value:g}')
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel='TMAC spent, all costs counted', ylabel='percent right')
    axes.set_title('on the way, questions about scenes held out; bands: seeds', loc='left', fontsize=10,
                   color=INK)
    axes.legend(fontsize=9, frameon=False, loc='upper center', bbox_to_anchor=(.5, -.1), ncols=4)
    axes.grid(axis='y', color=GRID)
    plain(axes)
