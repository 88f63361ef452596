"""Start encoders, fusion and adaptation, each in a process of its own, and keep them running.

Every line a node prints is passed on with its name before it. A node that falls over is started again.
Ctrl-C ends all of them. `ros2 launch mpnp_ros bringup.launch.py` starts the same system.
"""
from __future__ import annotations

import signal
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpnp_ros.cli.node_processes import ENCODERS, LOG_LEVELS, USUAL, Placement, system_processes
from mpnp_ros.cli.replay import add_replay_options, replay_parameters
from mpnp_ros.cli.session import add_namespace
from mpnp_ros.cli.system import POLL, System


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--modalities', nargs='*', choices=ENCODERS, default=list(USUAL),
                        help=f'whose encoders to start (default: {" ".join(USUAL)})')
    parser.add_argument('--no-adaptation', dest='adaptation', action='store_false',
                        help='leave links as they are: nothing is learned while the robot runs')
    parser.add_argument('--params-file', type=Path, action='append', default=[], metavar='YAML',
                        help='parameters on top of config/mpnp.yaml; repeatable, later ones win')
    add_namespace(parser)
    parser.add_argument('--use-sim-time', action='store_true', help='follow /clock (set with --bag, --world)')
    parser.add_argument('--no-autostart', dest='autostart', action='store_false',
                        help='leave nodes unconfigured, for a lifecycle manager')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--bag', type=Path, help='replay this bag instead of waiting for sensors')
    source.add_argument('--world', type=int, metavar='SEED', help='drive through the embedded world instead; '
                        '`ros2 param set /world light night` makes it night')
    add_replay_options(parser)
    parser.add_argument('--restarts', type=int, default=5, metavar='N',
                        help='start a fallen node again up to N times, 0: never (default: %(default)s)')
    parser.add_argument('--timeout', type=float, default=300., metavar='S',
                        help='seconds that the nodes have to become ready (default: %(default)s)')
    parser.add_argument('--log-level', choices=LOG_LEVELS, default='info', help='of the nodes')


def run(arguments: Namespace) -> int:
    """Keep the system running; exit code 0 after SIGTERM or a good end, 1 where a node has failed."""
    replay = replay_parameters(arguments) if arguments.bag else None
    placement = Placement(arguments.namespace, arguments.params_file, arguments.use_sim_time,
                          arguments.autostart, arguments.log_level)
    specs = system_processes(arguments.modalities, placement, replay, _world_parameters(arguments),
                             arguments.adaptation)
    try:
        with stopped_by_sigterm(), System(specs, placement, arguments.restarts) as system:
            system.wait_ready(arguments.timeout)
            while system.poll():
                time.sleep(POLL)
            return 1 if system.failed() else 0
    except _Stopped:
        return 0


def _world_parameters(arguments: Namespace) -> dict[str, object] | None:
    return None if arguments.world is None else {'seed': arguments.world, 'rate': arguments.rate}


class _Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: the orderly end that service managers and closed terminals ask for."""


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what goes on inside as Ctrl-C would, so that no node is left behind."""
    def handle(number: int, frame: object) -> None:
        raise _Stopped

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, handle) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
