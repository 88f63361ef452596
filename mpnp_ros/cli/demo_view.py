"""What is seen of the demo while it drives: a live table in a terminal, a line a key frame in a log."""
from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mpnp_ros.cli.demo_drive import Drive, Exchange, Moment, Phase, Score, sensors

if TYPE_CHECKING:
    from rich.console import Console

LAST, BAR = 8, 24
FULL, EMPTY = '█', '░'


class LiveView:
    """Redraws itself after every answer; see :class:`~mpnp_ros.cli.demo_drive.View`."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._last: deque[Exchange] = deque(maxlen=LAST)
        self._start = time.monotonic()

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._live.stop()

    def entered(self, phase: Phase) -> None:
        """The table says it with the first answer."""

    def answered(self, drive: Drive, phase: Phase, exchanges: Sequence[Exchange]) -> None:
        """Draw everything anew."""
        self._last.append(exchanges[-1])
        seconds = time.monotonic() - self._start
        head = Text.assemble((f'Driving: {phase.title}', 'bold'), f'   {seconds:.0f} s, key frame '
                             f'{len(drive.moments) + 1}')
        tally = progress(drive, phase, exchanges)
        self._live.update(Group(head, '', tally, '', conversation(list(self._last))), refresh=True)

    def passed(self, drive: Drive, moment: Moment) -> None:
        """Nothing that is not drawn already."""


class PlainView:
    """Prints a line for every key frame."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Nothing to end."""

    def entered(self, phase: Phase) -> None:
        """Say what begins."""
        self._console.print(f'[bold]{phase.title}[/]')

    def answered(self, drive: Drive, phase: Phase, exchanges: Sequence[Exchange]) -> None:
        """Wait for the whole key frame."""

    def passed(self, drive: Drive, moment: Moment) -> None:
        """One line: this key frame, this phase so far, and the last question."""
        here, score = Score.of(moment.exchanges), Score.of(drive.exchanges(moment.phase))
        line = (f'  {moment.seconds:5.0f} s  {here.right:2d} of {here.asked:2d} right, phase so far '
                f'{score.percent:3.0f} % of {score.asked}, majority {score.guess_percent:3.0f} %')
        if moment.exchanges:
            one = moment.exchanges[-1]
            line += f'   {one.question} {one.answer} ({"right" if one.is_right else one.truth})'
        self._console.print(line, highlight=False, markup=False, no_wrap=True, overflow='ellipsis')


def make_view(console: Console) -> LiveView | PlainView:
    """The live table where there is a terminal."""
    return LiveView(console) if console.is_terminal else PlainView(console)


def progress(drive: Drive, now: Phase, exchanges: Sequence[Exchange]) -> Table:
    """A bar for every phase; exchanges: of the present key frame, which is not among the moments yet."""
    table = Table(box=None, pad_edge=False)
    for name in ('phase', 'answers may rest on', 'right so far', '%', 'majority %', 'questions'):
        table.add_column(name, justify='right' if name in ('%', 'majority %', 'questions') else 'left')
    for phase in drive.phases:
        score = Score.of([*drive.exchanges(phase), *(exchanges if phase is now else ())])
        style = 'bold' if phase is now else '' if score.asked else 'dim'
        cells = (bar(score.percent), f'{score.percent:.0f}', f'{score.guess_percent:.0f}',
                 str(score.asked)) if score.asked else (EMPTY * BAR, '', '', '')
        table.add_row(f'{"▶" if phase is now else " "} {phase.light}', sensors(phase.plugged), *cells,
                      style=style)
    return table


def bar(percent: float) -> Text:
    """A bar of fixed width."""
    full = round(BAR * percent / 100)
    return Text.assemble((FULL * full, 'green'), (EMPTY * (BAR - full), 'dim'))


def conversation(exchanges: Sequence[Exchange]) -> Table:
    """Questions and answers."""
    table = Table(box=None, pad_edge=False)
    for name in ('question', 'answer', '', 'truth', 'rests on', 'latency'):
        table.add_column(name, justify='right' if name == 'latency' else 'left', no_wrap=True)
    for one in exchanges:
        mark = Text('✓', 'green') if one.is_right else Text('✗', 'red')
        table.add_row(one.question, one.answer, mark, one.truth, sensors(one.used),
                      f'{1e3 * one.latency:.0f} ms')
    return table
