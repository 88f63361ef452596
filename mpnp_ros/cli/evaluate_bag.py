"""Accuracy through the running system: a bag is replayed, and its questions are asked at their key frames."""
from __future__ import annotations

import json
import queue
import sys
import time
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from mpnp_ros.bags.questions import TOPIC, FrameQuestions, read_questions
from mpnp_ros.cli.bag_report import ANSWERED, REFUSED, UNKNOWN, AskedOutcome, BagReport
from mpnp_ros.cli.exchanges import Exchange
from mpnp_ros.cli.interruption import CANCELLED, interruptible
from mpnp_ros.cli.logged_processes import LoggedProcesses, own_domain
from mpnp_ros.cli.node_parameters import NodeParameters
from mpnp_ros.cli.node_processes import (
    OVERLAYS,
    Placement,
    default_modalities,
    node_process,
    source_files,
    system_processes,
    waiting,
)
from mpnp_ros.cli.session import connected
from mpnp_ros.errors import ConfigurationError, NotAnsweringError, RequestError
from mpnp_ros.files import cache_root
from mpnp_ros.node_names import ADAPTATION, FUSION, REPLAY, WORLD, encoder_nodes
from mpnp_ros.progress import progress
from mpnp_ros.questions.balance import Chooser, Majority

if TYPE_CHECKING:
    from mpnp_ros.client.robot import Robot
    from mpnp_ros.questions.generator import LabelledQuestion

ANSWER_TIMEOUT, SETTLING = 60., 5.
"""Seconds for an answer, and for the fusion node to have the tokens that have been published."""
FIRST_TOKENS, TOKENS = 60., 20.
"""Seconds for the tokens of the first key frame, when encoders warm up, and of any other."""
WINDOW_NS = 250_000_000
"""Nanoseconds between a key frame and the sensors that an answer about it rests on, at most."""
TRIES = 2
"""Times that the bag is played for a key frame whose tokens have not come."""
LOOP_PERIOD = 2.
"""Seconds of bag time between two beginnings, at least, for a bag of one key frame."""
DISCOVERY = 10.
"""Seconds within which a running encoder node has to appear in the graph."""
MOST_SILENT = 3
"""Questions in a row without any answer after which the system counts as gone."""


def evaluate_bag(arguments: Namespace) -> int:
    """Replay, ask, print; exit code 0, 130 after Ctrl-C.

    What was measured so far is printed in any case, also where a node has ended.
    """
    frames = read_questions(arguments.bag)
    majority = Majority({}, Majority.of(one for frame in frames for one in frame.questions).by_type)
    frames = [_chosen(frame, majority, arguments.per_frame) for frame in frames]
    report = BagReport(str(arguments.bag), len(frames), sum(len(frame.questions) for frame in frames))
    if not arguments.running:
        own_domain()
    with interruptible() as cancelled:
        try:
            with _system(arguments, cancelled) as asker, \
                    progress('evaluate', 'question', arguments.quiet) as show:
                asker.ask_all(frames, majority, report, show)
                if arguments.blind:
                    asker.ask_blind(frames, report)
        except _Cancelled:
            pass
        finally:
            if report.outcomes or cancelled():
                print(json.dumps(report.as_dict(), indent=1) if arguments.json else report.text(),
                      flush=True)
        return CANCELLED if cancelled() else 0


@contextmanager
def _system(arguments: Namespace, cancelled: Callable[[], bool]) -> Iterator[BagAsker]:
    """Yield what asks the system, whose bag is about to be played."""
    with ExitStack() as stack:
        robot = stack.enter_context(connected('evaluate', arguments.namespace, arguments.timeout))
        processes = LoggedProcesses(cache_root() / 'evaluate' / 'nodes.log')
        modalities = _running_encoders(robot) if arguments.running else \
            arguments.modalities or default_modalities()
        asker = BagAsker(robot, modalities, processes.check, cancelled, arguments.timeout)
        placement = Placement(arguments.namespace, arguments.params_file)
        wanted = waiting(modalities)
        replay = {**wanted, 'wait_for': [*wanted['wait_for'], TOPIC], 'wait_timeout': arguments.timeout,
                  'bag': arguments.bag, 'rate': arguments.rate, 'loop': True, 'loop_period': LOOP_PERIOD,
                  'restamp': True}
        if arguments.running:
            files = [*source_files(OVERLAYS[REPLAY]), *arguments.params_file]
            specs = [node_process(REPLAY, Placement(arguments.namespace, files), replay)]
        else:
            specs = system_processes(modalities, placement, replay, adaptation=False)
        stack.enter_context(processes.run(specs))
        yield asker


