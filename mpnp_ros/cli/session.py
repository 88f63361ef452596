"""How commands meet the nodes of a robot."""
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli import signals
from mpnp_ros.cli.values import positive
from mpnp_ros.client import session
from mpnp_ros.client.session import import_rclpy
from mpnp_ros.errors import NotAnsweringError
from mpnp_ros.node_names import checked_namespace

if TYPE_CHECKING:
    from argparse import ArgumentParser, _ArgumentGroup

    from rclpy.node import Node

    from mpnp_ros.client.robot import Robot


def add_namespace(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Add the option that says which robot is meant."""
    parser.add_argument('--namespace', default='', metavar='NS', help='namespace of the nodes, e.g. /robot1')


def add_fusion(parser: ArgumentParser) -> None:
    """Add the options that say which fusion node is meant, and how long it is waited for."""
    parser.add_argument('--timeout', type=positive, default=10., metavar='S',
                        help='seconds to wait for the fusion node (default: %(default)s)')
    add_namespace(parser)


@contextmanager
def ros_session(namespace: str = '', remaps: Sequence[str] = ()) -> Iterator[Node]:
    """Yield a node of the command's own; see :func:`mpnp_ros.client.session.ros_session`."""
    _import_ros(namespace)
    with session.ros_session(namespace, remaps) as node:
        yield node


@contextmanager
def connected(command: str, namespace: str, timeout: float) -> Iterator[Robot]:
    """Yield the robot that a command line means; what is waited for is said on stderr."""
    from mpnp_ros.client.robot import Robot

    def say(text: str) -> None:
        print(f'mpnp {command}: {text}', file=sys.stderr, flush=True)

    _import_ros(namespace)
    with Robot(namespace, timeout=timeout, notify=say) as robot:
        yield robot


def _import_ros(namespace: str) -> None:
    """Import what a session needs; an import that a signal breaks off may look like a missing package."""
    checked_namespace(namespace)
    with signals.put_off():
        import_rclpy()
        import rclpy.executors  # noqa: F401


def wait_for(condition: Callable[[], Any], timeout: float, otherwise: str | Callable[[], str]) -> Any:
    """Return the first true value of ``condition()``; raise NotAnsweringError after ``timeout`` seconds.

    otherwise: what the error says, or a function that finds it out then.
    """
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise NotAnsweringError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(.02)
    return value
