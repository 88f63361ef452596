"""What the demo found, as tables."""
from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mpnp_ros.cli.demo_learning import Evidence
from mpnp_ros.cli.demo_live import Interview, Standing


def evidence_table(evidence: Evidence) -> Table:
    """Accuracies by what the answers could see."""
    table = Table(title='What the answers rest on: right answers, %', title_justify='left')
    table.add_column('the links see')
    table.add_column(f'trained headings\n{evidence.questions[0]} questions', justify='right')
    table.add_column(f'held-out headings\n{evidence.questions[1]} questions', justify='right')
    for name, trained in evidence.trained.items():
        table.add_row(name, f'{100 * trained:.1f}', f'{100 * evidence.held_out[name]:.1f}')
    seconds, blind_seconds = evidence.seconds
    return _captioned(table, f'trained in {seconds:.0f} s, the blind twin in {blind_seconds:.0f} s;\n'
                             'one key frame seen from many headings: a test of the wiring, not of nuScenes')


def answers_table(interview: Interview) -> Table:
    """Questions and answers of one interview."""
    count = len(interview.exchanges)
    title = f'Asked on ROS topics about the frame that was trained on: {interview.right} of {count} right'
    table = Table(title=title, title_justify='left')
    for name in ('question', 'answer', 'truth', '', 'confidence', 'rests on', 'latency'):
        table.add_column(name, justify='right' if name in ('confidence', 'latency') else 'left')
    for exchange in interview.exchanges:
        answer = exchange.answer
        table.add_row(answer.question, answer.text, exchange.truth,
                      '[green]right[/]' if exchange.is_right else '[red]wrong[/]',
                      f'{answer.confidence:.2f}', _named(answer.used_modalities),
                      f'{1e3 * answer.latency:.0f} ms')
    return table


def plugging_table(interviews: Sequence[Interview], standing: Standing) -> Table:
    """The same questions with modalities plugged and unplugged while the system ran."""
    table = Table(title='Plugged and unplugged while it runs', title_justify='left')
    for name in ('plugged', 'answers rest on', 'right'):
        table.add_column(name, justify='right' if name == 'right' else 'left')
    for interview in interviews:
        table.add_row(_named(interview.plugged), ' / '.join(sorted(map(_named, interview.used))),
                      f'{interview.right} of {len(interview.exchanges)}')
    count, median = len(standing.latencies), 1e3 * standing.median
    return _captioned(table, f'standing question: {count} answers in {standing.seconds:g} s, '
                             f'median {median:.0f} ms from a frame to its answer')


def _captioned(table: Table, text: str) -> Table:
    """The table, as wide as the lines of its caption."""
    table.caption, table.min_width = text, max(map(len, text.splitlines()))
    return table


def _named(modalities: Sequence[str]) -> str:
    return ' + '.join(modalities) or 'nothing'
