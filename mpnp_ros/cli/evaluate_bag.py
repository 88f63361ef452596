"""Accuracy of a running system: replay a bag and ask its questions at their key frames."""
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
from mpnp_ros.cli.exchanges import ANSWERED, REFUSED, UNKNOWN, AskedOutcome, BagReport, Exchange
from mpnp_ros.cli.node_processes import (
    OVERLAYS,
    LoggedProcesses,
    Placement,
    default_modalities,
    node_process,
    own_domain,
    source_files,
    system_processes,
    waiting,
)
from mpnp_ros.cli.session import NodeParameters, connected
from mpnp_ros.cli.signals import CANCELLED, interruptible
from mpnp_ros.errors import ConfigurationError, NotAnsweringError, RequestError
from mpnp_ros.files import cache_root
from mpnp_ros.node_names import ADAPTATION, FUSION, REPLAY, WORLD, encoder_nodes
from mpnp_ros.progress import progress
from mpnp_ros.questions.balance import Chooser, Majority

if TYPE_CHECKING:
    from mpnp_ros.client.robot import Robot
    from mpnp_ros.questions.generator import LabelledQuestion

ANSWER_TIMEOUT, SETTLING = 60., 5.
"""Seconds to wait for an answer, and for published tokens to reach the fusion node."""
FIRST_TOKENS, TOKENS = 60., 20.
"""Seconds to wait for the tokens of the first key frame, when encoders warm up, and of any other."""
WINDOW_NS = 250_000_000
"""Maximum nanoseconds between a key frame and the sensors that an answer about it rests on."""
TRIES = 2
"""Number of replays for a key frame without tokens."""
LOOP_PERIOD = 2.
"""Minimum seconds of bag time between two starts of the bag, for a bag of one key frame."""
DISCOVERY = 10.
"""Seconds within which a running encoder node must appear in the graph."""
MAX_SILENT = 3
"""Number of consecutive questions without an answer after which the system counts as gone."""


def evaluate_bag(arguments: Namespace) -> int:
    """Replay the bag, ask and print the report; exit code 0, 130 after Ctrl-C.

    The results so far are printed in any case, also if a node has ended.
    """
    frames = read_questions(arguments.bag)
    majority = Majority({}, Majority.of(question for frame in frames for question in frame.questions).by_type)
    if arguments.per_frame:
        frames = [some_of(frame, majority, arguments.per_frame) for frame in frames]
    report = BagReport(str(arguments.bag), len(frames), sum(len(frame.questions) for frame in frames))
    if not arguments.running:
        own_domain()
    with interruptible() as cancelled:
        try:
            with asked_system(arguments, cancelled) as asker, \
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


def some_of(frame: FrameQuestions, majority: Majority, most: int) -> FrameQuestions:
    """Return at most some questions of a key frame, spread over types and answers."""
    chosen = Chooser(majority).choose(frame.questions, most)
    choices = [frame.choices[frame.questions.index(question)] for question in chosen]
    return FrameQuestions(frame.sample_token, tuple(chosen), tuple(choices))


@contextmanager
def asked_system(arguments: Namespace, cancelled: Callable[[], bool]) -> Iterator[BagAsker]:
    """Start the nodes, or only the replay of the bag, and yield the object that asks."""
    with ExitStack() as stack:
        robot = stack.enter_context(connected('evaluate', arguments.namespace, arguments.timeout))
        processes = LoggedProcesses(cache_root() / 'evaluate' / 'nodes.log')
        modalities = running_encoders(robot) if arguments.running else \
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


def running_encoders(robot: Robot) -> list[str]:
    """Return the modalities whose encoder nodes run beside a fusion node.

    Raises ConfigurationError if there are none, or if another node plays a bag or the world.
    """
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


class _Cancelled(Exception):
    """The user has pressed Ctrl-C."""


