"""What the demo found, as tables."""
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from mpnp_ros.cli.demo_drive import Drive, Exchange, Score, sensors
from mpnp_ros.cli.demo_view import conversation
from mpnp_ros.locations import source_folder

TYPES = ('exist', 'count', 'object', 'status', 'comparison')
EXAMPLES = 4
CAPTION = ('majority: the most frequent answer to each question on other streets, without looking;\n'
           'questions are chosen so that it is right about half of the time. Few questions: a phase may be\n'
           '10 points off.')


def measured() -> Mapping[str, float]:
    """Percent right by row of docs/accuracy.json, empty where it is not there."""
    checkout = source_folder()
    path = checkout / 'docs' / 'accuracy.json' if checkout else Path('accuracy.json')
    if not path.is_file():
        return {}
    return {row: figures['mean'] for row, figures in json.loads(path.read_text()).items()
            if isinstance(figures, dict)}


def phases_table(drive: Drive, elsewhere: Mapping[str, float]) -> Table:
    """What every phase rested on; elsewhere: as :func:`measured` gives it."""
    table = Table(title='What the phases of the drive rested on', title_justify='left')
    table.add_column('phase')
    table.add_column('answers rested on')
    for name in ('right', '%', 'majority %', 'median latency'):
        table.add_column(name, justify='right')
    if elsewhere:
        table.add_column('docs/accuracy.md %', justify='right')
    for phase, score in drive.scores():
        rest = [f'{elsewhere[phase.figure]:.1f}' if phase.figure in elsewhere else ''] if elsewhere else []
        table.add_row(phase.light, ' / '.join(sorted({sensors(one.used) for one in drive.exchanges(phase)})),
                      *score_cells(score), f'{1e3 * score.latency:.0f} ms', *rest)
    table.caption, table.caption_justify = CAPTION, 'left'
    table.min_width = max(map(len, CAPTION.splitlines())) + 4
    return table


def score_cells(score: Score) -> tuple[str, str, str]:
    """Right of asked, and both percentages."""
    if not score.asked:
        return '0 of 0', '', ''
    return f'{score.right} of {score.asked}', f'{score.percent:.0f}', f'{score.guess_percent:.0f}'


def types_table(answers: Mapping[tuple[str, ...], Sequence[Exchange]]) -> Table:
    """Answers about one frame by type of question and by what was plugged, and the majority."""
    table = Table(title='Right by type of question', title_justify='left')
    table.add_column('question about')
    for plugged in answers:
        table.add_column(sensors(plugged), justify='right')
    table.add_column('majority', justify='right')
    for kind in (*TYPES, None):
        scores = [Score.of(of_type(exchanges, kind)) for exchanges in answers.values()]
        if scores and scores[0].asked:
            first = scores[0]
            table.add_row(kind or 'all', *(f'{score.right} of {score.asked}' for score in scores),
                          f'{first.guessed} of {first.asked}', style='' if kind else 'bold')
    return table


def examples_table(exchanges: Sequence[Exchange]) -> Table:
    """A few right and a few wrong ones."""
    return conversation([*examples(exchanges, True), *examples(exchanges, False)])


def examples(exchanges: Iterable[Exchange], right: bool) -> list[Exchange]:
    """Some that are right, or wrong, of as many types as there are."""
    matching = [one for one in exchanges if one.is_right is right]
    firsts = {one.type: one for one in reversed(matching)}
    rest = [one for one in matching if one is not firsts[one.type]]
    return [*firsts.values(), *rest][:EXAMPLES]


def of_type(exchanges: Iterable[Exchange], kind: str | None) -> list[Exchange]:
    """Those of a type; None: all."""
    return [one for one in exchanges if kind in (None, one.type)]
