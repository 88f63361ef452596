"""Page, figures and table of a benchmark of methods; the picture is in methods_picture.py."""
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.methods.answering import FOLDED, FRAME, QUESTION, ROUNDS, UNFOLDED
from bench.methods.costs import MEASURED_STEPS, TERA
from bench.methods.picture import draw
from bench.methods.plan import BLIND, MethodsConfig
from bench.methods.report import COSTS, MethodRow, MethodsReport, Reach
from bench.timing import machine
from mpnp_ros.training.budget import ADAMW
from mpnp_ros.training.true_objects import OBJECTS

MEGA = 1e6
HEADS = ('method', 'right, %', 'steps', 'trained, M', 'TMAC', 'minutes', 'peak, MB', 'new frame, ms',
         'new question, ms')
PAGE = """# Methods: cost and accuracy of an adaptation

Output of `python -m bench.methods --study study --work {name} --config bench/methods/{name}.yaml` on
{machine}; all figures are in [{name}.json]({name}.json). They were measured in the simulated
world: none of this is accuracy on nuScenes.

{scenario}

Every method is trained on the same questions about the same tokens within {budget:g} TMAC (10^12
multiply-accumulates), all costs counted, and answers the same {questions} questions about {scenes} held-out
scenes.

{table}

- *right*: mean over seeds {seeds}, after the last step, without any selection by it. In brackets is the 95 %
  interval of the bootstrap over seeds and scenes, because questions of one scene are correlated.
- *{blind}*: `{ours}` with learned constants instead of the sensor, trained in the same way. *majority*: the
  most frequent answer of each text. *rule*: a fixed rule that adds up the same tokens, without a language
  model.
- *steps*: number x questions per step. *minutes*: in steps, one thread, without evaluations. *peak*: of the
  whole process after the model is loaded, with the model, all questions and all tokens in memory.
- *new frame*: answering a known question about a new frame; *new question*: both are
  new. Median / 95th percentile of {rounds} single answers, one thread, all methods in turn in one process.

## The picture

![accuracy against MACs]({name}.png)

Left: percent right of {curve} questions about scenes held out from training, which only this curve uses.
Each point is an intermediate state of the training in the table, so its learning rate was still
high. The band spans the seeds. Right: the table.

## Findings

{claims}

## Where the MACs go

{costs}

Encoders: the {modality} frames of the training, each once, measured on one; every method reads the same
stored tokens. Reading: all texts, each once, through the part of the model below the modalities; none if
columns are in front of the first block. Calibration: trials of a method before training, such as the choice
of skipped attentions. Steps: forward and backward with the head, the mean of {measured} measured ones.
Optimiser: AdamW, {optimiser} multiply-adds a parameter and step. Evaluations are not counted for any method.
{folding}{failed}"""
SENSOR = "The paper's runtime switch: {light}, the {modality} alone, and nothing to begin from."
OBJECTS_ALONE = ('True objects in place of a sensor, as a perfect encoder would tell of them, so that no\n'
                 "encoder's errors blur what each method carries; and nothing to begin from.")
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


