"""The nodes of a robot as supervised processes, with their states and problems."""
from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli.node_processes import Placement
from mpnp_ros.cli.session import ros_session
from mpnp_ros.client.node_reports import NodeReports
from mpnp_ros.errors import NotAnsweringError
from mpnp_ros.node_names import FUSION, REPLAY, WORLD, checked_namespace, encoder_nodes
from mpnp_ros.supervisor import (
    ENDED,
    FAILED,
    WAITING,
    Child,
    PrefixedLines,
    ProcessSpec,
    RestartPolicy,
    Supervisor,
)
from mpnp_ros.supervisor import RUNNING as PROCESS_RUNNING

if TYPE_CHECKING:
    from rclpy.node import Node

UNKNOWN = 'starting'
RUNNING, ACTIVE = 'running', 'active'
PERIOD, RESPONSE_TIMEOUT = .3, 3.
"""Seconds between two queries of a node that is not active, and while it does not respond."""

LINES = 100
"""Newest log lines of each node that are searched for a report."""
SILENCE = 10.
"""Minimum seconds between two lines about one node."""
OK = 0

POLL, WATCH = .05, .5
"""Seconds between polls of the processes: until they are ready, and afterwards."""
WRONG_PARAMETER = 2  # exit code of mpnp_ros.nodes.runtime.run_node
SET_UP = ('unconfigured', 'inactive')
SOURCES = (REPLAY, WORLD)


class NodeStates:
    """Watches nodes by name, relative to the namespace of the caller's node.

    A node without a life cycle counts as :data:`RUNNING` once it is in the graph.  An active node is queried
    again when it reports another state.
    """

    def __init__(self, node: Node, names: Sequence[str], reports: NodeReports) -> None:
        from lifecycle_msgs.srv import GetState

        self._node, self._reports, self._request = node, reports, GetState.Request()
        self._kind = GetState
        self._names = tuple(names)
        self._clients: dict[str, Any] = {}
        self._labels = dict.fromkeys(names, UNKNOWN)
        self._asked = dict.fromkeys(names, -RESPONSE_TIMEOUT)
        self._pending: dict[str, Any] = {}

    def __getitem__(self, name: str) -> str:
        return self._labels[name]

    def forget(self, name: str) -> None:
        """Forget the state of a node whose process has ended."""
        self._pending.pop(name, None)
        self._labels[name] = UNKNOWN

    def poll(self) -> None:
        """Query nodes that are due; responses arrive on the executor's thread."""
        now = time.monotonic()
        due = [name for name in self._names if not self._is_settled(name)
               and now - self._asked[name] >= (RESPONSE_TIMEOUT if name in self._pending else PERIOD)]
        if not due:
            return
        present = {name for name, namespace in self._node.get_node_names_and_namespaces()
                   if namespace == self._node.get_namespace()}
        for name in due:
            self._asked[name] = now
            if name not in self._clients and name in present:
                self._meet(name)
            if name in self._clients and self._clients[name].service_is_ready():
                future = self._pending[name] = self._clients[name].call_async(self._request)
                future.add_done_callback(lambda done, name=name: self._note(name, done))

    def _is_settled(self, name: str) -> bool:
        return self._labels[name] == RUNNING or (
            self._labels[name] == ACTIVE and self._reports.is_active(name))

    def _note(self, name: str, future: Any) -> None:
        if name in self._pending and self._pending[name] is future:  # not forgotten or asked anew in between
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


