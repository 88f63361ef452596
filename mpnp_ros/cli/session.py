"""Nodes of a robot as a command sees them: a session, waiting with a time-out, parameters of other nodes."""
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli import signals
from mpnp_ros.client import session
from mpnp_ros.client.session import import_rclpy
from mpnp_ros.errors import NotAnsweringError
from mpnp_ros.node_names import checked_namespace

if TYPE_CHECKING:
    from rclpy.node import Node

    from mpnp_ros.client.robot import Robot

PARAMETERS_TIMEOUT = 30.
"""Seconds to wait for the parameter services of a node, and for their responses."""


@contextmanager
def ros_session(namespace: str = '', remaps: Sequence[str] = ()) -> Iterator[Node]:
    """Yield a node of the command; see :func:`mpnp_ros.client.session.ros_session`."""
    _import_ros(namespace)
    with session.ros_session(namespace, remaps) as node:
        yield node


@contextmanager
def connected(command: str, namespace: str, timeout: float) -> Iterator[Robot]:
    """Yield the robot in a namespace; waiting is reported on stderr."""
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

    otherwise: text of the error, or a function that returns it.
    """
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise NotAnsweringError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(.02)
    return value


class NodeParameters:
    """Reads and sets parameters of a node in another process.

    name: of the node, relative to the namespace of `node`.  wait: waits for a condition, like
    :func:`wait_for`.
    """

    def __init__(self, node: Node, name: str, wait: Callable[..., Any] = wait_for) -> None:
        self._node, self._name, self._wait = node, name, wait
        self._clients: dict[type, Any] = {}

    def get(self, parameter: str) -> Any:
        """Return the value of a parameter; raises NotAnsweringError if the node does not respond."""
        from rcl_interfaces.srv import GetParameters
        from rclpy.parameter import parameter_value_to_python

        response = self._call(GetParameters, 'get_parameters', GetParameters.Request(names=[parameter]))
        return parameter_value_to_python(response.values[0])

    def set(self, parameter: str, value: Any) -> None:
        """Set a parameter; raises NotAnsweringError if the node refuses or does not respond."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(parameter, value=value).to_parameter_msg()])
        result = self._call(SetParameters, 'set_parameters', request).results[0]
        if not result.successful:
            raise NotAnsweringError(f'{self._title} refused {parameter}: {result.reason}')

    @property
    def _title(self) -> str:
        return f'the {self._name.strip("/")}'

    def _call(self, kind: type, service: str, request: Any) -> Any:
        if kind not in self._clients:
            self._clients[kind] = self._node.create_client(kind, f'{self._name}/{service}')
        client = self._clients[kind]
        self._wait(client.service_is_ready, PARAMETERS_TIMEOUT,
                   f'no server for the parameters of {self._title}')
        future = client.call_async(request)
        self._wait(future.done, PARAMETERS_TIMEOUT, f'{self._title} does not answer')
        return future.result()
