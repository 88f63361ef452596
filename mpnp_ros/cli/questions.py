"""List the standing questions of a robot, and withdraw them.

A standing question is answered on every new frame until it is withdrawn or its lease ends;
`mpnp ask --standing` asks one.
"""
from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from mpnp_ros.cli.arguments import add_fusion
from mpnp_ros.cli.output import finite, print_table, seconds
from mpnp_ros.cli.session import ros_session, wait_for
from mpnp_ros.client.node_reports import NodeReports
from mpnp_ros.errors import NotAnsweringError, QuestionError

if TYPE_CHECKING:
    from rclpy.node import Node

HEADS = ('id', 'answered', 'lease', 'question')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--withdraw', nargs='+', default=[], metavar='ID',
                        help='end these standing questions')
    parser.add_argument('--withdraw-all', action='store_true', help='end all standing questions')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    add_fusion(parser)


def run(arguments: Namespace) -> int:
    """Print the standing questions, after the withdrawal of the chosen ones; exit code 0."""
    from mpnp_ros.srv import ListQuestions

    with ros_session(arguments.namespace) as node:
        reports = NodeReports(node)
        client = node.create_client(ListQuestions, 'list_questions')
        wait_for(client.service_is_ready, arguments.timeout, reports.why_absent)

        def standing() -> Any:
            done = client.call_async(ListQuestions.Request())
            return wait_for(lambda: done.done() and done.result(), arguments.timeout,
                            'the fusion node does not answer; see `mpnp status` and try again')

        found = standing()
        known = [question.id for question in found.questions]
        if unknown := [name for name in arguments.withdraw if name not in known]:
            raise QuestionError(f'no standing question has the id {", ".join(unknown)}; '
                                f'there are {", ".join(known) or "none"}')
        if unwanted := set(known if arguments.withdraw_all else arguments.withdraw):
            withdraw(node, unwanted, arguments.timeout, reports)
            end = time.monotonic() + arguments.timeout
            while unwanted & {question.id for question in found.questions}:
                found = standing()
                if time.monotonic() > end:
                    raise NotAnsweringError(f'{", ".join(sorted(unwanted))}: not withdrawn within '
                                            f'{arguments.timeout:g} s; see the log of the fusion node')
    show(found, arguments.json)
    return 0


def withdraw(node: Node, names: set[str], timeout: float, reports: NodeReports) -> None:
    """Ask the fusion node to forget standing questions."""
    from rclpy.duration import Duration

    from mpnp_ros.msg import Question

    publisher = node.create_publisher(Question, 'question', 10)
    wait_for(publisher.get_subscription_count, timeout, reports.why_absent)
    for name in sorted(names):
        publisher.publish(Question(id=name, standing=True))
    publisher.wait_for_all_acked(Duration(seconds=1))


def show(found: Any, as_json: bool) -> None:
    """Print a ListQuestions response."""
    rows = list(zip(found.questions, found.answered, found.remaining, strict=True))
    if as_json:
        print(json.dumps([{
            'id': question.id, 'question': question.text, 'choices': list(question.choices),
            'period': question.period, 'answered': answered,
            'remaining': finite(remaining)}
            for question, answered, remaining in rows]))
    elif rows:
        print_table([(question.id, str(answered), seconds(remaining), question.text)
                     for question, answered, remaining in rows], HEADS)
    else:
        print('no question stands')
