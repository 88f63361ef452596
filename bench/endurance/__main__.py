"""Ask a thousand questions while a sensor is exchanged repeatedly and processes are killed.

    python -m bench.endurance --cycles 20 --questions 1000 --kills 10

The installed fusion and adaptation nodes run.  In every cycle a LiDAR with an unknown encoder is plugged in,
links for it are tried (in every fifth cycle trained), answers use it, and it is unplugged.  Questions are
asked all the time.  Every question must get exactly one consistent answer.  A killed process must restart
with the links that were in use, or newer ones.  The exit code is 1 if one of these fails.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.common.jobs import isolate
from bench.common.program import program_parser
from bench.common.timing import Summary, machine
from bench.endurance.robot import (
    LIDAR,
    READER,
    TRAINED,
    TRAINER,
    TRIED,
    Nodes,
    TokenRobot,
    object_snapshots,
)
from mpnp_ros.cli.session import ros_session
from mpnp_ros.errors import MpnpError
from mpnp_ros.methods.link_store import LinkStore, shipped_links
from mpnp_ros.node_names import ADAPTATION, FUSION

PLUGGED, READING, EVALUATING, HANDED, TRAINING, UNPLUGGED = PHASES = (
    'plugged in', 'reading', 'evaluating', 'handed over', 'training', 'unplugged')
LASTED: Mapping[str, float] = {PLUGGED: .3, READING: 2., EVALUATING: 2., HANDED: 0., TRAINING: 0.,
                               UNPLUGGED: 1.}
"""Seconds from the beginning of a phase to the kill."""
TICK, LOOK, READY, CYCLE, LATE, UNPLUGGING, RECOVERY, UNDERWAY = .02, .1, 120., 240., 90., 30., 90., .5
"""Seconds: periods of ticks and of process checks, time-outs, and the longest transport of a message."""
EVERY_FIFTH, UNPLUGGED_QUESTIONS = 5, 5


@dataclass(frozen=True)
class Point:
    """A planned kill: phase and process."""

    phase: str
    victim: str


POINTS = (Point(PLUGGED, FUSION), Point(READING, READER), Point(EVALUATING, ADAPTATION),
          Point(HANDED, FUSION), Point(TRAINING, TRAINER), Point(READING, ADAPTATION),
          Point(EVALUATING, TRAINER), Point(TRAINING, ADAPTATION), Point(UNPLUGGED, FUSION),
          Point(HANDED, ADAPTATION), Point(READING, FUSION), Point(TRAINING, FUSION))


@dataclass
class Kill:
    """The result of a kill.  seconds: until the process was ready again; before, after: links in use."""

    cycle: int
    point: Point
    before: Mapping[str, str]
    at: float
    pid: int
    seconds: float = 0.
    after: Mapping[str, str] | None = None

    @property
    def good(self) -> bool:
        """Whether the process is back with the same links or newer ones."""
        return self.after is not None and all(self.after.get(name, '') >= version
                                              for name, version in self.before.items() if version)


@dataclass
class EnduranceResult:
    """The result of a whole run.  trouble: why it ended early."""

    cycles: int
    kills: list[Kill]
    seconds: float
    trouble: str = ''


def thorough(cycle: int, cycles: int) -> bool:
    """Whether a cycle trains links instead of only trying them: every fifth cycle and the last."""
    return cycle % EVERY_FIFTH == EVERY_FIFTH - 1 or cycle == cycles - 1


def plan(cycles: int, kills: int) -> list[list[Point]]:
    """Kills by cycle: those during training in cycles that train, the others spread evenly."""
    points = [POINTS[number % len(POINTS)] for number in range(kills)]
    planned: list[list[Point]] = [[] for _ in range(cycles)]
    training = [cycle for cycle in range(cycles) if thorough(cycle, cycles)]
    others = [cycle for cycle in range(cycles) if cycle not in training] or training
    for chosen, places in (([point for point in points if point.phase == TRAINING], training),
                           ([point for point in points if point.phase != TRAINING], others)):
        for number, point in enumerate(chosen):
            planned[places[number * len(places) // len(chosen)]].append(point)
    return planned


class Endurance:
    """Runs nodes and robot through the cycles."""

    def __init__(self, nodes: Nodes, robot: TokenRobot, say: Callable[[str], None]) -> None:
        self.nodes, self.robot, self._say = nodes, robot, say
        self.kills: list[Kill] = []
        self.done = 0
        self._points: list[Point] = []
        self._cycle, self._phase, self._since, self._looked = 0, UNPLUGGED, 0., 0.

    def run(self, cycles: int, questions: int, planned: Sequence[Sequence[Point]]) -> None:
        """Run all cycles.  Raises MpnpError if a condition is not met in time."""
        self.robot.asking = True
        self._until(lambda: self.robot.ledger.answered and self.robot.adaptation, READY, 'the first answer')

        def answered(least: int) -> bool:
            return self.robot.ledger.answered >= least

        for number in range(cycles):
            self._cycle = number
            self._points += planned[number]
            self._plug_in(thorough(number, cycles))
            wanted = questions * (number + 1) // cycles - UNPLUGGED_QUESTIONS
            self._until(partial(answered, wanted), CYCLE, 'enough answers')
            self._plug_out()
            self.done += 1
            self._say(f'cycle {self.done}: {self.robot.ledger.answered} answers, links {self.robot.links}')
        self.robot.asking = False
        self._until(lambda: not self.robot.ledger.waiting, CYCLE, 'the last answers')

    def _plug_in(self, trains: bool) -> None:
        encoder = f'lidar-{self._cycle + 1:04}'
        self.robot.plug_in(encoder, TRAINED if trains else TRIED)
        late = time.monotonic() + LATE

        def rests() -> bool:
            if time.monotonic() > late and not self.robot.reads(encoder):
                self.robot.labels_left = TRAINED  # the tried links were rejected
            return self.robot.rests.get(LIDAR) == encoder

        self._until(rests, CYCLE, f'answers that rest on {encoder}')
        if trains:
            self._until(lambda: self.robot.reads(encoder, trained=True), CYCLE,
                        f'trained links for {encoder}')
        self._until(self._is_calm, CYCLE, 'recovery')

    def _plug_out(self) -> None:
        self.robot.plug_out()
        self._until(lambda: LIDAR not in self.robot.rests, UNPLUGGING, 'answers without a LiDAR')
        wanted = self.robot.ledger.answered + UNPLUGGED_QUESTIONS
        self._until(lambda: self.robot.ledger.answered >= wanted, CYCLE, 'answers without a LiDAR')
        self._until(self._is_calm, CYCLE, 'recovery')

    def _is_calm(self) -> bool:
        """Whether all killed processes are back."""
        return all(kill.after is not None for kill in self.kills)

    def _until(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise MpnpError(f'{what}: not within {timeout:g} s in cycle {self._cycle + 1}')
            self.nodes.poll()
            back = self.robot.tick()
            now = time.monotonic()
            if now - self._looked >= LOOK or back:
                self._looked = now
                self._look(back, now)
            time.sleep(TICK)

    def _look(self, back: bool, now: float) -> None:
        """Follow the phase of the plugged-in LiDAR; kill a process, or wait for a killed one."""
        robot, phase = self.robot, PLUGGED
        if not robot.encoder:
            phase = UNPLUGGED
        elif self.nodes.pid(TRAINER):
            phase = TRAINING if robot.trains else EVALUATING
        elif self.nodes.pid(READER):
            phase = READING
        elif robot.reads(robot.encoder):
            phase = HANDED
        if phase != self._phase:
            self._phase, self._since = phase, now
            self.nodes.note(f'cycle {self._cycle + 1}: {phase}')
        if not self._is_calm():
            self._wait_for_return(self.kills[-1], back, now)
        elif now - self._since >= LASTED[phase]:
            self._kill(phase, now)

    def _kill(self, phase: str, now: float) -> None:
        """Kill the process planned for a phase, if it runs."""
        point = next((point for point in self._points if point.phase == phase), None)
        pid = self.nodes.pid(point.victim) if point else None
        if point is None or pid is None:
            return
        self._points.remove(point)
        self.kills.append(Kill(self._cycle + 1, point, dict(self.robot.states), now, pid))
        self.nodes.note(f'kill -9 of {point.victim} ({pid}) while {phase}')
        if point.victim == FUSION:
            self.robot.ledger.killed(now)
        os.kill(pid, signal.SIGKILL)

    def _wait_for_return(self, kill: Kill, back: bool, now: float) -> None:
        """Record when a killed process is ready again, and its links."""
        victim, told = kill.point.victim, self.robot.adaptation
        again = self.nodes.pid(victim) not in (None, kill.pid)
        if victim == FUSION:
            ready = back
        elif victim == ADAPTATION:
            ready = again and told is not None and told[0] > kill.at + UNDERWAY
        else:
            ready = again or self.robot.reads(self.robot.encoder)
        if ready:
            kill.seconds, kill.after = now - kill.at, dict(self.robot.links)
            self.nodes.note(f'{victim} is back after {kill.seconds:.1f} s with {kill.after}')
        elif now - kill.at > RECOVERY:
            raise MpnpError(f'{victim}, killed while {kill.point.phase}, is not back after {RECOVERY:g} s')


def is_good(outcome: EnduranceResult, robot: TokenRobot, planned: int) -> bool:
    """Whether no question is lost, doubled or torn, and all killed processes came back with their links."""
    return (not outcome.trouble and robot.ledger.good and len(outcome.kills) == planned
            and all(kill.good for kill in outcome.kills))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and print the tables; returns the exit code."""
    parser = program_parser('endurance', __doc__)
    parser.add_argument('--cycles', type=int, default=20)
    parser.add_argument('--questions', type=int, default=1000, help='answered questions over all cycles')
    parser.add_argument('--kills', type=int, default=10)
    parser.add_argument('--json', type=Path, help='also write the results to this JSON file')
    parser.add_argument('--log', type=Path, help='log file of the nodes')
    options = parser.parse_args(arguments)
    isolate(random.SystemRandom().randrange(1, 100))
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix='mpnp-endurance-') as folder:
        log = options.log or Path(folder) / 'nodes.log'
        outcome, robot = run(options, Path(folder), log, lambda line: console.print(line, highlight=False))
        if outcome.trouble and not options.log:
            console.print(''.join(log.read_text().splitlines(keepends=True)[-40:]), markup=False)
    facts = facts_of(outcome, robot)
    for table in tables(facts):
        console.print(table)
    good = is_good(outcome, robot, options.kills)
    console.print('good' if good else f'NOT GOOD {outcome.trouble}', markup=False)
    if options.json:
        options.json.write_text(json.dumps({**facts, 'good': good}, indent=1))
    return 0 if good else 1


