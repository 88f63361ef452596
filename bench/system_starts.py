"""Start whole systems and stop them by signals at random moments; check the end and remaining processes.

    python -m bench.system_starts --count 60 --params-file tiny.yaml -- --world 3
    python -m bench.system_starts --command ros2 launch mpnp_ros bringup.launch.py

Arguments after ``--`` are passed to the command, by default `mpnp bringup`. Systems get SIGINT, SIGTERM and
SIGHUP in turn. Every second SIGINT goes to a system that inherits it as ignored, like background jobs of a
shell. A process belongs to a system if its environment has the mark of the system. The exit code is 1 if a
process is left, a system does not end within --bound, or its output has a traceback.
"""
from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.common.jobs import end_marked, marked, send
from bench.common.program import program_parser

MARK = 'MPNP_SYSTEM_START'
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HANDLED_AFTER = 2.
"""Seconds after which a command has set its handlers; before, it ignores signals inherited as ignored."""
STACKS, STACKS_ON_ABORT = 2., {'PYTHONFAULTHANDLER': '1'}
LEFT_AFTER = 5.
"""Seconds after the end of a system within which its child processes must end."""
AMISS = re.compile(r'Traceback|Exception ignored|never retrieved|terminate called|Segmentation fault|'
                   'Fatal Python')
IGNORING = ['sh', '-c', 'trap "" INT; exec "$@"', 'sh']


@dataclass(frozen=True)
class Ending:
    """The end of one system.

    number: of the signal.  ignored: whether SIGINT was inherited as ignored.  after, took: s, from the start
    to the signal and from the signal to the end.  amiss: faults.
    """

    number: int
    ignored: bool
    after: float
    took: float
    code: int | None
    amiss: tuple[str, ...]

    def __str__(self) -> str:
        name = signal.Signals(self.number).name + (' (inherited as ignored)' if self.ignored else '')
        return (f'{name} after {self.after:.2f} s: ended in {self.took:.2f} s, exit code {self.code}'
                f'{"; " if self.amiss else ""}{"; ".join(self.amiss)}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; exit code 1 if a system had faults."""
    arguments = parse(sys.argv[1:] if argv is None else argv)
    chosen, endings = random.Random(arguments.seed), []
    for index in range(arguments.count):
        number, after = SIGNALS[index % len(SIGNALS)], chosen.uniform(0., arguments.longest)
        ignored = number == signal.SIGINT and index // len(SIGNALS) % 2 == 1
        if ignored:
            after = max(after, HANDLED_AFTER)
        ending = start_and_end(arguments.command, number, after, ignored, arguments.bound)
        endings.append(ending)
        print(f'{index + 1:4}  {ending}', flush=True)
    faults = sum(bool(ending.amiss) for ending in endings)
    print(f'{len(endings)} systems, {faults} with faults; the end took at most '
          f'{max(ending.took for ending in endings):.2f} s')
    return 1 if faults else 0


def start_and_end(command: Sequence[str], number: int, after: float, ignored: bool = False,
                  bound: float = 15.) -> Ending:
    """Start a command, send it a signal ``after`` that many seconds, and check its end.

    number: of the signal; ignored: whether it inherits SIGINT as ignored; bound: s.
    """
    mark = uuid.uuid4().hex
    with tempfile.TemporaryFile('w+', errors='replace') as output:
        process = subprocess.Popen([*(IGNORING if ignored else ()), *command], stdout=output,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env={**os.environ, MARK: mark, **STACKS_ON_ABORT}, start_new_session=True)
        time.sleep(after)
        sent = time.monotonic()
        process.send_signal(number)
        amiss = []
        try:
            code: int | None = process.wait(bound)
        except subprocess.TimeoutExpired:
            code = None
            running = marked(f'{MARK}={mark}')
            for pid in running.keys() - {process.pid}:
                send(pid, signal.SIGABRT)  # faulthandler prints their stacks
            time.sleep(STACKS)
            process.kill()
            process.wait()
            amiss.append(f'still running after {bound:g} s: {"; ".join(running.values())}\n'
                         f'{_text(output)[-3000:]}')
        took = time.monotonic() - sent
        amiss += [f'{line} is left' for line in end_marked(f'{MARK}={mark}', LEFT_AFTER)]
        text = _text(output)
    if found := AMISS.search(text):
        amiss.append(f'{found[0]!r} in the output:\n{text[max(0, found.start() - 500):][:3000]}')
    return Ending(number, ignored, after, took, code, tuple(amiss))


def _text(output: IO[str]) -> str:
    output.seek(0)
    return output.read()


def parse(argv: Sequence[str]) -> Namespace:
    """The options, and the whole command that starts a system."""
    own, rest = list(argv), []
    if '--' in own:
        own, rest = own[:own.index('--')], own[own.index('--') + 1:]
    parser = program_parser('system_starts', __doc__)
    parser.add_argument('--count', type=int, default=60, help='systems to start (default: %(default)s)')
    parser.add_argument('--longest', type=float, default=15., metavar='S',
                        help='latest moment of the signal (default: %(default)s)')
    parser.add_argument('--bound', type=float, default=15., metavar='S',
                        help='time within which a system must end (default: %(default)s)')
    parser.add_argument('--params-file', type=Path, help='parameters of the systems, e.g. of tiny models')
    parser.add_argument('--seed', type=int, default=0,
                        help='random seed of the moments (default: %(default)s)')
    parser.add_argument('--command', nargs='+', help='command that starts a system (default: mpnp bringup)')
    arguments = parser.parse_args(own)
    command = arguments.command or [sys.executable, '-m', 'mpnp_ros.cli.main', 'bringup']
    if arguments.params_file:
        rest = ['--params-file', str(arguments.params_file), *rest]
    arguments.command = [*command, *rest]
    return arguments


if __name__ == '__main__':
    sys.exit(main())
