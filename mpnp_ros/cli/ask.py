"""Ask the fusion node a question and watch the answer come.

An answer of your own choosing comes with --choices yes no; with --standing the question is answered again
on every new frame until Ctrl-C.
"""
from __future__ import annotations

import json
import math
import queue
import sys
import uuid
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli.session import NotAnsweringError, add_namespace, ros_session, wait_for

if TYPE_CHECKING:
    from rclpy.node import Node

OK = 0
QUEUE = 100


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('question', help='what to ask')
    parser.add_argument('--choices', nargs='+', default=[], metavar='ANSWER',
                        help='closed list of answers (default: the answer is generated)')
    parser.add_argument('--standing', action='store_true', help='answer on every new frame, until Ctrl-C')
    parser.add_argument('--period', type=float, default=0., metavar='S',
                        help='shortest time between two standing answers (default: every frame)')
    parser.add_argument('--max-new-tokens', type=int, default=0, metavar='N',
                        help='length of a generated answer (default: as the node is set)')
    parser.add_argument('--timeout', type=float, default=60., metavar='S',
                        help='seconds to wait for the node and for an answer (default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='one JSON object per answer')
    add_namespace(parser)


def run(arguments: Namespace) -> int:
    """Print the answer; exit code 0, or 1 where the node rejected the question or failed."""
    with ros_session(arguments.namespace) as node:
        if arguments.standing:
            return follow(node, arguments)
        printer = StreamPrinter()
        answer = ask_once(node, arguments, None if arguments.json else printer.update)
    show(answer, arguments.json, printer)
    return 0 if answer.status == OK else 1


def ask_once(node: Node, arguments: Namespace, progress: Callable[[str], None] | None) -> Any:
    """Return the Answer message of one question; Ctrl-C cancels it. progress: gets the text so far."""
    from rclpy.action import ActionClient

    from mpnp_ros.action import Ask

    client = ActionClient(node, Ask, 'ask_stream')
    try:
        wait_for(client.server_is_ready, arguments.timeout, _nobody(node, 'ask_stream'))
        sending = client.send_goal_async(
            Ask.Goal(question=_question(arguments), max_new_tokens=arguments.max_new_tokens),
            feedback_callback=progress and (lambda message: progress(message.feedback.text)))
        late = f'no answer within {arguments.timeout:g} s; allow more with --timeout'
        goal = wait_for(lambda: sending.done() and sending.result(), arguments.timeout, late)
        if not goal.accepted:
            raise NotAnsweringError('the fusion node did not accept the question; see `mpnp status`')
        result = goal.get_result_async()
        try:
            return wait_for(lambda: result.done() and result.result(), arguments.timeout, late).result.answer
        except (KeyboardInterrupt, NotAnsweringError):
            goal.cancel_goal_async()
            raise
    finally:
        client.destroy()


def follow(node: Node, arguments: Namespace) -> int:
    """Print every answer to a standing question until Ctrl-C, then withdraw the question."""
    from mpnp_ros.msg import Answer, Question

    identity = f'mpnp-{uuid.uuid4().hex[:8]}'
    answers: queue.Queue[Any] = queue.Queue(QUEUE)
    node.create_subscription(Answer, 'answer', lambda answer: _keep(answers, answer, identity), QUEUE)
    publisher = node.create_publisher(Question, 'question', 10)
    wait_for(publisher.get_subscription_count, arguments.timeout, _nobody(node, 'question'))
    publisher.publish(_question(arguments, identity))
    try:
        while True:
            answer = _next(answers, arguments.timeout)
            show(answer, arguments.json)
            if answer.status != OK:
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


def show(answer: Any, as_json: bool, printer: StreamPrinter | None = None) -> None:
    """Print an answer: as JSON, or what is left of its text and a line that says what it rests on."""
    if as_json:
        print(json.dumps(as_dict(answer)), flush=True)
    elif answer.status != OK:
        print(f'mpnp ask: {answer.error}', file=sys.stderr)
    else:
        (printer or StreamPrinter()).update(answer.text)
        print(f'\n  {describe(answer)}', flush=True)


def describe(answer: Any) -> str:
    """Confidence, sensors with their ages, and latency in one line."""
    ages = [f'{name} ({age:.2f} s old)' for name, age in zip(answer.used_modalities, answer.modality_ages,
                                                            strict=False)]
    rests = ', '.join(ages) or 'no sensor'
    missing = f'; missing {", ".join(answer.missing_modalities)}' if answer.missing_modalities else ''
    return f'confidence {answer.confidence:.2f}, rests on {rests}{missing}, took {answer.latency:.2f} s'


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
        'missing_modalities': list(answer.missing_modalities), 'stamp': seconds(answer.header.stamp),
        'links_version': answer.links_version, 'method': answer.method,
        'latency': _finite(answer.latency), 'compute_duration': _finite(answer.compute_duration)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _question(arguments: Namespace, identity: str = '') -> Any:
    from mpnp_ros.msg import Question

    return Question(id=identity, text=arguments.question, choices=arguments.choices,
                    standing=arguments.standing, period=arguments.period)


def _keep(answers: queue.Queue[Any], answer: Any, identity: str) -> None:
    if answer.id == identity and not answers.full():
        answers.put(answer)


def _next(answers: queue.Queue[Any], timeout: float) -> Any:
    late = f'no answer within {timeout:g} s: no sensor may be sending; `mpnp status` shows them'
    return wait_for(lambda: not answers.empty() and answers.get(), timeout, late)


def _seconds(seconds: float) -> Any:
    from rclpy.duration import Duration

    return Duration(seconds=seconds)


def _nobody(node: Node, name: str) -> str:
    return (f'nobody serves {node.resolve_topic_name(name)}; start the system with `mpnp bringup`, '
            'and give its --namespace and ROS_DOMAIN_ID here too')