def _running_encoders(robot: Robot) -> list[str]:
    """Return the modalities whose encoder nodes run beside a fusion node; what else is told on stderr."""
    robot.modalities()
    robot.reports.wait()
    end = time.monotonic() + DISCOVERY
    encoders = encoder_nodes()
    while not set(encoders.values()) & set(running := robot.reports.running()) and time.monotonic() < end:
        time.sleep(.1)
    if sources := sorted({REPLAY, WORLD} & set(running)):
        raise ConfigurationError(f'the node {sources[0]} runs; end it, as this command plays the bag')
    if ADAPTATION in running:
        print(f'mpnp evaluate: the adaptation node runs: it hears the true answers on {TOPIC} and may learn '
              'them', file=sys.stderr)
    found = [modality for modality, node in encoders.items() if node in running]
    if not found:
        raise ConfigurationError('no encoder node runs beside the fusion node; start both with `mpnp bringup '
                                 '--use-sim-time`')
    return found


def _chosen(frame: FrameQuestions, majority: Majority, most: int) -> FrameQuestions:
    """Return the questions of a key frame that are asked; most: 0: all."""
    if not most:
        return frame
    chosen = Chooser(majority).choose(frame.questions, most)
    places = [frame.questions.index(one) for one in chosen]
    return FrameQuestions(frame.sample_token, tuple(chosen), tuple(frame.choices[place] for place in places))


class _Cancelled(Exception):
    """The user has pressed Ctrl-C."""


