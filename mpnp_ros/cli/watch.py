"""Tell when something begins and ends: a standing question whose events are printed until Ctrl-C.

    mpnp watch "Is there a pedestrian ahead?"
    mpnp watch "tell me when a bus is behind us" --hold 1

An event begins when the probability of the answers reaches --begin and ends when it falls below --end.  Exit
code 1: the question is rejected. 2: not running.
"""
from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from mpnp_ros.cli.arguments import add_namespace, not_negative, positive
from mpnp_ros.cli.session import connected
from mpnp_ros.errors import RequestError
from mpnp_ros.tokens import SECOND

KINDS = ('begins', 'ends', 'lost')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('question', help='the question, or "tell me when ..."')
    parser.add_argument('--answers', nargs='+', default=['yes'], metavar='ANSWER',
                        help='answers during which the event lasts (default: yes)')
    parser.add_argument('--choices', nargs='+', default=[], metavar='ANSWER',
                        help='closed list of answers (default: the parameter choices of the fusion node)')
    parser.add_argument('--begin', type=not_negative, default=0., metavar='P',
                        help='probability from which the event begins (default: 0.7)')
    parser.add_argument('--end', type=not_negative, default=0., metavar='P',
                        help='probability below which it ends (default: 0.4)')
    parser.add_argument('--hold', type=not_negative, default=0., metavar='S',
                        help='seconds that either must last (default: %(default)s)')
    parser.add_argument('--timeout', type=positive, default=60., metavar='S',
                        help='seconds to wait for the node and for a first answer (default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='one JSON object per event')
    add_namespace(parser)


def run(arguments: Namespace) -> int:
    """Print events until Ctrl-C; exit code 1 if the question is rejected.

    Without a fusion node it raises NotAnsweringError, for which the command ends with 2.
    """
    with connected('watch', arguments.namespace, arguments.timeout) as robot:
        try:
            for event in robot.events(arguments.question, arguments.answers, arguments.choices,
                                      begin=arguments.begin, end=arguments.end, hold=arguments.hold):
                print(json.dumps(as_dict(event)) if arguments.json else describe(event), flush=True)
        except RequestError as error:
            print(f'mpnp watch: {error}', file=sys.stderr)
            return 1
    return 0


def describe(event: Any) -> str:
    """Return an event in one line."""
    said = as_dict(event)
    rests = ', '.join(event.used_modalities) or 'no sensor'
    detail = f': {event.reason}' if event.reason else f' ({event.answer}, {event.probability:.2f}, {rests})'
    return f'{said["stamp"]:.2f}  {said["kind"]:6}  {event.question}{detail}'


def as_dict(event: Any) -> dict[str, object]:
    """Return an Event as plain data; times in seconds."""
    stamp, since = (time.sec + time.nanosec / SECOND for time in (event.header.stamp, event.since))
    return {
        'id': event.id,
        'question': event.question,
        'kind': KINDS[event.kind],
        'stamp': stamp,
        'since': since,
        'answer': event.answer,
        'probability': event.probability,
        'used_modalities': list(event.used_modalities),
        'reason': event.reason,
    }
