"""Supervision of a set of processes: start, print their output, restart, end.

Every child leads its own session, so Ctrl-C in a terminal reaches this process only and each child gets one
signal, by :meth:`Supervisor.stop`.  On Linux a child gets SIGTERM if this process is killed, so nothing is
left behind.
"""
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.tie import HOLD

RUNNING, WAITING, ENDED, FAILED = 'running', 'waiting', 'ended', 'failed'
GRACE = ((signal.SIGTERM, 4.), (signal.SIGTERM, 2.), (signal.SIGKILL, 3.))
"""Seconds that a child may take after each signal before the next one.

Not SIGINT: a Python process that does not handle signals yet ends silently on SIGTERM, and with a traceback
on SIGINT.  A node shuts down in order on the first one and ends at once on the second.
"""
STOP_POLL = .02
DRAIN = 2.
"""Seconds for printing the last lines of ended children."""
TIE = Path(__file__).with_name('tie.py')
"""Replaces itself by the command of a child that must end with its parent.

Not Popen's preexec_fn, which can deadlock in a process with threads.  The child is tied to the thread that
started it: call :meth:`Supervisor.poll` on one that stays.
"""


@dataclass(frozen=True)
class ProcessSpec:
    """A process to start: a short name for its log lines, the command, and added environment variables."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RestartPolicy:
    """When a crashed process is restarted.

    limit: consecutive restarts before it is given up; 0: never restarted.
    delay: s before the first restart; doubles each time up to ``longest`` s.
    steady: s of running after which the count starts anew.
    """

    limit: int = 5
    delay: float = 1.
    longest: float = 30.
    steady: float = 60.

    def pause(self, restarts: int) -> float:
        """Return the seconds before restart number ``restarts`` (from 0)."""
        return min(self.delay * 2. ** restarts, self.longest)


class Child:
    """One supervised process and its history."""

    def __init__(self, spec: ProcessSpec, write: Callable[[str, str], object]) -> None:
        self.spec = spec
        self.state = WAITING
        self.restarts = 0
        self.returncode: int | None = None
        self.process: subprocess.Popen[str] | None = None
        self.started = self.due = 0.
        self._write = write
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        return self.process.pid if self.process and self.state == RUNNING else None

    def start(self, now: float) -> None:
        """Start the process; its output is passed line by line to ``write``."""
        environment = {**os.environ, 'PYTHONUNBUFFERED': '1', **self.spec.environment}
        try:
            self.process = subprocess.Popen(
                tied(self.spec.command, environment.get('PATH')), env=environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors='replace', start_new_session=True)
        except OSError as error:
            raise ConfigurationError(f'{self.spec.name} cannot be started: {error}') from None
        self.state, self.started = RUNNING, now
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def send(self, number: int) -> None:
        """Send a signal to the process and all its children."""
        if self.process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def wait(self, timeout: float) -> bool:
        """Wait for the end of the process; False after ``timeout`` seconds."""
        if timeout <= 0 and self.process and self.process.poll() is None:  # asked several times a second
            return False
        try:
            self.returncode = self.process.wait(max(0., timeout)) if self.process else self.returncode
        except subprocess.TimeoutExpired:
            return False
        return True

    def drain(self, timeout: float = DRAIN) -> None:
        """Wait until the last lines of an ended process have been printed."""
        if self._reader:
            self._reader.join(max(0., timeout))

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        with process.stdout as lines:
            for line in lines:
                self._write(self.spec.name, line.rstrip('\n'))


class Supervisor:
    """Starts processes on entry and ends them all on exit; call :meth:`poll` a few times a second in between.

    write: gets (name, line) for everything a child prints, from several threads.
    changed: called with a child whenever its state changes.
    hurry: asked while children end; each time it says true, the next signal follows at once.
    """

    def __init__(self, specs: Iterable[ProcessSpec], policy: RestartPolicy | None = None, *,
                 write: Callable[[str, str], object] | None = None,
                 changed: Callable[[Child], None] = lambda child: None,
                 hurry: Callable[[], bool] = lambda: False,
                 clock: Callable[[], float] = time.monotonic) -> None:
        specs = list(specs)
        self._hurry = hurry
        self._write = PrefixedLines([spec.name for spec in specs]) if write is None else write
        self._policy, self._changed, self._clock = policy or RestartPolicy(), changed, clock
        self.children = [Child(spec, self._write) for spec in specs]

    def __enter__(self) -> Supervisor:
        try:
            for child in self.children:
                self._start(child)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __getitem__(self, name: str) -> Child:
        return next(child for child in self.children if child.spec.name == name)

    def poll(self) -> bool:
        """Record ended processes, restart those that are due; False once nothing runs or will run."""
        now = self._clock()
        for child in self.children:
            if child.state == RUNNING and child.wait(0.):
                self._ended(child, now)
            elif child.state == WAITING and now >= child.due:
                child.restarts += 1
                self._start(child)
        return any(child.state in (RUNNING, WAITING) for child in self.children)

    def give_up(self, child: Child) -> None:
        """Do not restart a crashed child again, because it would only crash again."""
        self._become(child, FAILED)

    def stop(self) -> None:
        """End all children: SIGTERM, so that nodes shut down in order, then as in :data:`GRACE`.

        A KeyboardInterrupt meanwhile sends the next signal at once.
        """
        left = [child for child in self.children if child.state == RUNNING]
        for number, grace in GRACE:
            with contextlib.suppress(KeyboardInterrupt):
                left = [child for child in left if not child.wait(0.)]
                for child in left:
                    child.send(number)
                end = time.monotonic() + grace
                while not all(child.wait(0.) for child in left) and time.monotonic() < end \
                        and not self._hurry():
                    time.sleep(STOP_POLL)
        end = time.monotonic() + DRAIN
        for child in self.children:
            if child.state == RUNNING:
                child.send(signal.SIGKILL)  # what it started and left behind
            child.drain(end - time.monotonic())
            if child.state in (RUNNING, WAITING):
                self._become(child, ENDED)

    def _start(self, child: Child) -> None:
        child.start(self._clock())
        self._changed(child)

    def _ended(self, child: Child, now: float) -> None:
        child.drain()
        child.send(signal.SIGKILL)  # what it started and left behind
        if now - child.started >= self._policy.steady:
            child.restarts = 0
        if child.returncode == 0:
            self._become(child, ENDED)
        elif child.restarts >= self._policy.limit:
            self._become(child, FAILED)
        else:
            child.due = now + self._policy.pause(child.restarts)
            self._become(child, WAITING)

    def _become(self, child: Child, state: str) -> None:
        child.state = state
        self._changed(child)


def tied(command: Sequence[str], path: str | None = None) -> list[str]:
    """Return the command line of a process that ends with this one, if the system supports it.

    Raises FileNotFoundError if there is no such program.
    """
    if sys.platform.startswith('linux') and shutil.which(command[0], path=path) is None:
        raise FileNotFoundError(f'{command[0]!r} is not a program on this machine')
    return [*tie(), *command]


def tie(hold_sigint: bool = False) -> list[str]:
    """Return the prefix of a command whose process must end with this one; empty if that is not possible.

    hold_sigint: for a node that can get SIGINT at any moment; see tie.py.
    """
    if not sys.platform.startswith('linux'):
        return []
    return [sys.executable, '-I', '-S', str(TIE), *([HOLD] if hold_sigint else []), str(os.getpid())]


class PrefixedLines:
    """Writes ``[name] line`` with names padded to one width, thread-safe."""

    def __init__(self, names: Sequence[str]) -> None:
        self._width = max(map(len, names), default=0) + 2
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        """Write one line of ``name``."""
        with self._lock:
            print(f'[{name}]'.ljust(self._width), line, file=sys.stdout, flush=True)