class BagAsker:
    """Asks a system whose bag is played in a loop; at a key frame it pauses until its questions are answered.

    modalities: whose encoders run.  check: raises NotAnsweringError where a node has ended.
    """

    def __init__(self, robot: Robot, modalities: Sequence[str], check: Callable[[], None],
                 cancelled: Callable[[], bool], timeout: float) -> None:
        from rclpy.qos import QoSProfile, ReliabilityPolicy

        from mpnp_ros.msg import LabelledQuestions, ModalityTokens

        self._robot, self._modalities, self._timeout = robot, list(modalities), timeout
        self._check_nodes, self._cancelled = check, cancelled
        self._replay = NodeParameters(robot.node, REPLAY, self._wait)
        self._left: dict[str, int] = {}
        self._moments: queue.Queue[tuple[str, int]] = queue.Queue()
        self._tokens: dict[str, deque[int]] = {name: deque(maxlen=8) for name in modalities}
        self._silent = 0
        sensor = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        robot.node.create_subscription(LabelledQuestions, TOPIC, self._note_moment, 10)
        for name in modalities:
            robot.node.create_subscription(ModalityTokens, f'tokens/{name}',
                                           partial(self._note_tokens, name), sensor)

    def ask_all(self, frames: Sequence[FrameQuestions], majority: Majority, report: BagReport,
                show: Callable[[int, int, str], None]) -> None:
        """Ask all questions, each at its key frame; the report grows.

        Key frames whose tokens do not come are tried once more when the bag is played again.
        """
        waiting_for = {frame.sample_token: frame for frame in frames}
        self._left = dict.fromkeys(waiting_for, TRIES)
        show(0, report.questions, 'the nodes start')
        while self._left:
            token, stamp = self._next_moment()
            if token not in self._left:
                continue
            self._replay.set('paused', True)
            missing = self._missing(stamp, first=not report.outcomes)
            self._left[token] -= 1
            if missing and self._left[token]:
                self._replay.set('paused', False)
                continue
            del self._left[token]
            report.frames += 1
            frame = waiting_for[token]
            for place, (question, choices) in enumerate(zip(frame.questions, frame.choices, strict=True)):
                guess = majority.guess(question)
                why = f'no tokens of {" and ".join(missing)} at the key frame'
                report.add(AskedOutcome.lost(question, guess, why) if missing else
                           self._outcome(question, choices, guess, stamp, first=not place))
                show(len(report.outcomes), report.questions, report.progress())
            if self._left:
                self._replay.set('paused', False)

    def ask_blind(self, frames: Sequence[FrameQuestions], report: BagReport) -> None:
        """Ask every wording once more with all modalities unplugged, and put things back."""
        fusion = NodeParameters(self._robot.node, FUSION)
        before, states = fusion.get('answer_without_sensors'), self._robot.modalities()
        fusion.set('answer_without_sensors', True)
        try:
            for name in states:
                self._robot.unplug(name)
            for frame in frames:
                for question, choices in zip(frame.questions, frame.choices, strict=True):
                    self._check()
                    if question.text not in report.blind:
                        report.blind[question.text] = self._answer(question.text, choices).text
        finally:
            for name, state in states.items():
                if not state.pinned:
                    self._robot.release(name)
                elif state.plugged:
                    self._robot.plug(name)
            fusion.set('answer_without_sensors', before)

    def _outcome(self, question: LabelledQuestion, choices: Sequence[str], guess: str, stamp: int,
                 first: bool) -> AskedOutcome:
        """Ask until the answer rests on the key frame.

        first: of a key frame: the fusion node may not have its tokens yet, and say that there are none.
        """
        from mpnp_ros.msg import Answer

        end = time.monotonic() + SETTLING
        while True:
            self._check()
            asked = time.monotonic()
            try:
                answer = self._answer(question.text, choices)
            except NotAnsweringError as error:
                self._silent += 1
                self._check()
                if self._silent >= MOST_SILENT:
                    raise
                return AskedOutcome.lost(question, guess, str(error))
            latency, self._silent = time.monotonic() - asked, 0
            late = asked > end
            if answer.status in (Answer.OK, Answer.UNKNOWN):
                if all(abs(_nanoseconds(one) - stamp) <= WINDOW_NS for one in answer.modality_stamps):
                    kind = ANSWERED if answer.status == Answer.OK else UNKNOWN
                    return AskedOutcome(Exchange.of(question, guess, answer), kind, '', latency)
                if late:
                    return AskedOutcome.lost(question, guess, 'the answer rests on another moment')
            elif late or not first:
                return AskedOutcome(Exchange.of(question, guess, answer), REFUSED, answer.error, latency)
            time.sleep(.05)

    def _answer(self, text: str, choices: Sequence[str]) -> Any:
        """Return the Answer message, also where the question was rejected or has failed."""
        try:
            return self._robot.ask(text, choices, timeout=ANSWER_TIMEOUT)
        except RequestError as error:
            return error.response

    def _next_moment(self) -> tuple[str, int]:
        """Wait for the next key frame that is left, and return its token and its stamp."""
        self._wait(lambda: not self._moments.empty(), self._timeout,
                   f'no questions came on {TOPIC} within {self._timeout:g} s')
        return self._moments.get()

    def _missing(self, stamp: int, first: bool) -> list[str]:
        """Wait for tokens of a moment, and return the modalities of which none have come.

        first: of the first key frame: those of which there are none are not waited for any more.
        """
        end = time.monotonic() + (FIRST_TOKENS if first else TOKENS)
        while True:
            self._check()
            missing = [name for name in self._modalities
                       if not any(abs(one - stamp) <= WINDOW_NS for one in list(self._tokens[name]))]
            if not missing:
                return []
            if time.monotonic() > end:
                break
            time.sleep(.02)
        silent = [name for name in missing if not self._tokens[name]]
        if first and 0 < len(silent) < len(self._modalities):
            print(f'mpnp evaluate: no tokens of {" and ".join(silent)} come; answers rest on the others',
                  file=sys.stderr, flush=True)
            self._modalities = [name for name in self._modalities if name not in silent]
            missing = [name for name in missing if name not in silent]
        return missing

    def _note_moment(self, message: Any) -> None:
        if message.sample_token in self._left:
            self._moments.put((message.sample_token, _nanoseconds(message.header.stamp)))

    def _note_tokens(self, name: str, message: Any) -> None:
        self._tokens[name].append(_nanoseconds(message.header.stamp))

    def _check(self) -> None:
        if self._cancelled():
            raise _Cancelled
        self._check_nodes()

    def _wait(self, condition: Callable[[], Any], timeout: float, otherwise: str) -> None:
        end = time.monotonic() + timeout
        while not condition():
            self._check()
            if time.monotonic() > end:
                raise NotAnsweringError(otherwise)
            time.sleep(.005)


def _nanoseconds(stamp: Any) -> int:
    return stamp.sec * 10 ** 9 + stamp.nanosec
