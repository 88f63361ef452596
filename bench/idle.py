"""What the nodes cost while nothing is published: processor time, start, memory.

    python -m bench.idle --before OTHER_CHECKOUT

`mpnp bringup` is started without sensors.  When all nodes are ready and the adaptation node has measured the
machine, the processor time and the wake-ups of every process are counted, then its memory.  After that six
cameras and a LiDAR publish while a standing question is answered, and memory is read again.  The start of
each node alone is measured too, from the start of its process until it is ready.  The checkouts take turns.
"""
from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.common.jobs import isolate
from bench.common.page import RESULTS, markdown_table, write_page
from bench.common.program import exit_code, program_parser
from bench.common.timing import machine, machine_text
from bench.latency.sensor_to_answer import Sensors, streams
from mpnp_ros.cli.node_processes import Placement, default_modalities, node_process
from mpnp_ros.cli.session import ros_session
from mpnp_ros.cli.system import System
from mpnp_ros.errors import NotAnsweringError
from mpnp_ros.node_names import ADAPTATION, FUSION, encoder_nodes

BRINGUP = [sys.executable, '-m', 'mpnp_ros.cli.main', 'bringup']
SUPERVISOR, BEFORE, AFTER = 'mpnp bringup', 'before', 'after'
READY, SETTLED, POLL = 300., 8., .2
"""Seconds for the nodes to become ready, from then to the measurement, and between two looks."""
QUESTION = 'What is in front of me?'
STARTED = re.compile(r'\[mpnp\] +(\w+) +\w+ +pid (\d+)')
WAITED = re.compile(r'^voluntary_ctxt_switches:\s+(\d+)', re.MULTILINE)
MEGA, NANO = 1024, 1e-9
BUDGET, START, MEMORY = 2., 5., 4096.
"""Goals: percent of a core, seconds, MB, all of them for all nodes together but the seconds."""
PAGE = """# Nodes without input

    python -m bench.idle{before} {how}

On {machine}, with a load of {load}: other programs used the cores too, which also
makes each wake-up dearer.

{goals}

## Processor time

`mpnp bringup` with no publisher on any sensor topic, over {seconds:g} s once all nodes were ready;
mean of {rounds} systems.

{idle}

## Start of a node

Each node alone, files in the page cache, from the start of its process until it is active, or in the graph
for the adaptation node; median of {starts}. The seconds include waiting for other programs.

{started}

## Memory

Resident memory of the processes above, idle; *share*: pages that several processes use are divided among
them (PSS); *own*: not of files; *after answers*: after {answering:g} s in which six cameras and a
LiDAR publish twice a second and a standing question is answered.

{memory}
"""


@dataclass(frozen=True)
class ResidentMemory:
    """Resident memory of a process in MB.

    resident: all of it.  share: with each shared page divided among its users (PSS).  own: not of files.
    """

    resident: float
    share: float
    own: float

    @classmethod
    def of(cls, pid: int) -> ResidentMemory:
        """The memory of a process now."""
        rows = dict(re.findall(r'(\w+): +(\d+) kB', Path(f'/proc/{pid}/smaps_rollup').read_text()))
        return cls(*(int(rows[name]) / MEGA for name in ('Rss', 'Pss', 'Anonymous')))


@dataclass(frozen=True)
class ProcessCost:
    """One process of an idle system.

    percent: of a core.  wakeups: a second, of all threads.  idle, answering: memory before and after answers.
    """

    percent: float
    wakeups: float
    idle: ResidentMemory
    answering: ResidentMemory


@dataclass(frozen=True)
class NodeStart:
    """The start of one node: seconds until it was ready, and seconds of computing of all threads."""

    seconds: float
    computing: float


