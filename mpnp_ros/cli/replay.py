"""Play a bag with its own time: sensors, transforms, questions with true answers, and /clock.

Other nodes must follow that clock: start them with `mpnp bringup --use-sim-time`, or start both with
`mpnp bringup --bag BAG`.
"""
from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mpnp_ros.cli.arguments import add_namespace, add_params_file


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('bag', type=Path, help='bag folder, or an .mcap or .db3 file')
    add_replay_options(parser)
    parser.add_argument('--start', type=float, default=0., metavar='S',
                        help='start time in the bag (default: 0)')
    add_params_file(parser)
    add_namespace(parser)


def add_replay_options(parser: ArgumentParser) -> None:
    """Add the options that `mpnp replay` and `mpnp bringup --bag` have."""
    parser.add_argument('--rate', type=float, default=1., help='speed of time (default: %(default)s)')
    parser.add_argument('--loop', action='store_true', help='start the replay again at its end')
    parser.add_argument('--topics', nargs='+', action='extend', default=[], metavar='TOPIC',
                        help="topics to play (default: all); wildcards in quotes: '/camera/*'")
    parser.add_argument('--exclude', nargs='+', action='extend', default=[], metavar='TOPIC',
                        help='topics not to play; wildcards as above')
    parser.add_argument('--longest-gap', type=float, metavar='S',
                        help='longest time without messages; longer gaps are skipped (default: 60; 0: never)')


def replay_parameters(arguments: Namespace) -> dict[str, object]:
    """Return the parameters of the replay node set by the command line."""
    given = {'topics': arguments.topics, 'exclude': arguments.exclude, 'longest_gap': arguments.longest_gap}
    return {'bag': arguments.bag, 'rate': arguments.rate, 'loop': arguments.loop,
            **{name: value for name, value in given.items() if value not in (None, [])}}


def run(arguments: Namespace) -> int:
    """Replace this process by the replay node."""
    from mpnp_ros.cli.node_processes import Placement, node_process
    from mpnp_ros.node_names import REPLAY

    placement = Placement(arguments.namespace, arguments.params_file)
    parameters = {**replay_parameters(arguments), 'start': arguments.start}
    spec = node_process(REPLAY, placement, parameters)
    os.execve(spec.command[0], list(spec.command), {**os.environ, **spec.environment})
