"""Show the modalities as the fusion node sees them: state, rate, age, whether answers use them.

Where an adaptation node runs, also what it is doing and why.
"""
from __future__ import annotations

import json
import math
import time
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli.session import NotAnsweringError, add_namespace, ros_session, wait_for
from mpnp_ros.cli.units import from_to, macs, megabytes, seconds

if TYPE_CHECKING:
    from rclpy.node import Node
    from rich.console import Group
    from rich.table import Table

STATES = ('absent', 'probing', 'healthy', 'degraded', 'stale', 'adapting')
DOING = ('idle', 'reading', 'training', 'evaluating')
COLOURS = {'healthy': 'green', 'degraded': 'yellow', 'stale': 'red', 'absent': 'dim'}
REFRESH, ADAPTATION_TIMEOUT = .25, .5


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--watch', action='store_true', help='go on until Ctrl-C')
    parser.add_argument('--json', action='store_true', help='one JSON object per report')
    parser.add_argument('--timeout', type=float, default=10., metavar='S',
                        help='seconds to wait for the fusion node (default: %(default)s)')
    add_namespace(parser)


def run(arguments: Namespace) -> int:
    """Print the table once or, with --watch, keep it up to date."""
    with ros_session(arguments.namespace) as node:
        latest = LatestStates(node)
        nobody = (f'nobody publishes {node.resolve_topic_name("modalities")}; start the system with '
                  '`mpnp bringup`, and give its --namespace and ROS_DOMAIN_ID here too')
        states = wait_for(latest.take, arguments.timeout, nobody)
        with suppress(NotAnsweringError):
            wait_for(lambda: latest.adaptation, ADAPTATION_TIMEOUT, 'there is no adaptation node')
        if arguments.watch:
            watch(latest, states, arguments.json)
        else:
            show(states, arguments.json, latest.adaptation)
    return 0


class LatestStates:
    """The newest reports of the fusion node and the adaptation node; latched, so the last ones come at once.

    adaptation: a message of that type, None where no such node runs.
    """

    def __init__(self, node: Node) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from mpnp_ros.msg import Adaptation, ModalityStates

        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._newest: Any = None
        self.adaptation: Any = None
        node.create_subscription(ModalityStates, 'modalities', self._keep, latched)
        node.create_subscription(Adaptation, 'adaptation', self._keep_adaptation, latched)

    def take(self) -> Any:
        """Return a report of the fusion node that has not been taken yet, or None."""
        newest, self._newest = self._newest, None
        return newest

    def _keep(self, states: Any) -> None:
        self._newest = states

    def _keep_adaptation(self, adaptation: Any) -> None:
        self.adaptation = adaptation


def show(states: Any, as_json: bool, adaptation: Any = None) -> None:
    """Print one report."""
    if as_json:
        entries = as_dict(states)
        print(json.dumps(entries | {'adaptation': adaptation_as_dict(adaptation)} if adaptation else entries),
              flush=True)
        return
    from rich.console import Console
    Console().print(page(states, adaptation))


def watch(latest: LatestStates, states: Any, as_json: bool) -> None:
    """Print every report; as a table, in the place of the one before it."""
    if as_json:
        while True:
            show(states, as_json, latest.adaptation)
            states = wait_for(latest.take, math.inf, '')
    from rich.live import Live
    with Live(page(states, latest.adaptation), auto_refresh=False) as live:
        while True:
            states = latest.take() or states
            live.update(page(states, latest.adaptation), refresh=True)
            time.sleep(REFRESH)


def page(states: Any, adaptation: Any = None) -> Group:
    """Return the table, and below it what the adaptation node is doing."""
    from rich.console import Group
    from rich.text import Text
    return Group(table(states), *([Text(describe(adaptation))] if adaptation else []))


def describe(adaptation: Any) -> str:
    """Return an Adaptation message in words: one line where it is idle, else two."""
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
            **{name: _known(getattr(adaptation, name)) for name in numbers},
            **{name: getattr(adaptation, name) for name in counts}}


def as_dict(states: Any) -> dict[str, object]:
    """Return a ModalityStates message as plain data, by modality; unknown numbers are None."""
    return {state.modality: {
        'state': STATES[state.state], 'plugged': state.plugged, 'pinned': state.pinned,
        'rate': _known(state.rate), 'age': _known(state.age), 'quality': _known(state.quality),
        'links_version': state.links_version, 'encoder': state.encoder, 'detail': state.detail,
    } for state in states.modalities}


def table(states: Any) -> Table:
    """Return a ModalityStates message as a table."""
    from rich.table import Table

    result = Table()
    for heading in ('modality', 'state', 'plugged', 'rate', 'age', 'quality', 'links'):
        result.add_column(heading, no_wrap=True)
    result.add_column('detail')
    for name, state in as_dict(states).items():
        label = state['state']
        colour = COLOURS.get(label, 'cyan')
        plugged = ('yes' if state['plugged'] else 'no') + (', by hand' if state['pinned'] else '')
        result.add_row(name, f'[{colour}]{label}[/]', plugged, _number(state['rate'], ' Hz'),
                       _number(state['age'], ' s'), _number(state['quality'], ''),
                       state['links_version'] or '-', state['detail'])
    return result


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None, unit: str) -> str:
    return '-' if value is None else f'{value:.2f}{unit}'
