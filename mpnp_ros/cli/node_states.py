"""Lifecycle states of nodes, polled without waiting."""
from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node

UNKNOWN = 'starting'
RUNNING, ACTIVE = 'running', 'active'
PERIOD, SETTLED, PATIENCE = .3, 2., 3.
"""Seconds between two queries of a node: before it is active, afterwards, and while it does not respond."""


class NodeStates:
    """Watches nodes by name, relative to the namespace of the caller's node.

    A node without a life cycle counts as :data:`RUNNING` once it is in the graph.
    """

    def __init__(self, node: Node, names: Sequence[str]) -> None:
        from lifecycle_msgs.srv import GetState

        self._node, self._request = node, GetState.Request()
        self._kind = GetState
        self._names = tuple(names)
        self._clients: dict[str, object] = {}
        self._labels = dict.fromkeys(names, UNKNOWN)
        self._asked = dict.fromkeys(names, -PATIENCE)
        self._pending: dict[str, object] = {}

    def __getitem__(self, name: str) -> str:
        return self._labels[name]

    def forget(self, name: str) -> None:
        """Forget the state of a node whose process has ended."""
        self._pending.pop(name, None)
        self._labels[name] = UNKNOWN

    def poll(self) -> None:
        """Query nodes that are due; responses arrive on the executor's thread."""
        now = time.monotonic()
        if all(now - asked < PERIOD for asked in self._asked.values()):
            return
        present = {name for name, namespace in self._node.get_node_names_and_namespaces()
                   if namespace == self._node.get_namespace()}
        for name in self._names:
            period = SETTLED if self._labels[name] == ACTIVE else PERIOD
            if now - self._asked[name] < (PATIENCE if name in self._pending else period):
                continue
            self._asked[name] = now
            if name not in self._clients and name in present:
                self._meet(name)
            if name in self._clients and self._clients[name].service_is_ready():
                self._ask(name)

    def _ask(self, name: str) -> None:
        future = self._clients[name].call_async(self._request)
        self._pending[name] = future
        future.add_done_callback(lambda done: self._answered(name, done))

    def _answered(self, name: str, future: object) -> None:
        if self._pending.get(name) is future:  # not forgotten or asked anew in between
            del self._pending[name]
            self._labels[name] = future.result().current_state.label

    def _meet(self, name: str) -> None:
        """Create the client of a lifecycle node; other nodes count as running.

        A client makes its service appear in the graph even without a server, and `ros2 lifecycle` would wait
        for that node for ever.
        """
        services = [service for service, _ in self._node.get_service_names_and_types_by_node(
            name, self._node.get_namespace())]
        if any(service.endswith('/get_state') for service in services):
            self._clients[name] = self._node.create_client(self._kind, f'{name}/get_state')
        elif services:
            self._labels[name] = RUNNING
