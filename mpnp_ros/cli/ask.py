"""Ask the fusion node a question and print the answer as it is generated.

With --choices yes no the answer is one of these; with --standing the question is answered again on every new
frame until Ctrl-C.  Exit code 0: answered. 1: rejected or failed. 2: not running. 3: no sensor can be used.
4: the sensors do not tell the answer. 5: refused, as a requirement of the question is not met.
"""
from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpnp_ros.cli.answer_pictures import save_pictures
from mpnp_ros.cli.arguments import add_namespace, count, not_negative, positive, share
from mpnp_ros.cli.output import finite
from mpnp_ros.cli.session import connected
from mpnp_ros.errors import RequestError
from mpnp_ros.serving.coverage import DIRECTIONS

OK, NO_SENSOR, UNKNOWN, REFUSED = 0, 3, 4, 5
EXIT_CODES = {status: status for status in (OK, NO_SENSOR, UNKNOWN, REFUSED)}
GUESSED = 0.05
"""Influence of all sensors below which an answer is called guessed."""
SHOWN = 3
"""Tokens of a view that are printed."""


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
    parser.add_argument('--max-age', type=not_negative, default=0., metavar='S',
                        help='leave out sensors whose newest data is older; refuse if none is left (default: '
                             'as the node does)')
    parser.add_argument('--require', type=lambda text: text.split(','), default=[], metavar='MODALITY,...',
                        help='refuse unless the answer rests on these modalities')
    parser.add_argument('--refuse-below', type=share, default=0., metavar='P',
                        help='refuse an answer of less confidence, 0 to 1 (default: none)')
    parser.add_argument('--timeout', type=positive, default=60., metavar='S',
                        help='seconds to wait for the node and for an answer (default: %(default)s)')
    parser.add_argument('-v', '--verbose', action='store_true',
                        help='print what was counted, by which sensor, and what the answer rests on')
    parser.add_argument('--pictures', type=Path, metavar='FOLDER',
                        help='draw what the answer rests on into the newest images of its views, where its '
                             'tokens have boxes (encoder.tokens: detections)')
    parser.add_argument('--json', action='store_true', help='one JSON object per answer')
    add_namespace(parser)


def run(arguments: Namespace) -> int:
    """Print the answer; exit code 0, 1, 3, 4 or 5, see above.

    Without a fusion node it raises NotAnsweringError, for which the command ends with 2.
    """
    required: Any = {'max_age': arguments.max_age, 'require': arguments.require,
                     'refuse_below': arguments.refuse_below}
    with connected('ask', arguments.namespace, arguments.timeout) as robot:
        printer = StreamPrinter()
        try:
            if arguments.standing:
                for answer in robot.watch(arguments.question, arguments.choices, period=arguments.period,
                                          on_change=arguments.on_change, **required):
                    show(answer, arguments.json, verbose=arguments.verbose)
                    if answer.status not in EXIT_CODES:
                        return 1
            for update in robot.ask_stream(arguments.question, arguments.choices,
                                           max_new_tokens=arguments.max_new_tokens, **required):
                if update.answer is None and not arguments.json:
                    printer.update(update.text)
            answer = update.answer
        except RequestError as error:
            answer = error.response
        pictures = save_pictures(robot.node, answer, arguments.pictures) if arguments.pictures else {}
    show(answer, arguments.json, printer, arguments.verbose)
    for view, said in pictures.items():
        print(f'mpnp ask: {view}: {said}', file=sys.stderr, flush=True)
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

    verbose: also print the counts and the tokens that it rests on.
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
        for line in describe_grounding(answer.grounding):
            print(f'  rests on {line}', flush=True)


def describe(answer: Any) -> str:
    """Return confidence, sensors with their ages, and latency in one line, and a line for each concern.

    Where the influence of the sensors is known, a line says what the text alone would have said.
    """
    ages = [f'{name} ({age:.2f} s old)' if math.isfinite(age) else f'{name} (age unknown)'
            for name, age in zip(answer.used_modalities, answer.modality_ages, strict=False)]
    rests = ', '.join(ages) or 'no sensor'
    missing = f'; missing {", ".join(answer.missing_modalities)}' if answer.missing_modalities else ''
    lines = [f'confidence {answer.confidence:.2f}, rests on {rests}{missing}, took {answer.latency:.2f} s']
    if len(answer.modality_influences):
        each = ', '.join(f'{name} {influence:.2f} (by itself {support:.2f})' for name, influence, support in
                         zip(answer.used_modalities, answer.modality_influences, answer.modality_supports,
                             strict=False))
        guessed = 'guessed, ' if answer.sensor_influence < GUESSED else ''
        lines.append(f'{guessed}influence of the sensors {answer.sensor_influence:.2f}, of {each}; '
                     f'the text alone says {answer.text_alone} ({answer.text_alone_confidence:.2f})')
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


def describe_grounding(grounding: Sequence[Any]) -> list[str]:
    """Return a line for each view or sensor: the weight of its listed tokens, and the heaviest in words."""
    by_source: dict[tuple[str, str], list[Any]] = {}
    for token in grounding:
        by_source.setdefault((token.modality, token.source), []).append(token)
    lines = []
    for (modality, source), tokens in by_source.items():
        view = f'{modality} {source}' if source not in ('', modality) else modality
        seen = '; '.join(f'{token.expected:.1f} {token.sort} {_place(token)} ({token.weight:.0%})'
                         for token in tokens[:SHOWN])
        more = f'; {len(tokens) - SHOWN} more' if len(tokens) > SHOWN else ''
        lines.append(f'{view} ({sum(token.weight for token in tokens):.0%}): {seen}{more}')
    return lines


def _place(token: Any) -> str:
    """Return direction and distance of a token in words."""
    if math.isnan(token.azimuth):
        return 'in no direction'
    far = f', {token.distance:.0f} m' if math.isfinite(token.distance) else ''
    return f'at {math.degrees(token.azimuth):+.0f} deg{far}'


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
        'influence': {
            'sensors': finite(answer.sensor_influence), 'text_alone': answer.text_alone,
            'text_alone_confidence': finite(answer.text_alone_confidence),
            'modalities': dict(zip(names, map(finite, answer.modality_influences), strict=False)),
            'supports': dict(zip(names, map(finite, answer.modality_supports), strict=False)),
        } if len(answer.modality_influences) else None,
        'grounding': [{'modality': token.modality, 'source': token.source, 'azimuth': finite(token.azimuth),
                       'distance': finite(token.distance), 'sort': token.sort,
                       'expected': finite(token.expected), 'weight': finite(token.weight),
                       'box': list(map(finite, token.box))} for token in answer.grounding],
        'stamp': seconds(answer.header.stamp),
        'links_version': answer.links_version, 'method': answer.method,
        'latency': finite(answer.latency), 'compute_duration': finite(answer.compute_duration)}
