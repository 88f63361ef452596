"""Start every node repeatedly and stop it with a signal at a random moment.

    python -m bench.starts --starts 200

Signals are SIGINT, SIGTERM and SIGHUP in turn.  Moments range from the installation of signal handlers to
normal operation.  The exit code is 1 if a node does not exit with 0 within ``--most`` seconds, prints a
traceback, or leaves a process behind.
"""
from __future__ import annotations

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

from bench.common.jobs import end_marked, status
from bench.common.program import program_parser
from mpnp_ros.cli.node_processes import Placement, node_process
from mpnp_ros.node_names import ADAPTATION, FUSION, WORLD, encoder_nodes

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
    while process.poll() is None and time.monotonic() - begun < HUNG:
        with suppress(OSError):
            if int(status(process.pid)['SigCgt'], 16) >> (signal.SIGHUP - 1) & 1:  # it has handlers
                break
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
    faulty = any(word in output for word in WRONG)
    bad = f'it said\n{output.strip()}\n' if faulty or process.returncode else ''
    left = end_marked(f'{MARK}={mark}', LEFT_AFTER)
    wrong = ', '.join(filter(None, (bad, f'left {len(left)} processes' if left else '')))
    return NodeEnd(moment, number, seconds, process.returncode, wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = program_parser('starts', __doc__)
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
