"""The processes of an adaptation job, and the job as seen by its owner.

    python -m mpnp_ros.adaptation.job_process read JOB
    python -m mpnp_ros.adaptation.job_process train JOB

Progress goes to stdout, one line of JSON each.  SIGTERM or SIGINT ends either within a step; finished work is
on disk, and the same command resumes.  A failure is written as the job's result, so that it is not repeated;
a killed process leaves none, and may be started again.
"""
from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from mpnp_ros.adaptation.job import CANCELLED, FAILED, JobProgress, JobResult, JobSpec
from mpnp_ros.device import LEAN
from mpnp_ros.errors import MpnpError
from mpnp_ros.supervisor import tied

READ, TRAIN = 'read', 'train'
DONE, FAILURE, INTERRUPTED = 0, 1, 130
AUTOGROUP = Path('/proc/self/autogroup')

LOG = logging.getLogger(__name__)
ATTEMPTS = 4
END_TIMEOUT = 5.
"""Seconds for a process to end after a signal before it is killed: a step, and a checkpoint."""


def main() -> int:
    """Run one stage; returns the exit code: 0 done, 1 failed finally, 130 interrupted."""
    stage, folder = sys.argv[1], Path(sys.argv[2])
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        spec = JobSpec.load(folder)
        step_back(spec.niceness)
        limit_memory(round(spec.budget.bytes))
        return _run(stage, folder, stopped)
    except Exception as error:
        if not isinstance(error, MpnpError):
            traceback.print_exc()
        JobResult(FAILED, _describe(error)).save(folder)
        return FAILURE


def step_back(niceness: int) -> None:
    """Raise the niceness of this process and of its autogroup."""
    with suppress(OSError):
        os.nice(niceness)
    with suppress(OSError):
        AUTOGROUP.write_text(str(niceness))


def limit_memory(size: int) -> None:
    """Limit the memory that this process can allocate to so many bytes; 0: no limit."""
    if size:
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _run(stage: str, folder: Path, stopped: threading.Event) -> int:
    from mpnp_ros.adaptation.job_reading import read
    from mpnp_ros.adaptation.job_training import train
    from mpnp_ros.training.budget import process_seconds

    if stage == READ:
        read(folder, _say, stopped.is_set, process_seconds())
    else:
        result = train(folder, _say, stopped.is_set, process_seconds())
        if result.status != CANCELLED:
            result.save(folder)
    return INTERRUPTED if stopped.is_set() else DONE


def _say(progress: JobProgress) -> None:
    with suppress(BrokenPipeError):
        print(progress.to_line(), flush=True)


def _describe(error: Exception) -> str:
    from mpnp_ros.device import is_out_of_memory

    if is_out_of_memory(error):
        return ('OutOfMemory: training needs more than its budget of memory; raise it, or take fewer '
                'questions a step')
    return f'{type(error).__name__}: {error}'


def measure_speed(llm: str, device: str, dtype: str, threads: int) -> subprocess.Popen[bytes]:
    """Start measuring the training speed of this machine before the first job; tied to this thread."""
    command = [sys.executable, '-m', 'mpnp_ros.training.speedometer', llm, device, dtype, str(threads)]
    return subprocess.Popen(tied(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            start_new_session=True, env=bounded_environment(threads))


def bounded_environment(threads: int) -> dict[str, str]:
    """Return environment variables that limit threads and return memory to the system."""
    return {**os.environ, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads),
            'OMP_WAIT_POLICY': 'PASSIVE', **LEAN, 'TOKENIZERS_PARALLELISM': 'false'}


class JobProcess:
    """Runs the stages of a job in order; a killed process is restarted and resumes.

    future: the result; it never raises.  A cancelled or failed job has one too.
    """

    def __init__(self, folder: Path, on_progress: Callable[[JobProgress], None]) -> None:
        """on_progress: called on a separate thread; must not wait."""
        self.folder, self._on_progress = folder, on_progress
        self.future: Future[JobResult] = Future()
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name='adaptation job', daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Return the process id of the current stage."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def cancel(self) -> None:
        """End it within a training step; finished work stays on disk."""
        with self._lock:
            self._cancelled.set()
            if self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """Cancel, and wait until no process is left."""
        self.cancel()
        self._thread.join()

    def _run(self) -> None:
        try:
            result = self._work()
        except Exception as error:
            LOG.exception('job %s', self.folder)
            result = JobResult(FAILED, f'{type(error).__name__}: {error}')
        self.future.set_result(result)

    def _work(self) -> JobResult:
        if (result := JobResult.load(self.folder)) is not None:
            return result
        for stage in (READ, TRAIN):
            code = self._stage(stage)
            if (result := JobResult.load(self.folder)) is not None:
                return result
            if self._cancelled.is_set():
                return JobResult(CANCELLED, 'cancelled; the job can be resumed')
            if code != DONE:
                break
        return JobResult(FAILED, f'the stage {stage} ended {ATTEMPTS} times with exit code {code}; see its '
                                 'messages above')

    def _stage(self, stage: str) -> int:
        code = DONE
        for attempt in range(ATTEMPTS):
            code = self._attempt(stage)
            if code == DONE or self._cancelled.is_set() or JobResult.load(self.folder) is not None:
                break
            LOG.warning('the stage %s of %s ended with exit code %d; attempt %d of %d', stage,
                        self.folder.name, code, attempt + 1, ATTEMPTS)
        return code

    def _attempt(self, stage: str) -> int:
        """Run a stage to its end; returns the exit code.  The stage ends with this process."""
        command = tied([sys.executable, '-m', 'mpnp_ros.adaptation.job_process', stage, str(self.folder)])
        with self._lock:
            if self._cancelled.is_set():
                return DONE
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                             text=True, errors='replace', start_new_session=True,
                                             env=bounded_environment(JobSpec.load(self.folder).threads))
        with self._process as process:
            killer = threading.Thread(target=self._kill_if_late, args=(process,), daemon=True)
            killer.start()
            for line in process.stdout:
                self._pass_on(line)
        return process.returncode

    def _kill_if_late(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            if self._cancelled.wait(.2):
                try:
                    process.wait(END_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
                return

    def _pass_on(self, line: str) -> None:
        try:
            progress = JobProgress.from_line(line)
        except (ValueError, TypeError):
            LOG.info('%s: %s', self.folder.name, line.rstrip())
        else:
            self._on_progress(progress)


if __name__ == '__main__':
    code = main()
    gc.freeze()  # or Python looks through all objects of torch before it ends, and the next stage waits
    sys.exit(code)
