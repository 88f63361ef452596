"""What the nodes of a robot report on ``/diagnostics``, and why its fusion node does not answer."""
from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpnp_ros.node_names import FUSION, all_nodes

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.node import Node

OK, WARN, ERROR, STALE = range(4)
LEVELS = ('ok', 'warning', 'error', 'stale')
PERIOD = 1.0
"""Seconds between two reports of a node."""
HEARD_WITHIN = 2 * PERIOD
"""Seconds that the nodes in the graph have to report."""
SETTLED = .5
"""Seconds without a change after which the nodes in the graph are taken for all there are."""
STARTING = ('starting', 'configuring', 'activating')
"""First words of the state of a node that becomes active by itself."""


@dataclass(frozen=True)
class NodeReport:
    """The newest report of one node.

    level: OK, WARN, ERROR or STALE.  text: the problem, otherwise the state.  arrived: s, monotonic clock.
    """

    name: str
    level: int
    text: str
    arrived: float
    state: str = ''

    @property
    def starting(self) -> bool:
        """Whether the node is on its way to be active."""
        return self.level < ERROR and self.state.startswith(STARTING)


class NodeReports:
    """Keeps the newest report of every node of this package in the namespace of the node that asks."""

    def __init__(self, node: Node, group: CallbackGroup | None = None) -> None:
        """group: of the callback; default: that of the node."""
        from diagnostic_msgs.msg import DiagnosticArray

        self._node = node
        self._namespace = node.get_namespace().strip('/')
        self._names = all_nodes()
        self._newest: dict[str, NodeReport] = {}
        self._subscription = node.create_subscription(DiagnosticArray, '/diagnostics', self._keep, 100,
                                                      callback_group=group)

    def close(self) -> None:
        """Unsubscribe; the node continues."""
        self._node.destroy_subscription(self._subscription)

    def __getitem__(self, name: str) -> NodeReport | None:
        return self._newest.get(name)

    def __iter__(self) -> Iterator[NodeReport]:
        """Reports in the order in which data passes through the nodes."""
        return iter([self._newest[name] for name in self._names if name in self._newest])

    def running(self) -> list[str]:
        """Return the names of the nodes that are in the graph."""
        graph, namespace = self._node.get_node_names_and_namespaces(), self._node.get_namespace()
        return [name for name in self._names if (name, namespace) in graph]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every node in the graph has reported, at most ``timeout`` seconds (HEARD_WITHIN).

        The graph of a new process fills gradually, and reports can arrive before it is complete.
        """
        known: set[str] = set()
        changed = time.monotonic()
        end = changed + (HEARD_WITHIN if timeout is None else timeout)
        while (now := time.monotonic()) < end:
            running = set(self.running())
            if running != known:
                known, changed = running, now
            elif now - changed > SETTLED and known and known == self._newest.keys():
                return
            time.sleep(.02)

    def is_starting(self, name: str) -> bool:
        """Whether the newest report of a node says that it is on its way to be active."""
        report = self._newest.get(name)
        return report is not None and report.starting

    def is_active(self, name: str) -> bool:
        """Whether the newest report of a node says that it is active."""
        report = self._newest.get(name)
        return report is not None and report.state.startswith('active')

    def silence(self, name: str) -> float:
        """Return the seconds since the newest report of a node, 0 where there has been none."""
        report = self._newest.get(name)
        return time.monotonic() - report.arrived if report else 0.

    def why_absent(self) -> str:
        """Return why the fusion node does not answer: starting, failed, or not started."""
        self.wait()
        running, report = self.running(), self._newest.get(FUSION)
        if report and report.level == ERROR:
            return f'the fusion node has failed: {report.text}'
        if FUSION in running or report:
            state = f': {report.state}' if report else ''
            return f'the fusion node is starting{state}; try again in a moment'
        if running:
            verb = 'is' if len(running) == 1 else 'are'
            return (f'the fusion node is not running, but {", ".join(running)} {verb}: it is '
                    'starting, or has failed; see the log of `mpnp bringup` or of its launch file')
        return (f'no node of mpnp_ros runs in namespace /{self._namespace} of ROS_DOMAIN_ID '
                f'{os.environ.get("ROS_DOMAIN_ID", "0")}; start the system with `mpnp bringup`, or give its '
                '--namespace and ROS_DOMAIN_ID here too')

    def _keep(self, message: Any) -> None:
        for status in message.status:
            path, _, name = status.name.partition(': ')
            namespace, _, node = path.rpartition('/')
            if node == name and node in self._names and namespace == self._namespace:
                state = next((pair.value for pair in status.values if pair.key == 'state'), status.message)
                self._newest[node] = NodeReport(node, status.level[0], status.message, time.monotonic(),
                                                state)
