"""Lifecycle states of nodes, as far as they have told, asked for again and again without waiting."""
from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node

UNKNOWN = 'starting'
RUNNING = 'running'
PERIOD, PATIENCE = .3, 3.


class NodeStates:
    """Watches nodes by name, relative to the namespace of the node that asks.

    A node without a life cycle counts as :data:`RUNNING` once it is in the graph.
    """

    def __init__(self, node: Node, names: Sequence[str]) -> None:
        from lifecycle_msgs.srv import GetState

        self._node, self._request = node, GetState.Request()
        self._clients = {name: node.create_client(GetState, f'{name}/get_state') for name in names}
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
        """Ask every node that has not been asked lately; answers come in on the executor's thread."""
        now = time.monotonic()
        present = {name for name, namespace in self._node.get_node_names_and_namespaces()
                   if namespace == self._node.get_namespace()}
        for name, client in self._clients.items():
            if now - self._asked[name] < (PATIENCE if name in self._pending else PERIOD):
                continue
            self._asked[name] = now
            if client.service_is_ready():
                self._ask(name)
            elif name in present and not self._has_life_cycle(name):
                self._labels[name] = RUNNING

    def _ask(self, name: str) -> None:
        future = self._clients[name].call_async(self._request)
        self._pending[name] = future
        future.add_done_callback(lambda done: self._answered(name, done))

    def _answered(self, name: str, future: object) -> None:
        if self._pending.get(name) is future:  # not forgotten or asked anew in between
            del self._pending[name]
            self._labels[name] = future.result().current_state.label

    def _has_life_cycle(self, name: str) -> bool:
        services = self._node.get_service_names_and_types_by_node(name, self._node.get_namespace())
        return not services or any(service.endswith('/get_state') for service, _ in services)
