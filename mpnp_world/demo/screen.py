"""Display of the demo while it drives: one screen in a terminal, lines in a log."""
from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mpnp_ros.cli.exchanges import Exchange, Score
from mpnp_ros.cli.output import from_to, macs, megabytes, seconds
from mpnp_world.demo.drive import Costs, Drive, DriveEvent, DriveMoment, Phase, sensors

if TYPE_CHECKING:
    from rich.console import Console

    from mpnp_world.demo.real_drive import RealAnswers
    from mpnp_world.demo.robot import Diary, Running, Sense

LAST, BAR, REFRESH = 8, 24, 4.
FULL, EMPTY = '█', '░'
COLOURS = {'healthy': 'green', 'degraded': 'yellow', 'stale': 'red', 'probing': 'cyan', 'adapting': 'magenta'}
AROUND = 12
"""Lines of the screen beside those of phases, modalities and questions."""


@dataclass(frozen=True)
class Now:
    """The present key frame, which is not yet among those of the drive, and the exchanges about it."""

    drive: Drive
    phase: Phase
    exchanges: Sequence[Exchange] = ()


class LiveView:
    """A screen that redraws itself; see :class:`~mpnp_world.demo.drive.View`."""

    def __init__(self, console: Console, diary: Diary) -> None:
        self._height, self._diary = console.height, diary
        self._last: deque[Exchange] = deque(maxlen=LAST)
        self._now: Now | None = None
        self._title, self._start = 'waiting for the first key frame', time.monotonic()
        self._live = Live(console=console, get_renderable=self._screen, refresh_per_second=REFRESH,
                          transient=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._live.stop()

    def entered(self, phase: Phase) -> None:
        """Show the title of the phase."""
        self._title = phase.title

    def answered(self, drive: Drive, phase: Phase, exchanges: Sequence[Exchange]) -> None:
        """Show the newest answer when the screen is drawn next."""
        self._last.append(exchanges[-1])
        self._now = Now(drive, phase, tuple(exchanges))

    def passed(self, drive: Drive, moment: DriveMoment) -> None:
        """Count the key frame as one of the drive."""
        self._now = Now(drive, moment.phase)

    def _screen(self) -> RenderableType:
        now, frames = self._now, 1
        parts: list[RenderableType] = []
        if now is not None:
            frames = len(now.drive.moments) + bool(now.exchanges)
            parts += [progress(now.drive, now.phase, now.exchanges), '']
        head = Text.assemble((self._title, 'bold'), f'   {time.monotonic() - self._start:.0f} s, key frame '
                             f'{frames}')
        if now is not None and (reason := now.drive.given_up):
            parts += [Text(f'adaptation given up: {reason}', 'yellow'), '']
        parts = [head, '', *parts, Panel(system(self._diary), title='events',
                                         title_align='left', border_style='dim')]
        room = self._height - AROUND - len(self._diary.senses) - (len(now.drive.phases) if now else 0)
        if self._last and room > 0:
            parts.append(conversation(list(self._last)[-room:]))
        return Group(*parts)


class PlainView:
    """Prints a line for every key frame, and for every event of the system."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: set[DriveEvent] = set()
        self._ended = 0

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Do nothing."""

    def entered(self, phase: Phase) -> None:
        """Print the title of the phase."""
        self._print(f'{phase.title}', 'bold')

    def answered(self, drive: Drive, phase: Phase, exchanges: Sequence[Exchange]) -> None:
        """Do nothing until the key frame is complete."""

    def passed(self, drive: Drive, moment: DriveMoment) -> None:
        """Print new events, then scores of the key frame and of the phase, and the last question."""
        for event in drive.events:
            if event not in self._told and event.kind != 'phase' and event.text != 'idle':
                self._told.add(event)
                self._print(f'  {event.seconds:5.0f} s  * {happened(event)}', 'cyan')
        for costs in drive.adaptations[self._ended:]:
            self._print(f'           * adaptation over: {figures(costs)}', 'cyan')
        self._ended = len(drive.adaptations)
        here, score = Score.of(moment.exchanges), Score.of(drive.exchanges(moment.phase))
        line = (f'  {moment.seconds:5.0f} s  {here.right:2d} of {here.asked:2d} right, phase so far '
                f'{score.percent:3.0f} % of {score.asked}, majority {score.guess_percent:3.0f} %')
        if moment.exchanges:
            last = moment.exchanges[-1]
            line += (f'; {sensors(last.used)}: {last.question} {last.answer} '
                     f'({"right" if last.is_right else last.truth})')
        self._print(line)

    def _print(self, line: str, style: str = '') -> None:
        self._console.print(line, style=style, highlight=False, markup=False, no_wrap=True,
                            overflow='ellipsis')


def make_view(console: Console, diary: Diary) -> LiveView | PlainView:
    """The screen for a terminal, the lines for a log."""
    return LiveView(console, diary) if console.is_terminal else PlainView(console)


def real_line(answers: RealAnswers) -> str:
    """The newest real key frame on one line: right answers by the sensors that were plugged."""
    moment = answers.moments[-1]
    number = 1 + answers.drive.frames.index(moment.frame)
    scores = {sensors(plugged): Score.of(exchanges) for plugged, exchanges in moment.answers.items()}
    first = next(iter(scores.values()))
    told = ', '.join(f'{name} {score.right}' for name, score in scores.items())
    return (f'  key frame {number:2d} of {len(answers.drive.frames)}: right of {first.asked:2d}: {told}, '
            f'majority {first.guessed}')


def progress(drive: Drive, now: Phase, exchanges: Sequence[Exchange]) -> Table:
    """A table with a bar for every phase; exchanges: of the present key frame, not yet in the drive."""
    table = Table(box=None, pad_edge=False)
    for name in ('phase', 'right so far', '%', 'majority %', 'questions'):
        table.add_column(name, justify='right' if name in ('%', 'majority %', 'questions') else 'left')
    for phase in drive.phases:
        score = Score.of([*drive.exchanges(phase), *(exchanges if phase is now else ())])
        style = 'bold' if phase is now else '' if score.asked else 'dim'
        cells = (bar(score.percent), f'{score.percent:.0f}', f'{score.guess_percent:.0f}',
                 str(score.asked)) if score.asked else (EMPTY * BAR, '', '', '')
        table.add_row(f'{"▶" if phase is now else " "} {phase.title}', *cells, style=style)
    return table


def bar(percent: float, colour: str = 'green') -> Text:
    """A bar of fixed width."""
    full = round(BAR * min(percent, 100.) / 100)
    return Text.assemble((FULL * full, colour), (EMPTY * (BAR - full), 'dim'))


def system(diary: Diary) -> Group:
    """States of the modalities, the newest decision, and the progress of an adaptation."""
    running = diary.running
    parts: list[RenderableType] = [states(diary.senses), Text.assemble(('decision  ', 'dim'), diary.decision)]
    if running is not None:
        parts.append(training(running))
    return Group(*parts)


def states(senses: Sequence[Sense]) -> Table:
    """A table of the modalities: state, links in use, and details."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow='ellipsis')
    for sense in senses:
        table.add_row(sensors([sense.modality]), Text(sense.state, COLOURS.get(sense.state, 'dim')),
                      f'links {sense.links}' if sense.links else Text('no links', 'dim'),
                      Text(sense.detail, 'dim'))
    return table


def training(running: Running) -> Text:
    """The progress of an adaptation on one line."""
    share = 100 * running.done / running.of if running.of else 0.
    return Text.assemble(
        (f'{running.stage:9} ', 'magenta'), bar(share, 'magenta'), f' {running.done} of {running.of or "?"}, '
        f'{seconds(running.remaining)} left; {figures(running.costs)}')


def figures(costs: Costs) -> str:
    """Cost and accuracy of an adaptation in words."""
    return (f'{costs.supervision}, {costs.steps} steps, held-out '
            f'{from_to(costs.start_accuracy, costs.accuracy)}, {macs(costs.macs)}, {megabytes(costs.memory)}')


def happened(event: DriveEvent) -> str:
    """An event in words."""
    if event.kind in ('state', 'links'):
        name, what = event.text.split()
        kind = 'links ' if event.kind == 'links' else ''
        return f'{sensors([name])}: {kind}{what}{" in use" if kind and what != "none" else ""}'
    if event.kind == 'given up':
        return f'adaptation given up: {event.text}'
    return f'{"decision" if event.kind == "decision" else "adaptation"}: {event.text}'


def conversation(exchanges: Sequence[Exchange]) -> Table:
    """A table of questions and answers; with the counted objects if links count."""
    table = Table(box=None, pad_edge=False)
    counts = any(exchange.counted for exchange in exchanges)
    for name in ('question', 'answer', '', 'truth', 'rests on', 'latency'):
        table.add_column(name, justify='right' if name == 'latency' else 'left', no_wrap=True)
    if counts:
        table.add_column('counted', no_wrap=True, overflow='ellipsis')
    for exchange in exchanges:
        mark = Text('✓', 'green') if exchange.is_right else Text('✗', 'red')
        table.add_row(exchange.question, exchange.answer, mark, exchange.truth, sensors(exchange.used),
                      f'{1e3 * exchange.latency:.0f} ms', *([exchange.counted] if counts else []))
    return table
