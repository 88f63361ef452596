"""Show the modalities as the fusion node sees them: state, rate, age, whether answers use them."""
from __future__ import annotations

import json
import math
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli.session import add_namespace, ros_session, wait_for

if TYPE_CHECKING:
    from rclpy.node import Node
    from rich.table import Table

STATES = ('absent', 'probing', 'healthy', 'degraded', 'stale', 'adapting')
COLOURS = {'healthy': 'green', 'degraded': 'yellow', 'stale': 'red', 'absent': 'dim'}
REFRESH = .25


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
        if arguments.watch:
            watch(latest, states, arguments.json)
        else:
            show(states, arguments.json)
    return 0


class LatestStates:
    """The newest report of the fusion node; it is latched, so the last one comes at once."""

    def __init__(self, node: Node) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from mpnp_ros.msg import ModalityStates

        self._newest: Any = None
        node.create_subscription(ModalityStates, 'modalities', self._keep,
                                 QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))

    def take(self) -> Any:
        """Return a report that has not been taken yet, or None."""
        newest, self._newest = self._newest, None
        return newest

    def _keep(self, states: Any) -> None:
        self._newest = states


def show(states: Any, as_json: bool) -> None:
    """Print one report."""
    if as_json:
        print(json.dumps(as_dict(states)), flush=True)
        return
    from rich.console import Console
    Console().print(table(states))


def watch(latest: LatestStates, states: Any, as_json: bool) -> None:
    """Print every report; as a table, in the place of the one before it."""
    if as_json:
        while True:
            show(states, as_json)
            states = wait_for(latest.take, math.inf, '')
    from rich.live import Live
    with Live(table(states), auto_refresh=False) as live:
        while True:
            live.update(table(latest.take() or states), refresh=True)
            time.sleep(REFRESH)


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
