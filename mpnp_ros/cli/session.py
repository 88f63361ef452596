"""A node of the command's own, for as long as a command needs it."""
from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli import signals
from mpnp_ros.cli.node_processes import checked_namespace
from mpnp_ros.cli.values import positive
from mpnp_ros.errors import ConfigurationError, MpnpError
from mpnp_ros.transport import additions

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from rclpy.node import Node


class NotAnsweringError(MpnpError):
    """A node that the command needs is not there or does not answer."""


def add_namespace(parser: ArgumentParser) -> None:
    """Add the option that says which robot is meant."""
    parser.add_argument('--namespace', default='', metavar='NS', help='namespace of the nodes, e.g. /robot1')


def add_fusion(parser: ArgumentParser) -> None:
    """Add the options that say which fusion node is meant, and how long it is waited for."""
    parser.add_argument('--timeout', type=positive, default=10., metavar='S',
                        help='seconds to wait for the fusion node (default: %(default)s)')
    add_namespace(parser)


@contextmanager
def ros_session(namespace: str = '', remaps: Sequence[str] = ()) -> Iterator[Node]:
    """Yield a node in ``namespace`` whose callbacks run on a thread of their own; remaps: ``from:=to``.

    Ctrl-C stays a KeyboardInterrupt of the main thread, so that a command can still say goodbye to the
    nodes it talked to.  What the command makes on the node is destroyed with it, after that thread has ended:
    rclpy reports an exception for everything that is destroyed while its executor waits on it.
    Raises ConfigurationError where ROS 2 is not installed or ROS does not allow the namespace.
    """
    namespace = checked_namespace(namespace)
    os.environ.update(additions(os.environ))
    with signals.put_off():  # an import that is broken off may look like a package that is missing
        rclpy = import_rclpy()
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

    rules = [part for rule in remaps for part in ('-r', rule)]
    rclpy.init(args=['--ros-args', *rules] if rules else [], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(f'_mpnp_{os.getpid()}', namespace=namespace, start_parameter_services=False,
                                 enable_rosout=False)
        executor, ended = SingleThreadedExecutor(), threading.Event()
        executor.add_node(node)

        def spin() -> None:
            while not ended.is_set():
                executor.spin_once()

        spinning = threading.Thread(target=spin, daemon=True)
        spinning.start()
        try:
            yield node
        finally:
            ended.set()
            executor.create_task(lambda: None)  # for spin_once to return
            spinning.join(5.)
            executor.shutdown()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


def import_rclpy() -> Any:
    """Import rclpy, or say how to get it."""
    try:
        import rclpy
    except ImportError as error:
        raise ConfigurationError(
            f'rclpy cannot be imported ({error}); source a ROS 2 distribution, such as '
            '/opt/ros/jazzy/setup.bash, or run `make install`') from None
    return rclpy


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