class BagAsker:
    """Asks a system while a bag is played in a loop; pauses at a key frame until its questions are answered.

    modalities: of the running encoders.  check: raises NotAnsweringError if a node has ended.
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

        def note_moment(message: Any) -> None:
            if message.sample_token in self._left:
                self._moments.put((message.sample_token, _nanoseconds(message.header.stamp)))

        def note_tokens(stamps: deque[int], message: Any) -> None:
            stamps.append(_nanoseconds(message.header.stamp))

        robot.node.create_subscription(LabelledQuestions, TOPIC, note_moment, 10)
        for name, stamps in self._tokens.items():
            robot.node.create_subscription(
                ModalityTokens, f'tokens/{name}', partial(note_tokens, stamps), sensor)

    def ask_all(self, frames: Sequence[FrameQuestions], majority: Majority, report: BagReport,
                show: Callable[[int, int, str], None]) -> None:
        """Ask all questions, each at its key frame; the report grows.

        Key frames whose tokens do not come are tried once more when the bag is played again.
        """
        waiting_for = {frame.sample_token: frame for frame in frames}
        self._left = dict.fromkeys(waiting_for, TRIES)
        show(0, report.questions, 'the nodes start')
        while self._left:
            self._wait(lambda: not self._moments.empty(), self._timeout,
                       f'no questions came on {TOPIC} within {self._timeout:g} s')
            token, stamp = self._moments.get()
            if token not in self._left:
                continue
            self._replay.set('paused', True)
            self._left[token] -= 1
            missing, why = self._missing(stamp, first=not report.outcomes), 'at the key frame'
            if not missing and (missing := self._unheard(last=not self._left[token])):
                why = 'have reached the fusion node; see its diagnostics'
            if missing and self._left[token]:
                self._replay.set('paused', False)
                continue
            del self._left[token]
            report.frames += 1
            frame, why = waiting_for[token], f'no tokens of {" and ".join(missing)} {why}'
            for place, (question, choices) in enumerate(zip(frame.questions, frame.choices, strict=True)):
                guess = majority.guess(question)
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

        first: of the key frame; the fusion node may not have its tokens yet and refuse.
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
                if self._silent >= MAX_SILENT:
                    raise
                return AskedOutcome.lost(question, guess, str(error))
            latency, self._silent = time.monotonic() - asked, 0
            late = asked > end
            if answer.status in (Answer.OK, Answer.UNKNOWN):
                if all(abs(_nanoseconds(seen) - stamp) <= WINDOW_NS for seen in answer.modality_stamps):
                    kind = ANSWERED if answer.status == Answer.OK else UNKNOWN
                    return AskedOutcome(Exchange.of(question, guess, answer), kind, '', latency)
                if late:
                    return AskedOutcome.lost(question, guess, 'the answer rests on another moment')
            elif late or not first:
                return AskedOutcome(Exchange.of(question, guess, answer), REFUSED, answer.error, latency)
            time.sleep(.05)

    def _answer(self, text: str, choices: Sequence[str]) -> Any:
        """Return the Answer message, also of a question that was rejected or failed."""
        try:
            return self._robot.ask(text, choices, timeout=ANSWER_TIMEOUT)
        except RequestError as error:
            return error.response

    def _missing(self, stamp: int, first: bool) -> list[str]:
        """Wait for the tokens of a moment and return the modalities without any.

        first: whether it is the first key frame; later ones do not wait for silent modalities.
        """
        end = time.monotonic() + (FIRST_TOKENS if first else TOKENS)
        while True:
            self._check()
            missing = [name for name in self._modalities
                       if not any(abs(seen - stamp) <= WINDOW_NS for seen in list(self._tokens[name]))]
            if not missing:
                return []
            if time.monotonic() > end:
                break
            time.sleep(.02)
        silent = [name for name in missing if not self._tokens[name]]
        if first and 0 < len(silent) < len(self._modalities):
            self._leave_out(silent, 'come')
            missing = [name for name in missing if name not in silent]
        return missing

    def _unheard(self, last: bool) -> list[str]:
        """Wait until the fusion node has had tokens of every modality; return those of which it has had none.

        It may be connected to an encoder later than this command, and miss the tokens of the first moments.
        last: whether the key frame is not tried again; if others are heard, it goes on with these.
        """
        end = time.monotonic() + SETTLING
        while True:
            self._check()
            states = self._robot.modalities()
            unheard = [name for name in self._modalities if name in states and not states[name].encoder]
            if not unheard:
                return []
            if time.monotonic() > end:
                break
            time.sleep(.02)
        if last and len(unheard) < len(self._modalities):
            self._leave_out(unheard, 'reach the fusion node')
            return []
        return unheard

    def _leave_out(self, names: Sequence[str], what: str) -> None:
        """Do not wait for some modalities any longer, and say so; what: the tokens do not do."""
        print(f'mpnp evaluate: no tokens of {" and ".join(names)} {what}; answers rest on the others',
              file=sys.stderr, flush=True)
        self._modalities = [name for name in self._modalities if name not in names]

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
