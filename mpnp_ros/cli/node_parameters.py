"""Parameters of a node that runs in another process."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli.session import wait_for
from mpnp_ros.errors import NotAnsweringError

if TYPE_CHECKING:
    from rclpy.node import Node

TIMEOUT = 30.
"""Seconds for the node to come, and to reply."""


class NodeParameters:
    """Reads and sets parameters of one node.

    name: of the node, relative to the namespace of the node that asks.  wait: waits for a condition, as
    :func:`~mpnp_ros.cli.session.wait_for` does.
    """

    def __init__(self, node: Node, name: str, wait: Callable[..., Any] = wait_for) -> None:
        self._node, self._name, self._wait = node, name, wait
        self._clients: dict[type, Any] = {}

    def get(self, parameter: str) -> Any:
        """Return the value of a parameter; raises NotAnsweringError where the node does not tell."""
        from rcl_interfaces.srv import GetParameters
        from rclpy.parameter import parameter_value_to_python

        response = self._call(GetParameters, 'get_parameters', GetParameters.Request(names=[parameter]))
        return parameter_value_to_python(response.values[0])

    def set(self, parameter: str, value: Any) -> None:
        """Set a parameter; raises NotAnsweringError where the node refuses or does not reply."""
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
        self._wait(client.service_is_ready, TIMEOUT, f'nobody serves the parameters of {self._title}')
        future = client.call_async(request)
        self._wait(future.done, TIMEOUT, f'{self._title} does not answer')
        return future.result()
