"""Nodes in processes of their own, whose output goes to a file."""
from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mpnp_ros.errors import NotAnsweringError
from mpnp_ros.supervisor import RUNNING, ProcessSpec, RestartPolicy, Supervisor


class LoggedProcesses:
    """Starts nodes; what they print goes to ``log``, which is begun anew."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._lock = threading.Lock()
        self._running: list[Supervisor] = []
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text('')

    @contextmanager
    def run(self, specs: Sequence[ProcessSpec]) -> Iterator[None]:
        """Let these processes run."""
        with Supervisor(specs, RestartPolicy(limit=0), write=self._write) as group:
            self._running.append(group)
            try:
                yield
            finally:
                self._running.remove(group)

    def check(self) -> None:
        """Raises NotAnsweringError, naming the node, where one has ended."""
        for group in list(self._running):
            group.poll()
            for child in group.children:
                if child.state != RUNNING:
                    raise NotAnsweringError(f'{child.spec.name} ended with exit code {child.returncode}'
                                            f'{self._last_words(child.spec.name)}; see {self.log}')

    def _write(self, name: str, line: str) -> None:
        with self._lock, self.log.open('a') as stream:
            stream.write(f'[{name}] {line}\n')

    def _last_words(self, name: str) -> str:
        """The last thing a node said that sounds like the reason."""
        said = [line for line in self.log.read_text().splitlines()
                if line.startswith(f'[{name}]') and ('ERROR' in line or 'FATAL' in line)]
        return f' ({said[-1].split("]: ")[-1]})' if said else ''


def own_domain() -> None:
    """Keep the nodes that a command starts among themselves, unless the user has chosen a domain."""
    import random

    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randrange(1, 100)))
