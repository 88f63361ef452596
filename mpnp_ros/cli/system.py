"""Encoders, fusion and replay as supervised processes, with what their nodes say of themselves."""
from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from mpnp_ros.cli.node_processes import FUSION, Placement, absolute
from mpnp_ros.cli.node_states import RUNNING, NodeStates
from mpnp_ros.cli.session import NotAnsweringError, ros_session
from mpnp_ros.supervisor import FAILED, WAITING, Child, PrefixedLines, ProcessSpec, RestartPolicy, Supervisor
from mpnp_ros.supervisor import RUNNING as PROCESS_RUNNING

POLL = .05
WRONG_PARAMETER = 2  # exit code of mpnp_ros.nodes.runtime.run_node
SET_UP = ('unconfigured', 'inactive')


class System:
    """The processes of a robot and what their nodes say of themselves; a status line for every change."""

    def __init__(self, specs: Sequence[ProcessSpec], placement: Placement, restarts: int = 5) -> None:
        self._names = [spec.name for spec in specs]
        self._placement = placement
        self._write = PrefixedLines([*self._names, 'mpnp'])
        self._supervisor = Supervisor(specs, RestartPolicy(limit=restarts), write=self._write,
                                      changed=self._process_changed)
        self._stack = ExitStack()
        self._seen: dict[str, str] = {}
        self._ever_ready: set[str] = set()

    def __enter__(self) -> System:
        with ExitStack() as stack:
            namespace = self._placement.namespace
            node = stack.enter_context(ros_session(absolute(namespace) if namespace else ''))
            self._states = NodeStates(node, self._names)
            stack.enter_context(self._supervisor)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)

    def poll(self) -> bool:
        """Keep processes running and report what has changed; False once the system has ended."""
        runs = self._supervisor.poll()
        self._states.poll()
        for child in self._supervisor.children:
            if child.state == PROCESS_RUNNING:
                self._report(child, self._states[child.spec.name])
        return runs and self._supervisor[FUSION].state != FAILED

    def wait_ready(self, timeout: float) -> None:
        """Wait until every node that has not failed is ready; raise NotAnsweringError after ``timeout`` s."""
        end = time.monotonic() + timeout
        while late := self._not_ready():
            if not self.poll():
                return
            if time.monotonic() > end:
                raise NotAnsweringError(f'{", ".join(late)} not ready in {timeout:g} s; see the log above')
            time.sleep(POLL)
        if not self.failed():
            self._write('mpnp', 'all nodes are ready; Ctrl-C ends them')

    def failed(self) -> list[str]:
        """Names of the nodes that have been given up."""
        return [child.spec.name for child in self._supervisor.children if child.state == FAILED]

    def pids(self) -> Mapping[str, int | None]:
        """Process id of each node, None while it does not run."""
        return {child.spec.name: child.pid for child in self._supervisor.children}

    def _not_ready(self) -> list[str]:
        failed = self.failed()
        return [name for name in self._names if name not in failed and name not in self._ever_ready]

    def _process_changed(self, child: Child) -> None:
        name = child.spec.name
        self._states.forget(name)
        if child.state == WAITING and self._is_hopeless(child):
            self._supervisor.give_up(child)
        elif child.state != PROCESS_RUNNING:
            self._report(child, child.state)

    def _is_hopeless(self, child: Child) -> bool:
        """Whether it would only fall again: a wrong parameter, or missing weights at the first start."""
        code = child.returncode
        return code == WRONG_PARAMETER or (code > 0 and child.spec.name not in self._ever_ready)

    def _report(self, child: Child, state: str) -> None:
        name = child.spec.name
        if state in self._ready_states():
            self._ever_ready.add(name)
        text = f'{name:16} {state:13}{_details(child)}'
        if self._seen.get(name) != text:
            self._seen[name] = text
            self._write('mpnp', text)

    def _ready_states(self) -> tuple[str, ...]:
        return (RUNNING, 'active') if self._placement.autostart else (RUNNING, 'active', *SET_UP)


def _details(child: Child) -> str:
    if child.pid:
        return f' pid {child.pid}'
    again = ', to be started again' if child.state == WAITING else ''
    return f' exit code {child.returncode}{again}' if child.returncode is not None else ''
