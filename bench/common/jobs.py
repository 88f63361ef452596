"""Work that is finished when its result is on disk, and processes of a measurement."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpnp_ros.adaptation.job_process import bounded_environment
from mpnp_ros.files import write_file
from mpnp_ros.supervisor import tied

RESULT, LOG = 'result.json', 'log.txt'
PAUSE = .2


def kept(path: Path, measure: Callable[[], Any]) -> Any:
    """The content of a JSON file; without the file, `measure()` makes it."""
    if not path.is_file():
        write_file(path, json.dumps(measure()).encode())
    return json.loads(path.read_bytes())


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
            for job, process in list(working.items()):
                if (code := process.poll()) is not None:
                    del working[job]
                    if code:
                        self.failed[job.label] = job.reason(code)
                        print(f'{job.label}: failed, {self.failed[job.label]}', flush=True)
        if working:
            print(f'stopping {len(working)} processes; each writes a checkpoint', flush=True)
        for process in working.values():
            process.terminate()
        for process in working.values():
            process.wait()


def isolate(domain: int) -> None:
    """Keep this process and its children in a ROS domain of their own on this machine."""
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')


def status(pid: int) -> dict[str, str]:
    """Fields of /proc/PID/status, such as VmRSS or Threads.  Raises OSError if the process has ended."""
    return dict(line.split(':', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines())


def marked(mark: str) -> dict[int, str]:
    """Command lines by process ID, of all processes with `mark` (NAME=value) in their environment."""
    found = {}
    for folder in Path('/proc').glob('[0-9]*'):
        with suppress(OSError):  # the process has ended or belongs to another user
            if mark.encode() in (folder / 'environ').read_bytes().split(b'\0'):
                words = (folder / 'cmdline').read_bytes().split(b'\0')
                found[int(folder.name)] = b' '.join(words).decode(errors='replace')[:150]
    return found


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def end_marked(mark: str, within: float) -> list[str]:
    """Kill the marked processes that do not end within some seconds; returns their command lines."""
    end = time.monotonic() + within
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(.05)
    for pid in left:
        send(pid, signal.SIGKILL)
    return list(left.values())
