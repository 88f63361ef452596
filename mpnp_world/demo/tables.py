"""Results of the demo as tables."""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from mpnp_ros.cli.exchanges import Exchange, Score, interval, milliseconds, of_type, p95
from mpnp_ros.cli.output import UNKNOWN, from_to, macs, megabytes, seconds
from mpnp_ros.questions.wording import TYPES
from mpnp_world.demo.drive import Drive, sensors
from mpnp_world.demo.timeline import Adaptation, Course, adaptations, plugged_in

EXAMPLES = 4
CAPTION = ('majority: the most frequent answer to each question on other simulated streets;\n'
           'questions are chosen so that it is right about half of the time.')
ADAPTATIONS_CAPTION = (
    'in use, trained: since the sensor was plugged in, until its first links and trained ones were in use;\n'
    'latency: from question to answer, meanwhile and while nothing was trained.')


def phases_table(drive: Drive) -> Table:
    """Return the table of the phases."""
    table = Table(title='Phases of the drive', title_justify='left')
    table.add_column('phase')
    table.add_column('sensors used')
    for name in ('right', '%', '95 % interval', 'majority %', 'median latency'):
        table.add_column(name, justify='right')
    for phase, score in drive.scores():
        right, percent, majority = score_cells(score)
        used = {sensors(exchange.used) for exchange in drive.exchanges(phase)}
        table.add_row(phase.title, ' / '.join(sorted(used)), right, percent, interval(score), majority,
                      milliseconds(score.latency))
    table.caption, table.caption_justify = CAPTION, 'left'
    table.min_width = max(map(len, CAPTION.splitlines())) + 4
    return table


def adaptations_table(drive: Drive) -> Table:
    """Return the table of the adaptations."""
    table = Table(title='Adaptations', title_justify='left')
    table.add_column('adaptation')
    for name in ('in use', 'trained', 'took', 'steps', 'compute', 'peak memory', 'held-out',
                 'p95 latency', 'idle', 'ratio'):
        table.add_column(name, justify='right', no_wrap=True)
    for adaptation in adaptations(drive):
        table.add_row(*adaptation_cells(drive, adaptation))
    table.caption, table.caption_justify = ADAPTATIONS_CAPTION, 'left'
    return table


def adaptation_cells(drive: Drive, adaptation: Adaptation) -> tuple[str, ...]:
    """Return the row of an adaptation; unknown values are a dash."""
    plugged, course, costs = plugged_in(drive), Course.of(drive), adaptation.costs
    begun, trained = (None if at is None or plugged is None else at - plugged
                      for at in (adaptation.begun_in_use, adaptation.trained_in_use))
    during = course.training & (course.seconds >= adaptation.begin) & (course.seconds <= adaptation.end)
    busy, idle = p95(course.latency[during]), p95(drive.latencies(training=False))
    given = ('under way', *[UNKNOWN] * 5) if costs is None else (
        costs.supervision if costs.steps else 'tried', seconds(costs.seconds), f'{costs.steps}',
        macs(costs.macs), megabytes(costs.memory), from_to(costs.start_accuracy, costs.accuracy))
    return (given[0], seconds(begun), seconds(trained), *given[1:], milliseconds(busy), milliseconds(idle),
            UNKNOWN if math.isnan(busy / idle) else f'{busy / idle:.2f}')


def score_cells(score: Score) -> tuple[str, str, str]:
    """Return the numbers of right answers and questions, and the percentages of answers and majority."""
    if not score.asked:
        return '0 of 0', '', ''
    return f'{score.right} of {score.asked}', f'{score.percent:.0f}', f'{score.guess_percent:.0f}'


def types_table(answers: Mapping[tuple[str, ...], Sequence[Exchange]]) -> Table:
    """Return the table of right answers about real frames, by type of question and sensors, percent."""
    table = Table(title='Right by type of question, %', title_justify='left')
    table.add_column('question about')
    for name in ('questions', *map(sensors, answers), 'majority'):
        table.add_column(name, justify='right')
    for kind in (*TYPES, None):
        scores = [Score.of(of_type(exchanges, kind)) for exchanges in answers.values()]
        if scores[0].asked:
            table.add_row(kind or 'all', f'{scores[0].asked}', *(f'{score.percent:.0f}' for score in scores),
                          f'{scores[0].guess_percent:.0f}', style='' if kind else 'bold')
    table.caption, table.caption_justify = CAPTION, 'left'
    table.min_width = max(map(len, CAPTION.splitlines())) + 4
    return table


def directions_line(exchanges: Sequence[Exchange], away: Sequence[str | None]) -> str:
    """Return how many answers about a direction are right, and would be in another; empty: there are none.

    away: what is true there, for each question; None: it names no direction.
    """
    pairs = [(exchange, truth) for exchange, truth in zip(exchanges, away, strict=True) if truth is not None]
    right = sum(exchange.is_right for exchange, _ in pairs)
    elsewhere = sum(exchange.answer == truth for exchange, truth in pairs)
    return f'{len(pairs)} questions name a direction: {right} right; in a direction 120 degrees further ' \
           f'round {elsewhere} of these answers would be' if pairs else ''


def examples(exchanges: Iterable[Exchange], right: bool) -> list[Exchange]:
    """Return some right, or wrong, exchanges, of as many types as there are."""
    matching = [exchange for exchange in exchanges if exchange.is_right is right]
    firsts = {exchange.type: exchange for exchange in reversed(matching)}
    rest = [exchange for exchange in matching if exchange is not firsts[exchange.type]]
    return [*firsts.values(), *rest][:EXAMPLES]
