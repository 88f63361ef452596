"""Start encoders, fusion and adaptation, each as a process, and keep them running.

The output of every node is printed with its name. A node that crashes is restarted. Ctrl-C ends all nodes.
`ros2 launch mpnp_ros bringup.launch.py` starts the same system.
"""
from __future__ import annotations

import signal
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mpnp_ros.cli import signals
from mpnp_ros.cli.arguments import add_namespace, add_params_file, positive
from mpnp_ros.cli.node_processes import (
    LOG_LEVELS,
    Placement,
    default_modalities,
    system_processes,
    unmatched,
)
from mpnp_ros.cli.replay import add_replay_options, replay_parameters
from mpnp_ros.cli.system import WATCH, System
from mpnp_ros.client.session import import_rclpy
from mpnp_ros.node_names import all_nodes, checked_namespace, encoder_nodes


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--modalities', nargs='*', choices=encoder_nodes(),
                        default=default_modalities(),
                        help=f'modalities to start (default: {" ".join(default_modalities())})')
    parser.add_argument('--no-adaptation', dest='adaptation', action='store_false',
                        help='do not start the adaptation node')
    add_params_file(parser)
    add_namespace(parser)
    parser.add_argument('--remap', action='append', default=[], metavar='FROM:=TO',
                        help='rename a topic or service of all nodes, e.g. '
                        '/tf_static:=/robot1/tf_static; repeatable')
    parser.add_argument('--use-sim-time', action='store_true', help='follow /clock (set with --bag, --world)')
    parser.add_argument('--no-autostart', dest='autostart', action='store_false',
                        help='leave nodes unconfigured, for a lifecycle manager')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--bag', type=Path, help='replay this bag in place of sensors')
    source.add_argument('--world', type=int, metavar='SEED',
                        help='run the simulated world in place of sensors; '
                        '`ros2 param set /world light night` makes it night')
    add_replay_options(parser)
    parser.add_argument('--restarts', type=int, default=5, metavar='N',
                        help='maximum restarts of a crashed node; 0: none (default: %(default)s)')
    parser.add_argument('--timeout', type=positive, default=300., metavar='S',
                        help='maximum time for the nodes to become ready (default: %(default)s)')
    parser.add_argument('--log-level', choices=LOG_LEVELS, default='info',
                        help='log level of the nodes (default: %(default)s)')


def run(arguments: Namespace) -> int:
    """Run the system; exit code 0 after SIGTERM or the end of a replay, 130 after Ctrl-C, 1 on failure."""
    placement = Placement(arguments.namespace, arguments.params_file, arguments.use_sim_time,
                          arguments.autostart, arguments.log_level, arguments.remap)
    replay = world = None
    if arguments.bag is not None:
        replay = {**replay_parameters(arguments), 'wait_timeout': arguments.timeout}
    elif arguments.world is not None:
        world = {'seed': arguments.world, 'rate': arguments.rate, 'wait_timeout': arguments.timeout}
    specs = system_processes(arguments.modalities, placement, replay, world, arguments.adaptation)
    with signals.at_once():  # nothing to shut down yet
        import_rclpy()
    with signals.noted() as told:
        with System(specs, placement, arguments.restarts, told) as system:
            namespace = checked_namespace(placement.namespace)
            for file in placement.params_files:
                for sentence in unmatched(file, [spec.name for spec in specs], namespace, all_nodes()):
                    system.say(sentence)
            system.wait_ready(arguments.timeout)
            while system.poll():
                time.sleep(WATCH)
        if told:
            return signals.exit_code(told[0]) if told[0] == signal.SIGINT else 0
        return 1 if system.why or system.failed() else 0
