"""Ask the fusion node a question and watch the answer come.

With --choices yes no the answer is one of these; with --standing the question is answered again on every new
frame until Ctrl-C.  Exit code 0: answered. 1: rejected or failed. 2: not running. 3: no sensor can be used.
4: what the sensors tell does not answer it.
"""
from __future__ import annotations

import contextlib
import json
import math
import queue
import sys
import time
import uuid
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli.node_processes import FUSION
from mpnp_ros.cli.node_reports import NodeReports
from mpnp_ros.cli.session import NotAnsweringError, add_namespace, ros_session, wait_for
from mpnp_ros.cli.values import count, not_negative, positive
from mpnp_ros.serving.coverage import DIRECTIONS

if TYPE_CHECKING:
    from rclpy.node import Node

OK, REJECTED, NO_SENSOR, UNKNOWN = 0, 1, 3, 4
EXIT_CODES = {OK: 0, NO_SENSOR: 3, UNKNOWN: 4}
QUEUE = 100
LEASE, RENEWAL = 10., 3.
"""Seconds that a standing question outlives its asker, and between two renewals of it."""
GONE_AFTER = 10.
"""Seconds without a sign of life from the fusion node after which it has gone."""
AGAIN, REPORT = .5, 5.
"""Seconds until a question is asked again, and within which a node that has answered reports on itself."""
PATIENCE = 3.
"""Seconds of silence after which it is said that the fusion node is waited for, and why."""
MEETING, RESPONSE, POLL = .2, 5., .02
"""Seconds for the fusion node to discover this process, within which it accepts a goal, and between looks."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('question', help='what to ask')
    parser.add_argument('--choices', nargs='+', default=[], metavar='ANSWER',
                        help='closed list of answers (default: the answer is generated)')
    parser.add_argument('--standing', action='store_true', help='answer on every new frame, until Ctrl-C')
    parser.add_argument('--period', type=not_negative, default=0., metavar='S',
                        help='shortest time between two standing answers (default: every frame)')
    parser.add_argument('--max-new-tokens', type=count, default=0, metavar='N',
                        help='length of a generated answer (default: as the node is set)')
    parser.add_argument('--timeout', type=positive, default=60., metavar='S',
                        help='seconds to wait for the node and for an answer (default: %(default)s)')
    parser.add_argument('-v', '--verbose', action='store_true', help='say what was counted, by which sensor')
    parser.add_argument('--json', action='store_true', help='one JSON object per answer')
    add_namespace(parser)


def run(arguments: Namespace) -> int:
    """Print the answer; exit code 0, 1 where the node rejected the question or failed, 3 without a sensor."""
    with ros_session(arguments.namespace) as node:
        reports = NodeReports(node)
        if arguments.standing:
            return follow(node, arguments, reports)
        printer = StreamPrinter()
        answer = ask_patiently(node, arguments, reports, None if arguments.json else printer.update)
    show(answer, arguments.json, printer, arguments.verbose)
    return EXIT_CODES.get(answer.status, 1)


def ask_patiently(node: Node, arguments: Namespace, reports: NodeReports,
                  progress: Callable[[str], None] | None) -> Any:
    """Return the Answer message of one question; while the fusion node is starting, ask again."""
    from rclpy.action import ActionClient

    from mpnp_ros.action import Ask

    client = ActionClient(node, Ask, 'ask_stream')
    end, told = time.monotonic() + arguments.timeout, False
    while True:
        answer = ask_once(client, arguments, reports, progress)
        if answer.status != REJECTED or time.monotonic() > end:
            return answer
        with contextlib.suppress(NotAnsweringError):
            wait_for(lambda: reports[FUSION], REPORT, '')
        if not reports.is_starting(FUSION):
            return answer
        if not told:
            print(f'mpnp ask: the fusion node is starting: {reports[FUSION].state}; waiting', file=sys.stderr,
                  flush=True)
            told = True
        time.sleep(AGAIN)


def ask_once(client: Any, arguments: Namespace, reports: NodeReports,
             progress: Callable[[str], None] | None) -> Any:
    """Return the Answer message of one question; Ctrl-C cancels it.

    client: of the action ``ask_stream``.  progress: gets the text so far.
    Raises NotAnsweringError where the fusion node is not there, goes, or takes longer than the time-out.
    """
    from mpnp_ros.action import Ask

    meet(client.server_is_ready, arguments.timeout, reports)
    late = f'no answer within {arguments.timeout:g} s; allow more with --timeout'
    watch, goal, end = Watch(client, reports), None, time.monotonic() + arguments.timeout
    while goal is None:  # a server that has not discovered this client yet drops its response
        time.sleep(MEETING)
        sending = client.send_goal_async(
            Ask.Goal(question=_question(arguments), max_new_tokens=arguments.max_new_tokens),
            feedback_callback=progress and (lambda message: progress(message.feedback.text)))
        again = min(end, time.monotonic() + RESPONSE)
        while goal is None and time.monotonic() < again:
            watch.check()
            goal = sending.result() if sending.done() else time.sleep(POLL)
        if goal is None and time.monotonic() >= end:
            raise NotAnsweringError(late)
    if not goal.accepted:
        raise NotAnsweringError('the fusion node did not accept the question; see `mpnp status`')
    result = goal.get_result_async()
    try:
        return wait_for(lambda: watch.check() or result.done() and result.result(), arguments.timeout,
                        late).result.answer
    except (KeyboardInterrupt, NotAnsweringError):
        goal.cancel_goal_async()
        raise


def meet(is_there: Callable[[], object], timeout: float, reports: NodeReports) -> None:
    """Wait for the fusion node, and say so where that takes long; NotAnsweringError after ``timeout`` s."""
    end = time.monotonic() + timeout
    with contextlib.suppress(NotAnsweringError):
        wait_for(is_there, min(PATIENCE, timeout), '')
        return
    if (left := end - time.monotonic()) > 1:
        print(f'mpnp ask: {reports.why_absent()}; waiting for {left:.0f} s', file=sys.stderr, flush=True)
    wait_for(is_there, end - time.monotonic(), reports.why_absent)


class Watch:
    """Notices where the fusion node has gone while it was answering."""

    def __init__(self, client: Any, reports: NodeReports) -> None:
        self._client, self._reports = client, reports
        self._seen = time.monotonic()

    def check(self) -> None:
        """Look once; raises NotAnsweringError where the server, or every sign of life, has been gone."""
        now = time.monotonic()
        if self._client.server_is_ready() and self._reports.silence(FUSION) < GONE_AFTER:
            self._seen = now
        elif now - self._seen > 1:
            raise NotAnsweringError('the fusion node has gone before it answered; see its log and ask again')


def follow(node: Node, arguments: Namespace, reports: NodeReports) -> int:
    """Print every answer to a standing question until Ctrl-C, then withdraw the question.

    The question is sent again and again: its lease ends soon after this process, however that ends.
    """
    from mpnp_ros.msg import Answer, Question

    identity = f'mpnp-{uuid.uuid4().hex[:8]}'
    answers: queue.Queue[Any] = queue.Queue(QUEUE)
    node.create_subscription(Answer, 'answer', lambda answer: _keep(answers, answer, identity), QUEUE)
    publisher = node.create_publisher(Question, 'question', 10)
    meet(publisher.get_subscription_count, arguments.timeout, reports)
    question = _question(arguments, identity)
    publisher.publish(question)
    node.create_timer(RENEWAL, lambda: publisher.publish(question))
    try:
        while True:
            answer = _next(answers, arguments.timeout)
            show(answer, arguments.json, verbose=arguments.verbose)
            if answer.status not in (OK, NO_SENSOR, UNKNOWN):
                return 1
    finally:
        publisher.publish(Question(id=identity, standing=True))  # its text is empty: withdrawn
        publisher.wait_for_all_acked(_seconds(1))


class StreamPrinter:
    """Prints what has been added to a text that grows."""

    def __init__(self) -> None:
        self._shown = ''

    def update(self, text: str) -> None:
        """Show ``text``: the rest of it where it continues what is shown, else on a line of its own."""
        if not text.startswith(self._shown):
            self._shown = ''
            print()
        print(text[len(self._shown):], end='', flush=True)
        self._shown = text


def show(answer: Any, as_json: bool, printer: StreamPrinter | None = None, verbose: bool = False) -> None:
    """Print an answer: as JSON, or what is left of its text and a line that says what it rests on.

    verbose: lines that say what was counted for it, too.
    """
    if as_json:
        print(json.dumps(as_dict(answer)), flush=True)
    elif answer.status != OK:
        print(f'mpnp ask: {answer.error}', file=sys.stderr, flush=True)
        if answer.status == NO_SENSOR and answer.text:
            print(f'  the question alone suggests: {answer.text}', flush=True)
    else:
        (printer or StreamPrinter()).update(answer.text)
        print(f'\n  {describe(answer)}', flush=True)
    if verbose and not as_json:
        for counted in answer.counted:
            print(f'  counted {describe_counted(counted)}', flush=True)


def describe(answer: Any) -> str:
    """Confidence, sensors with their ages, and latency in one line; what lowers its worth below."""
    ages = [f'{name} ({age:.2f} s old)' if math.isfinite(age) else f'{name} (age unknown)'
            for name, age in zip(answer.used_modalities, answer.modality_ages, strict=False)]
    rests = ', '.join(ages) or 'no sensor'
    missing = f'; missing {", ".join(answer.missing_modalities)}' if answer.missing_modalities else ''
    lines = [f'confidence {answer.confidence:.2f}, rests on {rests}{missing}, took {answer.latency:.2f} s']
    return '\n  '.join([*lines, *(f'but {concern}' for concern in answer.concerns)])


def describe_counted(counted: Any) -> str:
    """Say what was counted, where and by what, in one line."""
    where = counted.direction or 'all around'
    if where in DIRECTIONS:
        where = f'to the {where}'
    reach = f' within {counted.reach:g} m' if math.isfinite(counted.reach) else ''
    by = counted.modality or 'all sensors together'
    return (f'{counted.expected:.1f} of {counted.sort} {where}{reach} by {by} (none: {counted.none:.0%}; '
            f'seen: {counted.covered:.0%})')


def as_dict(answer: Any) -> dict[str, object]:
    """Return an Answer as plain data; times in seconds, numbers that JSON has not as None."""
    def seconds(stamp: Any) -> float:
        return stamp.sec + stamp.nanosec * 1e-9

    names = list(answer.used_modalities)
    probabilities = dict(zip(answer.choices, map(float, answer.probabilities), strict=False))
    return {
        'id': answer.id, 'question': answer.question, 'status': answer.status, 'error': answer.error,
        'text': answer.text, 'confidence': _finite(answer.confidence), 'probabilities': probabilities,
        'used_modalities': {name: {'stamp': seconds(stamp), 'age': _finite(age)} for name, stamp, age in
                            zip(names, answer.modality_stamps, answer.modality_ages, strict=False)},
        'missing_modalities': list(answer.missing_modalities), 'concerns': list(answer.concerns),
        'counted': [{'modality': one.modality, 'direction': one.direction, 'reach': _finite(one.reach),
                     'sort': one.sort, 'expected': _finite(one.expected), 'none': _finite(one.none),
                     'covered': _finite(one.covered)} for one in answer.counted],
        'stamp': seconds(answer.header.stamp),
        'links_version': answer.links_version, 'method': answer.method,
        'latency': _finite(answer.latency), 'compute_duration': _finite(answer.compute_duration)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _question(arguments: Namespace, identity: str = '') -> Any:
    from mpnp_ros.msg import Question

    return Question(id=identity, text=arguments.question, choices=arguments.choices,
                    standing=arguments.standing, period=arguments.period,
                    lease=LEASE if arguments.standing else 0.)


def _keep(answers: queue.Queue[Any], answer: Any, identity: str) -> None:
    if answer.id == identity and not answers.full():
        answers.put(answer)


def _next(answers: queue.Queue[Any], timeout: float) -> Any:
    late = f'no answer within {timeout:g} s: no sensor may be sending; `mpnp status` shows them'
    return wait_for(lambda: not answers.empty() and answers.get(), timeout, late)


def _seconds(seconds: float) -> Any:
    from rclpy.duration import Duration

    return Duration(seconds=seconds)