class IdleSystem:
    """`mpnp bringup` of a checkout.

    pids: of its processes, by name.
    """

    def __init__(self, checkout: Path, state: Path) -> None:
        self._process = subprocess.Popen(
            [*BRINGUP, '--log-level', 'error'], cwd=checkout, text=True, errors='replace',
            env={**os.environ, 'PYTHONPATH': str(checkout), 'PYTHONUNBUFFERED': '1',
                 'MPNP_STATE': str(state)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines: list[str] = []
        output = self._process.stdout
        assert output is not None  # a pipe
        threading.Thread(target=lambda: self.lines.extend(output), daemon=True).start()
        self.pids = {SUPERVISOR: self._process.pid}

    def wait(self) -> None:
        """Wait until all nodes are ready and nothing else runs; raises NotAnsweringError if they do not."""
        end = time.monotonic() + READY
        while not any('nodes are ready' in line for line in self.lines) or self._others():
            if time.monotonic() > end or self._process.poll() is not None:
                raise NotAnsweringError(f'mpnp bringup is not ready: {"".join(self.lines[-20:])}')
            self.pids |= {match[1]: int(match[2]) for line in self.lines if (match := STARTED.match(line))}
            time.sleep(POLL)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def _others(self) -> set[int]:
        """Further processes, such as the one that measures the speed of training."""
        return set(descendants(self._process.pid)) - set(self.pids.values())


def descendants(pid: int) -> Iterator[int]:
    """Process IDs of the children of a process, and of theirs."""
    for task in tasks(pid):
        with suppress(OSError):
            for child in map(int, (task / 'children').read_text().split()):
                yield child
                yield from descendants(child)


def tasks(pid: int) -> list[Path]:
    """Folders of the threads of a process; none if it has ended."""
    with suppress(OSError):
        return list(Path(f'/proc/{pid}/task').iterdir())
    return []


def spent(pid: int) -> tuple[float, int]:
    """Seconds of computing and wake-ups of the present threads of a process so far."""
    seconds, wakeups = 0., 0
    for task in tasks(pid):
        with suppress(OSError):
            seconds += int((task / 'schedstat').read_text().split()[0]) * NANO
            wakeups += int(WAITED.findall((task / 'status').read_text())[0])
    return seconds, wakeups


def measure_system(checkout: Path, seconds: float, answering: float,
                   sensors: Sensors) -> dict[str, ProcessCost]:
    """The cost of each process of an idle system over some seconds, and its memory before and after answers.

    answering: seconds for which sensors publish.
    """
    with tempfile.TemporaryDirectory() as state:
        system = IdleSystem(checkout, Path(state))
        try:
            system.wait()
            time.sleep(SETTLED)
            before, begun = {name: spent(pid) for name, pid in system.pids.items()}, time.monotonic()
            time.sleep(seconds)
            after, passed = {name: spent(pid) for name, pid in system.pids.items()}, time.monotonic() - begun
            idle = {name: ResidentMemory.of(pid) for name, pid in system.pids.items()}
            answer(sensors, answering)
            return {name: ProcessCost(100 * (after[name][0] - before[name][0]) / passed,
                                      (after[name][1] - before[name][1]) / passed,
                                      idle[name], ResidentMemory.of(pid))
                    for name, pid in system.pids.items()}
        finally:
            system.close()


def answer(sensors: Sensors, seconds: float) -> None:
    """Publish sensors twice a second while a standing question is asked.

    Raises NotAnsweringError without an answer.
    """
    from mpnp_ros.msg import Answer, Question

    answered = threading.Event()

    def take(message: Any) -> None:
        if message.status == Answer.OK:
            answered.set()

    with ros_session() as node:
        node.create_subscription(Answer, 'answer', take, 10)
        question, sent = node.create_publisher(Question, 'question', 10), list(streams(node, sensors))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            question.publish(Question(id='idle', text=QUESTION, standing=True))
            stamp = node.get_clock().now().to_msg()
            for publisher, message in sent:
                message.header.stamp = stamp
                publisher.publish(message)
            time.sleep(.5)
    if not answered.is_set():
        raise NotAnsweringError(f'no answer within {seconds:g} s')


def measure_start(checkout: Path, node: str) -> NodeStart:
    """Start one node alone and end it when it is ready."""
    placement = Placement(log_level='error')
    spec = node_process(node, placement)
    with tempfile.TemporaryDirectory() as state:
        spec = replace(spec, command=['env', '-C', str(checkout), *spec.command], environment={
            **spec.environment, 'PYTHONPATH': str(checkout), 'MPNP_STATE': state})
        begun = time.monotonic()
        with redirect_stdout(io.StringIO()), System([spec], placement) as system:
            system.wait_ready(READY)
            pid = system.pids()[node]
            assert pid is not None  # it is ready
            return NodeStart(time.monotonic() - begun, spent(pid)[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = program_parser('idle', __doc__)
    parser.add_argument('--before', type=Path, metavar='FOLDER', help='another checkout to compare with')
    parser.add_argument('--rounds', type=int, default=2, help='systems of each checkout')
    parser.add_argument('--seconds', type=float, default=60., help='duration of each measurement')
    parser.add_argument('--answering', type=float, default=30., metavar='S',
                        help='seconds for which sensors publish, before memory is read again')
    parser.add_argument('--starts', type=int, default=3, help='starts of each node')
    parser.add_argument('--domain', type=int, default=87, help='ROS domain of the measurement')
    parser.add_argument('--output', type=Path, default=RESULTS, metavar='FOLDER',
                        help='folder for idle.md and idle.json (default: %(default)s)')
    options = parser.parse_args(arguments)
    return exit_code('idle', lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Measure, and write the page."""
    isolate(options.domain)
    checkouts = {AFTER: Path(__file__).resolve().parents[1]}
    if options.before:
        checkouts = {BEFORE: options.before.resolve(), **checkouts}
    nodes = [*(encoder_nodes()[name] for name in default_modalities()), FUSION, ADAPTATION]
    starts: dict[str, dict[str, list[NodeStart]]] = {node: {name: [] for name in checkouts} for node in nodes}
    systems: dict[str, list[dict[str, ProcessCost]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        sensors = Sensors.read(None, Path(folder))
        for _ in range(options.rounds):
            for name, checkout in checkouts.items():
                systems[name].append(measure_system(checkout, options.seconds, options.answering, sensors))
                print(f'{name}: {sum(cost.percent for cost in systems[name][-1].values()):.2f} % of a core',
                      flush=True)
    for _ in range(options.starts):
        for node in nodes:
            for name, checkout in checkouts.items():
                starts[node][name].append(measure_start(checkout, node))
                print(f'{name}: {node} {starts[node][name][-1]}', flush=True)
    facts = {**machine(), 'rounds': options.rounds, 'seconds': options.seconds, 'starts': options.starts}
    results = {'machine': facts,
               'systems': {name: [{process: asdict(cost) for process, cost in system.items()}
                                  for system in measured] for name, measured in systems.items()},
               'starts': {node: {name: [asdict(start) for start in measured]
                                 for name, measured in by.items()} for node, by in starts.items()}}
    page = write_page(options.output / 'idle.md', text(options, facts['load'], systems, starts), results,
                      lambda _: None)
    print(page.read_text())


def text(options: argparse.Namespace, load: object,
         systems: Mapping[str, Sequence[Mapping[str, ProcessCost]]],
         starts: Mapping[str, Mapping[str, Sequence[NodeStart]]]) -> str:
    """The page.  load: of the machine at the end of the measurement."""
    names = list(systems)
    processes = list(systems[AFTER][0])

    def row(process: str, value: str, digits: int) -> list[str]:
        return [f'{mean(_value(system[process], value) for system in systems[name]):.{digits}f}'
                for name in names]

    def total(value: str, digits: int, chosen: Sequence[str] = processes) -> list[str]:
        sums = {name: [sum(_value(system[each], value) for each in chosen) for system in systems[name]]
                for name in names}
        return [f'**{mean(sums[name]):.{digits}f}**' for name in names]

    def heads(*what: str) -> list[str]:
        return [f'{each}, {name}' for each in what for name in names]

    nodes = [process for process in processes if process != SUPERVISOR]
    idle = markdown_table(
        ['process', *heads('% of a core', 'wake-ups a second')],
        [*([process, *row(process, 'percent', 2), *row(process, 'wakeups', 0)] for process in processes),
         ['all', *total('percent', 2), *total('wakeups', 0)]], numbers=True)
    started = markdown_table(
        ['node', *heads('seconds', 'seconds of computing')],
        [[node, *(f'{median(start.seconds for start in by[name]):.1f}' for name in names),
          *(f'{median(start.computing for start in by[name]):.1f}' for name in names)]
         for node, by in starts.items()], numbers=True)
    memory = markdown_table(
        ['process, MB', *heads('idle', 'share', 'own', 'after answers')],
        [*([process, *row(process, 'idle.resident', 0), *row(process, 'idle.share', 0),
            *row(process, 'idle.own', 0), *row(process, 'answering.resident', 0)] for process in processes),
         ['the nodes', *total('idle.resident', 0, nodes), *total('idle.share', 0, nodes),
          *total('idle.own', 0, nodes), *total('answering.resident', 0, nodes)]], numbers=True)
    percent = mean(sum(cost.percent for cost in system.values()) for system in systems[AFTER])
    slowest, longest = (max(median(getattr(start, kind) for start in by[AFTER]) for by in starts.values())
                        for kind in ('computing', 'seconds'))
    resident = mean(sum(system[node].idle.resident for node in nodes) for system in systems[AFTER])
    goals = markdown_table(['goal', 'measured'], [
        [f'all processes below {BUDGET:g} % of a core', f'{percent:.2f} %, {_verdict(percent < BUDGET)}'],
        [f'each node ready within {START:g} s',
         f'{slowest:.1f} s of computing, {_verdict(slowest < START)}; {longest:.1f} s beside other programs'],
        [f'the nodes below {MEMORY:.0f} MB, idle', f'{resident:.0f} MB, {_verdict(resident < MEMORY)}']])
    how = ' '.join(f'--{name} {getattr(options, name):g}'
                   for name in ('rounds', 'seconds', 'answering', 'starts'))
    return PAGE.format(
        before=' --before CHECKOUT' if options.before else '', how=how, machine=machine_text(), load=load,
        goals=goals, idle=idle, started=started, memory=memory, seconds=options.seconds,
        rounds=options.rounds, starts=options.starts, answering=options.answering)


def _value(cost: ProcessCost, path: str) -> float:
    """A figure of a process, such as ``idle.share``."""
    value: object = cost
    for name in path.split('.'):
        value = getattr(value, name)
    assert isinstance(value, float)
    return value


def _verdict(reached: bool) -> str:
    return 'reached' if reached else 'missed'


if __name__ == '__main__':
    sys.exit(main())
