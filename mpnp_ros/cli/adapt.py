"""Train links on the running robot within a budget, and show the progress.

Without a modality the adaptation node decides what is missing.  Omitted options have the values of the node.
Ctrl-C stops the training; the links in use stay as they are.
"""
from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import Any

from mpnp_ros.cli.arguments import add_namespace
from mpnp_ros.cli.output import finite, from_to, macs, megabytes, percent, print_table, seconds
from mpnp_ros.cli.session import connected
from mpnp_ros.cli.signals import CANCELLED, interruptible
from mpnp_ros.errors import CancelledError, ConfigurationError, RequestError

SUPERVISIONS = ('labelled', 'distilled')
LARGEST = {'seconds': 86400., 'macs': 1e18, 'memory': 1e6, 'accuracy': 1., 'blocks': 65535}
LINE_EVERY = 5.
"""Seconds between two lines of one stage."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('modalities', nargs='*', metavar='MODALITY',
                        help='modalities to train, such as camera lidar (default: those that are missing)')
    parser.add_argument('--seconds', type=float, default=0., metavar='S',
                        help='maximum duration of the training')
    parser.add_argument('--macs', type=float, default=0., metavar='N',
                        help='maximum multiply-accumulates, e.g. 5e13')
    parser.add_argument('--memory', type=float, default=0., metavar='MB',
                        help='maximum memory of the training process')
    parser.add_argument('--accuracy', type=float, default=0., metavar='SHARE',
                        help='accuracy on held-out questions at which to stop, 0..1')
    parser.add_argument('--supervision', choices=SUPERVISIONS,
                        help='source of the labels (default: labelled if there are enough)')
    parser.add_argument('--blocks', type=int, default=0, metavar='N',
                        help='number of linked blocks of new links (default: as many as the budget allows)')
    parser.add_argument('--timeout', type=float, default=10., metavar='S',
                        help='seconds to wait for the adaptation node (default: %(default)g)')
    parser.add_argument('--json', action='store_true', help='print the result as one JSON object')
    add_namespace(parser)


def run(arguments: Namespace) -> int:
    """Train and print the result; exit code 1 if no links were made, 130 after Ctrl-C."""
    for name, largest in LARGEST.items():
        if not 0 <= getattr(arguments, name) <= largest:
            raise ConfigurationError(f'--{name} is {getattr(arguments, name):g}; '
                                     f'it must be from 0 to {largest:g}')
    view = View() if arguments.json else BarView() if sys.stdout.isatty() else LineView()
    with connected('adapt', arguments.namespace, arguments.timeout) as robot, \
            interruptible() as interrupted, view:
        try:
            result = robot.adapt(
                arguments.modalities, supervision=arguments.supervision or '',
                linked_blocks=arguments.blocks, budget_duration=arguments.seconds, budget_macs=arguments.macs,
                budget_memory=round(arguments.memory * 1e6), target_accuracy=arguments.accuracy,
                progress=view.update, cancelled=interrupted)
        except RequestError as error:
            result = error.response
        except CancelledError:
            return CANCELLED
        cancelled = interrupted()
    show(result, arguments.json)
    return CANCELLED if cancelled else 0 if result.success else 1


class View:
    """Shows no progress."""

    def __enter__(self) -> View:
        return self

    def __exit__(self, *error: object) -> None:
        """End the display."""

    def update(self, feedback: Any) -> None:
        """Show an Adapt.Feedback."""


class LineView(View):
    """Prints a line at the start of every stage, and every few seconds."""

    def __init__(self) -> None:
        self._stage, self._next = '', 0.

    def update(self, feedback: Any) -> None:
        """Print a line if it is due."""
        now = time.monotonic()
        if feedback.stage != self._stage or now >= self._next:
            self._stage, self._next = feedback.stage, now + LINE_EVERY
            steps = f'{feedback.step}/{feedback.steps or "?"}'
            print(f'{feedback.stage:10} {steps:10} {figures(feedback)}', flush=True)


class BarView(View):
    """Draws a progress bar."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(TextColumn('{task.description:10}'), BarColumn(), MofNCompleteColumn(),
                                  TextColumn('{task.fields[figures]}', markup=False), TimeElapsedColumn(),
                                  transient=True)
        self._task = self._progress.add_task('waiting', total=None, figures='')

    def __enter__(self) -> BarView:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def update(self, feedback: Any) -> None:
        """Update the bar; without a number of steps it only moves."""
        self._progress.update(self._task, description=feedback.stage, completed=feedback.step,
                              total=feedback.steps or None, figures=figures(feedback))


def figures(feedback: Any) -> str:
    """Loss, accuracy and time left in one line."""
    return (f'loss {feedback.loss:.3f}  accuracy {percent(feedback.accuracy)}  '
            f'{seconds(feedback.remaining)} left')


def show(result: Any, as_json: bool) -> None:
    """Print an Adapt.Result."""
    if as_json:
        print(json.dumps(as_dict(result)), flush=True)
        return
    reason = result.message or 'the adaptation node gives no reason; see its log'
    if not result.success:
        print(f'mpnp adapt: {reason}', file=sys.stderr)
    elif result.message:
        print(result.message)
    if result.links or result.duration:
        made = [('new links', f'{link.modality}/{link.version}  {link.path}') for link in result.links]
        took = f'{seconds(result.duration)}, {macs(result.macs)}, peak {megabytes(result.peak_memory)}'
        print_table([('accuracy', f'{from_to(result.start_accuracy, result.accuracy)} on held-out questions'),
                     ('most frequent answers', percent(result.blind_accuracy)), ('took', took), *made])


def as_dict(result: Any) -> dict[str, object]:
    """Return an Adapt.Result as plain data; numbers that were not measured are None."""
    numbers = {name: finite(getattr(result, name)) for name in
               ('accuracy', 'start_accuracy', 'blind_accuracy', 'duration', 'macs', 'peak_memory')}
    links = [{'modality': link.modality, 'version': link.version, 'path': link.path, 'sha256': link.sha256}
             for link in result.links]
    return {'success': result.success, 'message': result.message, 'links': links, **numbers}
