"""The processes of an adaptation.

python -m mpnp_ros.adaptation.job_main read JOB python -m mpnp_ros.adaptation.job_main train JOB

Progress goes to stdout, one line of JSON each.  SIGTERM or SIGINT ends either within a step; finished work is
on disk, and the same command resumes.  A failure is written as the job's result, so that it is not repeated;
a killed process leaves none, and may be started again.
"""
from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

from mpnp_ros.adaptation.job import CANCELLED, FAILED, JobProgress, JobResult, JobSpec
from mpnp_ros.errors import MpnpError

READ, TRAIN = 'read', 'train'
DONE, FAILURE, INTERRUPTED = 0, 1, 130
AUTOGROUP = Path('/proc/self/autogroup')


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
    from mpnp_ros.adaptation.budget import process_seconds
    from mpnp_ros.adaptation.job_reading import read
    from mpnp_ros.adaptation.job_training import train

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


if __name__ == '__main__':
    code = main()
    gc.freeze()  # or Python looks through all objects of torch before it ends, and the next stage waits
    sys.exit(code)
