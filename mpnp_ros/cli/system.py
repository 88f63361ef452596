"""Encoders, fusion and replay as supervised processes, with the states of their nodes."""
from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from mpnp_ros.cli.complaints import Complaints
from mpnp_ros.cli.node_processes import (
    FUSION,
    REPLAY,
    WORLD,
    Placement,
    checked_namespace,
    encoder_nodes,
)
from mpnp_ros.cli.node_states import RUNNING, NodeStates
from mpnp_ros.cli.session import ros_session
from mpnp_ros.client.node_reports import NodeReports
from mpnp_ros.errors import NotAnsweringError
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

POLL, WATCH = .05, .25
"""Seconds between polls of the processes: until they are ready, and afterwards."""
WRONG_PARAMETER = 2  # exit code of mpnp_ros.nodes.runtime.run_node
SET_UP = ('unconfigured', 'inactive')
SOURCES = (REPLAY, WORLD)


class System:
    """The processes of a robot and the states of their nodes; prints a status line for every change.

    signals: grows by each signal to end the system; another one during the shutdown accelerates it.
    why: why the system cannot continue, empty as long as it can.
    """

    def __init__(self, specs: Sequence[ProcessSpec], placement: Placement, restarts: int = 5,
                 signals: Sequence[int] = ()) -> None:
        self._names = [spec.name for spec in specs]
        self._placement, self._signals, self._heeded = placement, signals, 0
        self.why = ''
        self._lines = PrefixedLines([*self._names, 'mpnp'])
        self._complaints = Complaints(lambda name, text: self.say(f'{name:16} {text}'))
        self._supervisor = Supervisor(specs, RestartPolicy(limit=restarts), write=self._write,
                                      changed=self._process_changed, hurry=self._hurry)
        self._stack = ExitStack()
        self._seen: dict[str, str] = {}
        self._ever_ready: set[str] = set()
        self._announced = False

    def __enter__(self) -> System:
        with ExitStack() as stack:
            namespace = checked_namespace(self._placement.namespace)
            node = stack.enter_context(ros_session(namespace, self._placement.remaps))
            self._states, self._reports = NodeStates(node, self._names), NodeReports(node)
            if not self._signals:
                stack.enter_context(self._supervisor)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
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
                if report.name in self._names and self._supervisor[report.name].state == PROCESS_RUNNING:
                    self._complaints.report(report.name, report.level, report.text)
        self.why = self._why_it_ends()
        if self.why:
            self.say(f'{self.why}; shutting down')
        return runs and not self.why

    def wait_ready(self, timeout: float) -> None:
        """Wait until every node that has not failed is ready; raise NotAnsweringError after ``timeout`` s."""
        end = time.monotonic() + timeout
        while late := self._not_ready():
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
        encoders = [name for name in self._names if name in encoder_nodes().values()]
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

    def _not_ready(self) -> list[str]:
        failed = self.failed()
        return [name for name in self._names if name not in failed and name not in self._ever_ready]

    def _write(self, name: str, line: str) -> None:
        self._complaints.log(name, line)
        self._lines(name, line)

    def _hurry(self) -> bool:
        """Return whether another signal has arrived during the shutdown."""
        before, self._heeded = self._heeded, len(self._signals)
        return self._heeded > before

    def _process_changed(self, child: Child) -> None:
        name = child.spec.name
        self._states.forget(name)
        self._complaints.forget(name)
        if child.state == WAITING and self._is_hopeless(child):
            self._supervisor.give_up(child)
        elif child.state != PROCESS_RUNNING:
            self._report(child, child.state)

    def _is_hopeless(self, child: Child) -> bool:
        """Return whether a restart is useless: a wrong parameter, an unreadable bag, missing weights."""
        code, name = child.returncode, child.spec.name
        return code == WRONG_PARAMETER or (code > 0 and (name in SOURCES or name not in self._ever_ready))

    def _report(self, child: Child, state: str) -> None:
        name = child.spec.name
        if state in self._ready_states():
            self._ever_ready.add(name)
        text = f'{name:16} {state:13}{_details(child)}'
        if self._seen.get(name) != text:
            self._seen[name] = text
            self.say(text)

    def _ready_states(self) -> tuple[str, ...]:
        return (RUNNING, 'active') if self._placement.autostart else (RUNNING, 'active', *SET_UP)


def _ending(child: Child) -> str:
    if child.state == ENDED:
        return 'ended'
    return f'failed with exit code {child.returncode}'


def _details(child: Child) -> str:
    if child.pid:
        return f' pid {child.pid}'
    again = ', restarting' if child.state == WAITING else ''
    return f' exit code {child.returncode}{again}' if child.returncode is not None else ''
