"""Ask the fusion node a question and print the answer as it is generated.

With --choices yes no the answer is one of these; with --standing the question is answered again on every new
frame until Ctrl-C.  Exit code 0: answered. 1: rejected or failed. 2: not running. 3: no sensor can be used.
4: the sensors do not tell the answer.
"""
from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from mpnp_ros.cli.arguments import add_namespace, count, not_negative, positive
from mpnp_ros.cli.output import finite
from mpnp_ros.cli.session import connected
from mpnp_ros.errors import RequestError
from mpnp_ros.serving.coverage import DIRECTIONS

OK, NO_SENSOR, UNKNOWN = 0, 3, 4
EXIT_CODES = {OK: 0, NO_SENSOR: 3, UNKNOWN: 4}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('question', help='the question')
    parser.add_argument('--choices', nargs='+', default=[], metavar='ANSWER',
                        help='closed list of answers (default: the parameter choices of the fusion node)')
    parser.add_argument('--standing', action='store_true', help='answer on every new frame, until Ctrl-C')
    parser.add_argument('--period', type=not_negative, default=0., metavar='S',
                        help='minimum time between two standing answers (default: every frame)')
    parser.add_argument('--on-change', action='store_true',
                        help='with --standing, leave out answers that say the same as the one before')
    parser.add_argument('--max-new-tokens', type=count, default=0, metavar='N',
                        help='maximum length of a generated answer (default: that of the node)')
    parser.add_argument('--timeout', type=positive, default=60., metavar='S',
                        help='seconds to wait for the node and for an answer (default: %(default)s)')
    parser.add_argument('-v', '--verbose', action='store_true',
                        help='print what was counted, and by which sensor')
    parser.add_argument('--json', action='store_true', help='one JSON object per answer')
    add_namespace(parser)


def run(arguments: Namespace) -> int:
    """Print the answer; exit code 0, 1, 3 or 4, see above.

    Without a fusion node it raises NotAnsweringError, for which the command ends with 2.
    """
    with connected('ask', arguments.namespace, arguments.timeout) as robot:
        printer = StreamPrinter()
        try:
            if arguments.standing:
                for answer in robot.watch(arguments.question, arguments.choices, period=arguments.period,
                                          on_change=arguments.on_change):
                    show(answer, arguments.json, verbose=arguments.verbose)
                    if answer.status not in EXIT_CODES:
                        return 1
            for update in robot.ask_stream(arguments.question, arguments.choices,
                                           max_new_tokens=arguments.max_new_tokens):
                if update.answer is None and not arguments.json:
                    printer.update(update.text)
            answer = update.answer
        except RequestError as error:
            answer = error.response
    show(answer, arguments.json, printer, arguments.verbose)
    return EXIT_CODES.get(answer.status, 1)


class StreamPrinter:
    """Prints the additions to a growing text."""

    def __init__(self) -> None:
        self._shown = ''

    def update(self, text: str) -> None:
        """Print the rest of a text if it continues the printed one, otherwise all of it on a new line."""
        if not text.startswith(self._shown):
            self._shown = ''
            print()
        print(text[len(self._shown):], end='', flush=True)
        self._shown = text


def show(answer: Any, as_json: bool, printer: StreamPrinter | None = None, verbose: bool = False) -> None:
    """Print an answer: as JSON, or the rest of its text and a line with its sensors.

    verbose: also print the counts that it rests on.
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
    """Return confidence, sensors with their ages, and latency in one line, and a line for each concern."""
    ages = [f'{name} ({age:.2f} s old)' if math.isfinite(age) else f'{name} (age unknown)'
            for name, age in zip(answer.used_modalities, answer.modality_ages, strict=False)]
    rests = ', '.join(ages) or 'no sensor'
    missing = f'; missing {", ".join(answer.missing_modalities)}' if answer.missing_modalities else ''
    lines = [f'confidence {answer.confidence:.2f}, rests on {rests}{missing}, took {answer.latency:.2f} s']
    return '\n  '.join([*lines, *(f'but {concern}' for concern in answer.concerns)])


def describe_counted(counted: Any) -> str:
    """Return what was counted, where and by which sensor in one line."""
    where = counted.direction or 'all around'
    if where in DIRECTIONS:
        where = f'to the {where}'
    reach = f' within {counted.reach:g} m' if math.isfinite(counted.reach) else ''
    by = counted.modality or 'all sensors together'
    return (f'{counted.expected:.1f} of {counted.sort} {where}{reach} by {by} (none: {counted.none:.0%}; '
            f'seen: {counted.covered:.0%})')


def as_dict(answer: Any) -> dict[str, object]:
    """Return an Answer as plain data; times in seconds, unknown numbers are None."""
    def seconds(stamp: Any) -> float:
        return stamp.sec + stamp.nanosec * 1e-9

    names = list(answer.used_modalities)
    probabilities = dict(zip(answer.choices, map(float, answer.probabilities), strict=False))
    return {
        'id': answer.id, 'question': answer.question, 'status': answer.status, 'error': answer.error,
        'text': answer.text, 'confidence': finite(answer.confidence), 'probabilities': probabilities,
        'used_modalities': {name: {'stamp': seconds(stamp), 'age': finite(age)} for name, stamp, age in
                            zip(names, answer.modality_stamps, answer.modality_ages, strict=False)},
        'missing_modalities': list(answer.missing_modalities), 'concerns': list(answer.concerns),
        'counted': [{'modality': counted.modality, 'direction': counted.direction,
                     'reach': finite(counted.reach), 'sort': counted.sort,
                     'expected': finite(counted.expected), 'none': finite(counted.none),
                     'covered': finite(counted.covered)} for counted in answer.counted],
        'stamp': seconds(answer.header.stamp),
        'links_version': answer.links_version, 'method': answer.method,
        'latency': finite(answer.latency), 'compute_duration': finite(answer.compute_duration)}