class Complaints:
    """Writes the problems of a node when they change, unless its log contains them.

    write: called with (node, line).  Numbers in a report may change without a new line.
    """

    def __init__(self, write: Callable[[str, str], None],
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._logged: dict[str, deque[str]] = {}
        self._said: dict[str, str] = {}
        self._when: dict[str, float] = {}

    def log(self, node: str, line: str) -> None:
        """Record a log line of a node; called from any thread."""
        self._logged.setdefault(node, deque(maxlen=LINES)).append(_without_numbers(line))

    def forget(self, node: str) -> None:
        """Forget a node that has ended."""
        for memory in (self._logged, self._said, self._when):
            memory.pop(node, None)

    def report(self, node: str, level: int, text: str) -> None:
        """Write a report if it is new; its parts are separated by ``; ``."""
        known = list(self._logged.get(node, ()))
        parts = [] if level == OK else [part for part in text.split('; ') if part and not any(
            _without_numbers(part) in line for line in known)]
        if level != OK and not parts:
            return
        content, before = _without_numbers('; '.join(parts)), self._said.get(node, '')
        now = self._clock()
        if content == before or now - self._when.get(node, now - SILENCE) < SILENCE:
            return
        self._said[node], self._when[node] = content, now
        self._write(node, '; '.join(parts) or f'recovered: {text}')


def _without_numbers(text: str) -> str:
    return re.sub(r'\d+(\.\d+)?', '#', text)


class System:
    """The processes of a robot and the states of their nodes; prints a status line for every change.

    signals: grows by each signal to end the system; another one during the shutdown accelerates it.
    why: the reason why the system cannot continue, empty as long as it can.
    """

    def __init__(self, specs: Sequence[ProcessSpec], placement: Placement, restarts: int = 5,
                 signals: Sequence[int] = ()) -> None:
        self._names = [spec.name for spec in specs]
        known = set(encoder_nodes().values())  # a scan of all plug-ins, so once
        self._encoders = [name for name in self._names if name in known]
        self._placement, self._signals, self._heeded = placement, signals, 0
        self.why = ''
        self._lines = PrefixedLines([*self._names, 'mpnp'])
        self._complaints = Complaints(lambda name, text: self.say(f'{name:16} {text}'))
        self._supervisor = Supervisor(specs, RestartPolicy(limit=restarts), write=self._write,
                                      changed=self._process_changed, hurry=self._hurry)
        self._stack = ExitStack()
        self._seen: dict[str, str] = {}
        self._read: dict[str, float] = {}
        self._ever_ready: set[str] = set()
        self._announced = False

    def __enter__(self) -> System:
        with ExitStack() as stack:
            namespace = checked_namespace(self._placement.namespace)
            node = stack.enter_context(ros_session(namespace, self._placement.remaps))
            self._reports = NodeReports(node)
            self._states = NodeStates(node, self._names, self._reports)
            if not self._signals:
                stack.enter_context(self._supervisor)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._heeded = len(self._signals)
        self._stack.__exit__(*error)

    def say(self, text: str) -> None:
        """Print a line of the system."""
        self._lines('mpnp', text)

    def poll(self) -> bool:
        """Restart processes and print changes; False once the system is to end."""
        if self._signals or self.why:
            return False
        runs = self._supervisor.poll()
        self._states.poll()
        for child in self._supervisor.children:
            if child.state == PROCESS_RUNNING:
                self._report(child, self._states[child.spec.name])
        if self._announced:
            for report in self._reports:
                if report.arrived > self._read.get(report.name, 0.) and report.name in self._names \
                        and self._supervisor[report.name].state == PROCESS_RUNNING:
                    self._read[report.name] = report.arrived
                    self._complaints.report(report.name, report.level, report.text)
        self.why = self._why_it_ends()
        if self.why:
            self.say(f'{self.why}; shutting down')
        return runs and not self.why

    def wait_ready(self, timeout: float) -> None:
        """Wait until every node that has not failed is ready; raise NotAnsweringError after ``timeout`` s."""
        end = time.monotonic() + timeout
        while late := [name for name in self._names
                       if name not in self._ever_ready and name not in self.failed()]:
            if not self.poll():
                return
            if time.monotonic() > end:
                raise NotAnsweringError(f'{", ".join(late)} not ready in {timeout:g} s; see the log above')
            time.sleep(POLL)
        failed = self.failed()
        self.say(f'ready without {", ".join(failed)}, see the log above; Ctrl-C ends the others' if failed
                 else 'all nodes are ready; Ctrl-C ends them')
        self._announced = True

    def failed(self) -> list[str]:
        """Return the names of the nodes that are not restarted any more."""
        return [child.spec.name for child in self._supervisor.children if child.state == FAILED]

    def pids(self) -> Mapping[str, int | None]:
        """Return the process id of each node, None while it does not run."""
        return {child.spec.name: child.pid for child in self._supervisor.children}

    def _why_it_ends(self) -> str:
        """Return which indispensable part has ended, and the consequence."""
        gone = {child.spec.name: child for child in self._supervisor.children
                if child.state in (ENDED, FAILED)}
        encoders = self._encoders
        source = next((name for name in self._names if name in SOURCES), None)
        if FUSION in gone:
            return f'{FUSION} has {_ending(gone[FUSION])}: questions cannot be answered'
        if encoders and all(name in gone for name in encoders):
            return f'no encoder is left ({", ".join(encoders)}): no sensor data'
        if source in gone and gone[source].state == FAILED:
            return f'{source} has {_ending(gone[source])}: no sensor data'
        missing = [name for name in encoders if name in gone and name not in self._ever_ready]
        if source and missing:
            return (f'{source} waits for {", ".join(missing)}, which has {_ending(gone[missing[0]])} '
                    '(fix it, or omit it with --modalities)')
        return ''

    def _write(self, name: str, line: str) -> None:
        self._complaints.log(name, line)
        self._lines(name, line)

    def _hurry(self) -> bool:
        """Return whether another signal has arrived during the shutdown."""
        before, self._heeded = self._heeded, len(self._signals)
        return self._heeded > before

    def _process_changed(self, child: Child) -> None:
        name, code = child.spec.name, child.returncode
        self._states.forget(name)
        self._complaints.forget(name)
        # A restart is useless after a wrong parameter, or with an unreadable bag or missing weights.
        if child.state == WAITING and (code == WRONG_PARAMETER or (
                code is not None and code > 0 and (name in SOURCES or name not in self._ever_ready))):
            self._supervisor.give_up(child)
        elif child.state != PROCESS_RUNNING:
            self._report(child, child.state)

    def _report(self, child: Child, state: str) -> None:
        name = child.spec.name
        if state in (RUNNING, ACTIVE) or (state in SET_UP and not self._placement.autostart):
            self._ever_ready.add(name)
        details = ''
        if child.pid:
            details = f' pid {child.pid}'
        elif child.returncode is not None:
            details = f' exit code {child.returncode}{", restarting" if child.state == WAITING else ""}'
        text = f'{name:16} {state:13}{details}'
        if self._seen.get(name) != text:
            self._seen[name] = text
            self.say(text)


def _ending(child: Child) -> str:
    if child.state == ENDED:
        return 'ended'
    return f'failed with exit code {child.returncode}'