def write_page(report: MethodsReport, config: MethodsConfig, folder: Path) -> Path:
    """Write the figures, the picture and the page; returns the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{config.name}.json').write_text(json.dumps(as_json(report, config), indent=1) + '\n')
    draw(report, config, folder / f'{config.name}.png')
    page = folder / f'{config.name}.md'
    page.write_text(text_of(report, config))
    return page


def terminal_table(report: MethodsReport) -> Table:
    """The table of the page, for the terminal."""
    table = Table(title='Adaptation from nothing, all costs counted', title_justify='left')
    for place, head in enumerate(HEADS):
        table.add_column(head, justify='right' if place else 'left', no_wrap=True)
    for cells in _lines(report):
        table.add_row(*cells)
    return table


def text_of(report: MethodsReport, config: MethodsConfig) -> str:
    """The page as Markdown."""
    facts, first = machine(), report.rows[0]
    scenario = OBJECTS_ALONE if config.modality == OBJECTS else \
        SENSOR.format(light=config.light, modality=config.modality)
    return PAGE.format(
        machine=f'{facts["cpu"]}, {facts["cores"]} cores, torch {facts["torch"]}', name=config.name,
        scenario=scenario, modality=config.modality, budget=config.budget / TERA,
        questions=f'{first.accuracy.n:,}', scenes=report.test_scenes,
        table=_markdown(HEADS, _lines(report)), blind=BLIND, ours=config.ours[0],
        seeds=', '.join(map(str, first.seeds)), rounds=ROUNDS, curve=report.curve_questions,
        claims='\n'.join(f'- {line}' for line in _claims(report, config)), costs=_costs(report),
        measured=MEASURED_STEPS, optimiser=ADAMW, folding=_folding(report, config),
        failed=_failed(report.failed))


def as_json(report: MethodsReport, config: MethodsConfig) -> dict[str, Any]:
    """All figures and settings, as plain values."""
    rows = [*report.rows, *([report.blind] if report.blind else [])]
    return {
        'settings': asdict(config), 'machine': machine(),
        'rows': {row.name: _row_as_json(row) for row in rows},
        'yardsticks': asdict(report.yardsticks),
        'ahead': {name: asdict(lead) for name, lead in report.ahead.items()},
        'reach': report.reach and {**asdict(report.reach), 'share': report.reach.share},
        'answering': {'machine': report.answering.get('machine'), 'folding': report.answering.get('folding'),
                      'forms': [{name: value for name, value in times.items() if name != 'right'}
                                for times in report.answering.get('forms', ())]},
        'failed': dict(report.failed)}


def _row_as_json(row: MethodRow) -> dict[str, Any]:
    return {'seeds': row.seeds, 'right': asdict(row.accuracy),
            'of_each_seed': (100 * row.right.mean(1)).tolist(), 'steps': row.steps, 'batch': row.batch,
            'parameters': row.parameters, 'macs': dict(row.macs), 'seconds': row.seconds,
            'peak_bytes': row.peak_bytes, 'beforehand': row.beforehand,
            'curve': {'macs': row.points.tolist(), 'right': row.values.tolist()}}


def _lines(report: MethodsReport) -> Iterator[list[str]]:
    """The cells of every row; methods first, then yardsticks."""
    for row in (*report.rows, *filter(None, [report.blind])):
        times = report.form(row.name)
        fewer = f', seeds {", ".join(map(str, row.seeds))}' if row.seeds != report.rows[0].seeds else ''
        yield [row.name + fewer, str(row.accuracy), f'{row.steps:.0f} x {row.batch}',
               f'{row.parameters / MEGA:.2f}', f'{row.total / TERA:.2f}', f'{row.seconds / 60:.1f}',
               f'{row.peak_bytes / MEGA:.0f}',
               *(_times(times[way]) if times else '-' for way in (FRAME, QUESTION))]
    for name in ('rule', 'majority'):
        yield [name, str(getattr(report.yardsticks, name)), *['-'] * (len(HEADS) - 2)]


def _times(summary: Mapping[str, float]) -> str:
    return f'{summary["p50"]:.0f} / {summary["p95"]:.0f}'


def _markdown(heads: Sequence[str], lines: Iterator[Sequence[str]]) -> str:
    rows = [heads, ['---'] * len(heads), *lines]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in rows)


def _costs(report: MethodsReport) -> str:
    return _markdown(('TMAC', *COSTS), ([row.name, *(f'{row.macs[part] / TERA:.3f}' for part in COSTS)]
                                        for row in report.rows))


def _claims(report: MethodsReport, config: MethodsConfig) -> Iterator[str]:
    """The findings, one line each."""
    ours = config.ours[0]
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
    rows = [(row, form) for row in config.without_skipping for form in (FOLDED, UNFOLDED)
            if report.form(row, form)]
    if not rows:
        return ''
    differences = ' '.join(f'`{row}`: probabilities of the two forms differ by at most {value:.1e}.'
                           for row, value in report.answering['folding'].items())
    return FOLDING.format(table=_markdown(('method', 'right, %', 'new frame, ms', 'new question, ms'),
                                          _forms(report, config, rows)), differences=differences)


def _forms(report: MethodsReport, config: MethodsConfig,
           rows: Sequence[tuple[str, str]]) -> Iterator[list[str]]:
    for row, form in rows:
        times = report.form(row, form)
        share = 100 * sum(times['right']) / len(times['right'])
        yield [f'{row}, {form}', f'{share:.1f}', _times(times[FRAME]), _times(times[QUESTION])]
        other = config.without_skipping[row]
        if form == UNFOLDED and (plain := report.form(other)):
            share = 100 * next(each for each in report.rows if each.name == other).right[0].mean()
            yield [f'{other}, nothing skipped', f'{share:.1f}', _times(plain[FRAME]), _times(plain[QUESTION])]


def _failed(failed: Mapping[str, str]) -> str:
    lines = '\n'.join(f'- {name}: {why}' for name, why in failed.items())
    return FAILED.format(lines=lines) if lines else ''
