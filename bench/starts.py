"""Start every node repeatedly and stop it with a signal at a random moment.

    python -m bench.starts --starts 200

Signals are SIGINT, SIGTERM and SIGHUP in turn.  Moments range from the installation of signal handlers to
normal operation.  The exit code is 1 if a node does not exit with 0 within ``--most`` seconds, prints a
traceback, or leaves a process behind.
"""
from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mpnp_ros.cli.node_processes import ADAPTATION, FUSION, WORLD, Placement, encoder_nodes, node_process

NODES = (*encoder_nodes().values(), FUSION, ADAPTATION, WORLD)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MARK, NAMESPACE = 'MPNP_STARTS_MARK', '/starts'
HUNG, LEFT_AFTER = 30., 2.
"""Seconds after which a node is killed, and within which its child processes must end."""
WRONG = ('Traceback', 'never retrieved', 'never awaited', 'Exception in thread', '[FATAL]', '[ERROR]')


@dataclass(frozen=True)
class NodeEnd:
    """The end of a process: moment of the signal, seconds until exit, exit code, and faults."""

    moment: float
    number: signal.Signals
    seconds: float
    code: int | None
    wrong: str

    def verdict(self, most: float) -> str:
        """The faults as text; empty if there are none.  most: allowed seconds until exit."""
        late = f'took {self.seconds:.1f} s' if self.seconds > most else ''
        code = f'exit code {self.code}' if self.code != 0 else ''
        said = ', '.join(filter(None, (code, late, self.wrong)))
        return said and f'{self.number.name} after {self.moment:.2f} s: {said}'


def start_and_end(command: Sequence[str], environment: Mapping[str, str], moment: float,
                  number: signal.Signals) -> NodeEnd:
    """Start a process and send a signal ``moment`` seconds after it has installed its handlers."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(command, text=True, errors='replace', start_new_session=True,
                               env={**os.environ, **environment, MARK: mark, 'PYTHONFAULTHANDLER': '1'},
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    begun = time.monotonic()
    while not _heeds(process.pid, signal.SIGHUP) and process.poll() is None \
            and time.monotonic() - begun < HUNG:
        time.sleep(.001)
    time.sleep(moment)
    process.send_signal(number)
    told = time.monotonic()
    try:
        output, _ = process.communicate(timeout=HUNG)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # prints the stacks of all threads
        output = ''
        with suppress(subprocess.TimeoutExpired):
            output, _ = process.communicate(timeout=LEFT_AFTER)
        process.kill()
        process.wait()
        return NodeEnd(moment, number, HUNG, None, f'hung:\n{output}')
    seconds = time.monotonic() - told
    bad = next((line.strip() for line in output.splitlines() if any(word in line for word in WRONG)), '')
    end = time.monotonic() + LEFT_AFTER
    while (left := _marked(mark)) and time.monotonic() < end:
        time.sleep(.05)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wrong = ', '.join(filter(None, (bad, f'left {len(left)} processes' if left else '')))
    return NodeEnd(moment, number, seconds, process.returncode, wrong)


def _heeds(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    with suppress(OSError):
        for line in Path(f'/proc/{pid}/status').read_text().splitlines():
            if line.startswith('SigCgt:'):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _marked(mark: str) -> list[int]:
    """Process IDs of all processes with a mark in their environment."""
    found = []
    for path in Path('/proc').glob('[0-9]*/environ'):
        with suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('nodes', nargs='*', default=NODES, metavar='NODE', help=f'of {", ".join(NODES)}')
    parser.add_argument('--starts', type=int, default=30, help='starts per node (default: %(default)s)')
    parser.add_argument('--span', type=float, default=8.,
                        help='latest moment of the signal, s (default: %(default)s)')
    parser.add_argument('--most', type=float, default=4.,
                        help='allowed time until exit, s (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0,
                        help='random seed of the moments (default: %(default)s)')
    chosen = parser.parse_args(arguments)
    moments, failed = random.Random(chosen.seed), 0
    for node in chosen.nodes:
        spec = node_process(node, Placement(NAMESPACE))
        ends = [start_and_end(spec.command, spec.environment, moments.uniform(0., chosen.span),
                              SIGNALS[number % len(SIGNALS)]) for number in range(chosen.starts)]
        bad = list(filter(None, (end.verdict(chosen.most) for end in ends)))
        failed += len(bad)
        seconds = sorted(end.seconds for end in ends)
        print(f'{node}: {len(ends)} starts, {len(bad)} bad; ended after {seconds[len(seconds) // 2]:.2f} s '
              f'(median), {seconds[-1]:.2f} s (longest)', flush=True)
        for said in bad:
            print(f'  {said}', flush=True)
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