def run(options: argparse.Namespace, folder: Path, log: Path,
        say: Callable[[str], None]) -> tuple[EnduranceResult, TokenRobot]:
    """Run nodes and robot through all cycles, or until a condition is not met."""
    started, shipped, trouble = time.monotonic(), shipped_links(), ''
    with ExitStack() as stack:
        node = stack.enter_context(ros_session())
        robot = TokenRobot(node, object_snapshots(), LinkStore(folder / 'state' / 'links'), shipped)
        endurance = Endurance(stack.enter_context(Nodes(folder / 'state', log, shipped)), robot, say)
        try:
            endurance.run(options.cycles, options.questions, plan(options.cycles, options.kills))
        except MpnpError as error:
            trouble = str(error)
        except KeyboardInterrupt:
            trouble = 'interrupted'
    return EnduranceResult(endurance.done, endurance.kills, time.monotonic() - started, trouble), robot


def facts_of(outcome: EnduranceResult, robot: TokenRobot) -> dict[str, Any]:
    """The results as plain data."""
    ledger, latency = robot.ledger, Summary.of(robot.ledger.latencies)
    return {'machine': machine(), 'seconds': outcome.seconds, 'cycles': outcome.cycles,
            'trouble': outcome.trouble, 'asked': ledger.counts['asked'], 'ok': ledger.counts['ok'],
            'rejected': ledger.counts['rejected'], 'failed': ledger.counts['failed'],
            'unheard': ledger.counts['unheard'], 'lost': ledger.lost, 'doubled': ledger.counts['doubled'],
            'torn': ledger.torn, 'p50_ms': latency.p50, 'p95_ms': latency.p95,
            'kills': [{**asdict(kill), 'good': kill.good} for kill in outcome.kills]}


