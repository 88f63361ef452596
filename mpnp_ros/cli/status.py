"""Show the modalities of the fusion node: state, rate, age, and whether answers use them.

Below the table: the sensors of answers, warnings of nodes, and the state of the adaptation node.
Exit code 0: a sensor can be used. 1: none can. 2: the system is starting or not running.
"""
from __future__ import annotations

import json
import math
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli.arguments import add_fusion
from mpnp_ros.cli.output import finite, from_to, macs, megabytes, seconds
from mpnp_ros.cli.session import connected, wait_for
from mpnp_ros.client.node_reports import LEVELS, NodeReport
from mpnp_ros.client.node_reports import OK as SOUND
from mpnp_ros.node_names import FUSION

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from mpnp_ros.client.robot import Robot

STATES = ('absent', 'probing', 'healthy', 'degraded', 'stale', 'adapting')
DOING = ('idle', 'reading', 'training', 'evaluating')
COLOURS = {'healthy': 'green', 'degraded': 'yellow', 'stale': 'red', 'absent': 'dim'}
REFRESH, ADAPTATION_TIMEOUT = .25, .5


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--watch', action='store_true', help='update until Ctrl-C')
    parser.add_argument('--json', action='store_true', help='one JSON object per report')
    add_fusion(parser)


def run(arguments: Namespace) -> int:
    """Print the report once or, with --watch, keep it up to date."""
    with connected('status', arguments.namespace, arguments.timeout) as robot:
        states, reports = robot.modalities(), robot.reports
        reports.wait()
        if not arguments.watch:
            wait_for(lambda: not reports.is_starting(FUSION), arguments.timeout, reports.why_absent)
            states = robot.modalities()
        adaptation = robot.adaptation(ADAPTATION_TIMEOUT)
        if arguments.watch:
            watch(robot, arguments.json)
        else:
            show(states, arguments.json, adaptation, reports)
    return 0 if usable(states) else 1


def show(states: Mapping[str, Any], as_json: bool, adaptation: Any = None,
         reports: Iterable[NodeReport] = ()) -> None:
    """Print one report; states: ModalityState messages by modality."""
    if as_json:
        entries = as_dict(states)
        nodes = {report.name: {'level': LEVELS[report.level], 'text': report.text} for report in reports}
        more = {'nodes': nodes, 'adaptation': adaptation and adaptation_as_dict(adaptation)}
        print(json.dumps(entries | {key: value for key, value in more.items() if value}), flush=True)
        return
    from rich.console import Console
    Console(highlight=False).print(page(states, adaptation, reports))


def watch(robot: Robot, as_json: bool) -> None:
    """Print changes until Ctrl-C: as JSON lines, or as a table that replaces the previous one."""
    if as_json:
        shown = None
        while True:
            if (states := robot.modalities(math.inf)) is not shown:
                show(states, as_json, robot.adaptation(0.), robot.reports)
            shown = states
            time.sleep(REFRESH)
    from rich.live import Live
    with Live(auto_refresh=False) as live:
        while True:
            live.update(page(robot.modalities(math.inf), robot.adaptation(0.), robot.reports), refresh=True)
            time.sleep(REFRESH)


def page(states: Mapping[str, Any], adaptation: Any = None, reports: Iterable[NodeReport] = ()) -> Group:
    """Return the table with lines below it: sensors of answers, details of states, warnings, adaptation."""
    from rich.console import Group
    from rich.text import Text

    found = usable(states)
    lines = [f'answers rest on: {", ".join(found)}'] if found else ['no sensor can be used']
    lines += [f'{name}: {state["detail"]}' for name, state in as_dict(states).items() if state['detail']]
    lines += [f'{report.name}: {report.state}' if report.level == SOUND else
              f'{report.name}: {LEVELS[report.level]}: {report.text}' for report in reports
              if report.level != SOUND or report.starting]
    lines += [describe(adaptation)] if adaptation else []
    return Group(table(states), *map(Text, lines))


def usable(states: Mapping[str, Any]) -> list[str]:
    """Return the modalities that answers can use now: plugged, with links and with fresh tokens."""
    return [name for name, state in as_dict(states).items()
            if state['plugged'] and state['links_version'] and state['age'] is not None
            and state['state'] not in ('absent', 'stale')]


def describe(adaptation: Any) -> str:
    """Return an Adaptation message as text: one line if it is idle, otherwise two."""
    doing = DOING[adaptation.state]
    said = f'adaptation: {doing}' + (f', {adaptation.decision}' if adaptation.decision else '')
    if doing == 'idle':
        return f'{said} ({adaptation.labelled_questions} questions on {adaptation.frames} frames kept)'
    return (f'{said}\n  {" ".join(adaptation.modalities)}, {adaptation.supervision}, '
            f'step {adaptation.step} of {adaptation.steps or "?"}, loss {adaptation.loss:.3f}, '
            f'accuracy {from_to(adaptation.start_accuracy, adaptation.accuracy)}, '
            f'{seconds(adaptation.duration)} passed, {seconds(adaptation.remaining)} left, '
            f'{macs(adaptation.macs)}, {megabytes(adaptation.memory)}')


def adaptation_as_dict(adaptation: Any) -> dict[str, object]:
    """Return an Adaptation message as plain data; unknown numbers are None."""
    numbers = ('loss', 'accuracy', 'start_accuracy', 'duration', 'remaining', 'macs')
    counts = ('step', 'steps', 'memory', 'labelled_questions', 'frames')
    return {'state': DOING[adaptation.state], 'decision': adaptation.decision,
            'modalities': list(adaptation.modalities), 'supervision': adaptation.supervision,
            **{name: finite(getattr(adaptation, name)) for name in numbers},
            **{name: getattr(adaptation, name) for name in counts}}


def as_dict(states: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the states of modalities as plain data, by modality; unknown numbers are None."""
    return {state.modality: {
        'state': STATES[state.state], 'plugged': state.plugged, 'pinned': state.pinned,
        'rate': finite(state.rate), 'age': finite(state.age), 'quality': finite(state.quality),
        'links_version': state.links_version, 'encoder': state.encoder, 'detail': state.detail,
    } for state in states.values()}


def table(states: Mapping[str, Any]) -> Table:
    """Return the states of modalities as a table."""
    from rich.table import Table

    result = Table()
    for heading in ('modality', 'state', 'plugged', 'rate', 'age', 'quality', 'links'):
        result.add_column(heading, overflow='fold')
    for name, state in as_dict(states).items():
        label = state['state']
        colour = COLOURS.get(label, 'cyan')
        plugged = ('yes' if state['plugged'] else 'no') + (', by hand' if state['pinned'] else '')
        result.add_row(name, f'[{colour}]{label}[/]', plugged, _number(state['rate'], ' Hz'),
                       _number(state['age'], ' s'), _number(state['quality'], ''),
                       state['links_version'] or '-')
    return result


def _number(value: float | None, unit: str) -> str:
    return '-' if value is None else f'{value:.2f}{unit}'
