"""A node of this process's own, for as long as it is needed."""
from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.node_names import checked_namespace
from mpnp_ros.transport import additions

if TYPE_CHECKING:
    from rclpy.node import Node

_numbers = count()


@contextmanager
def ros_session(namespace: str = '', remaps: Sequence[str] = ()) -> Iterator[Node]:
    """Yield a node in ``namespace`` whose callbacks run on a thread of their own; remaps: ``from:=to``.

    It has an rclpy context of its own, and no signal handlers: Ctrl-C stays a KeyboardInterrupt of the main
    thread.  What is created on the node is destroyed with it, after that thread has ended: rclpy reports an
    exception for everything that is destroyed while its executor waits on it.
    Raises ConfigurationError where ROS 2 is not installed or ROS does not allow the namespace.
    """
    namespace = checked_namespace(namespace)
    os.environ.update(additions(os.environ))
    rclpy = import_rclpy()
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    rules = [part for rule in remaps for part in ('-r', rule)]
    context = Context()
    rclpy.init(args=['--ros-args', *rules] if rules else [], context=context,
               signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(f'_mpnp_{os.getpid()}_{next(_numbers)}', context=context,
                                 namespace=namespace, start_parameter_services=False, enable_rosout=False)
        executor, ended = SingleThreadedExecutor(context=context), threading.Event()
        executor.add_node(node)

        def spin() -> None:
            while not ended.is_set():
                executor.spin_once()

        spinning = threading.Thread(target=spin, name='mpnp_ros session', daemon=True)
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
        rclpy.try_shutdown(context=context)


def import_rclpy() -> Any:
    """Import rclpy, or say how to get it."""
    try:
        import rclpy
    except ImportError as error:
        raise ConfigurationError(
            f'rclpy cannot be imported ({error}); source a ROS 2 distribution, such as '
            '/opt/ros/jazzy/setup.bash, or run `make install`') from None
    return rclpy
