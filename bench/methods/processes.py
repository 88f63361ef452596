"""Jobs of the benchmark of methods, each in its own process and finished when its result is on disk."""
from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mpnp_ros.adaptation.job_process import bounded_environment
from mpnp_ros.supervisor import tied

RESULT, LOG = 'result.json', 'log.txt'
PAUSE = .2


@dataclass(frozen=True)
class Job:
    """A Python module to run in its own process.

    folder: for its result and log.  command: the module and its arguments.
    """

    label: str
    folder: Path
    command: tuple[str, ...]

    @property
    def result(self) -> Path:
        """The file that exists once the job is finished."""
        return self.folder / RESULT

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process with one thread; stderr goes to its log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOG, 'wb') as log:
            return subprocess.Popen(tied([sys.executable, '-m', *self.command]), stdin=subprocess.DEVNULL,
                                    stderr=log, start_new_session=True, env=bounded_environment(1))

    def reason(self, code: int) -> str:
        """The reason of an exit code other than 0."""
        lines = (self.folder / LOG).read_text(errors='replace').strip().splitlines()
        if code < 0:
            name = signal.Signals(-code).name
            return f'ended by {name}{", perhaps out of memory" if name == "SIGKILL" else ""}'
        return lines[-1] if lines else f'exit code {code}'


class Workers:
    """Runs jobs, `count` in parallel.

    failed: label -> reason.
    """

    def __init__(self, count: int, stopped: Callable[[], bool]) -> None:
        self.count, self.stopped = count, stopped
        self.failed: dict[str, str] = {}

    def work(self, jobs: Iterable[Job]) -> None:
        """Run all unfinished jobs; when stopped, terminate the running ones and wait for them."""
        waiting = [job for job in jobs if not job.result.is_file()]
        working: dict[Job, subprocess.Popen[bytes]] = {}
        while (working or waiting) and not self.stopped():
            while waiting and len(working) < self.count:
                job = waiting.pop(0)
                print(f'{job.label}: started, {len(waiting)} waiting', flush=True)
                working[job] = job.start()
            time.sleep(PAUSE)
            self._collect(working)
        self._end(working)

    def _collect(self, working: dict[Job, subprocess.Popen[bytes]]) -> None:
        for job, process in list(working.items()):
            if (code := process.poll()) is not None:
                del working[job]
                if code:
                    self.failed[job.label] = job.reason(code)
                    print(f'{job.label}: failed, {self.failed[job.label]}', flush=True)

    @staticmethod
    def _end(working: dict[Job, subprocess.Popen[bytes]]) -> None:
        if working:
            print(f'stopping {len(working)} processes; each writes a checkpoint', flush=True)
        for process in working.values():
            process.terminate()
        for process in working.values():
            process.wait()