def tables(facts: Mapping[str, Any]) -> list[Table]:
    """The tables of the questions and of the kills."""
    questions = Table(title=f'{facts["cycles"]} cycles in {facts["seconds"]:.0f} s')
    values = {name: str(facts[name]) for name in ('asked', 'ok', 'rejected', 'failed', 'unheard')}
    values |= {'lost': str(len(facts['lost'])), 'doubled': str(facts['doubled']),
               'torn': str(len(facts['torn'])), 'p50 ms': f'{facts["p50_ms"]:.0f}',
               'p95 ms': f'{facts["p95_ms"]:.0f}'}
    for name in values:
        questions.add_column(name, justify='right')
    questions.add_row(*values.values())
    kills = Table('cycle', 'killed', 'while', 'back after', 'links before', 'after', '', title='kill -9')
    for kill in facts['kills']:
        kills.add_row(str(kill['cycle']), kill['point']['victim'], kill['point']['phase'],
                      f'{kill["seconds"]:.1f} s', _named(kill['before']), _named(kill['after'] or {}),
                      'good' if kill['good'] else 'BAD')
    return [questions, kills]


def _named(links: Mapping[str, str]) -> str:
    return ' '.join(f'{name}={version.lstrip("0")}' for name, version in sorted(links.items()) if version)


if __name__ == '__main__':
    sys.exit(main())
