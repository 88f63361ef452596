"""Measure whether an answer is seen or guessed: influence, grounding, calibration and refusals.

    python -m bench.influence [--root NUSCENES] [--of-each-type N] [--output FOLDER]

Two sensors with the shipped links of true objects answer questions about painted frames of held-out streets
of the embedded world, and with --root about the annotated objects of a root in nuScenes form.  Sensors are
blinded at random.  The page is docs/results/influence.md.
"""
from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.common.page import RESULTS, markdown_table
from bench.common.program import exit_code, program_parser
from bench.common.timing import machine_text
from bench.influence.cases import ENCODER, FIRST, SECOND, Case, painted_cases, real_cases
from bench.influence.measure import (
    CONFIDENT,
    calibration,
    errors,
    faithfulness,
    milliseconds,
    replies_to,
    rests_on_sensor,
)
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.serving.link_versions import copied_link_version
from mpnp_ros.training.true_objects import OBJECTS

FAITHFUL = 3
"""Of so many cases one is asked again without some tokens."""
PAINTED, REAL = 'painted frames', 'annotated objects'


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page; returns the exit code."""
    parser = program_parser('influence', __doc__)
    parser.add_argument('--root', type=Path, help='nuScenes root with annotations')
    parser.add_argument('--frames', type=int, default=600, help='painted frames (default: %(default)s)')
    parser.add_argument('--of-each-type', type=int, default=120,
                        help='questions per type (default: %(default)s)')
    parser.add_argument('--calibration', type=int, default=4, metavar='N',
                        help='times as many questions for the calibration error (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=100, help='timed answers (default: %(default)s)')
    parser.add_argument('--output', type=Path, default=RESULTS, metavar='FOLDER',
                        help='folder for influence.md and influence.json (default: %(default)s)')
    given = parser.parse_args(arguments)
    return exit_code('influence', lambda: run(given))


def run(given: Any) -> None:
    """Measure all and write the page."""
    method = two_sensors()
    most = given.of_each_type * max(1, given.calibration)
    sources = {PAINTED: painted_cases(given.frames, most)}
    if given.root:
        sources[REAL] = real_cases(given.root, most)
    results: dict[str, Any] = {
        'machine': machine_text(), 'threads': torch.get_num_threads(),
        'options': f'--of-each-type {given.of_each_type} --calibration {given.calibration}'}
    for name, cases in sources.items():
        results[name] = measure(method, cases, cases[::max(1, given.calibration)])
        print(name, json.dumps(results[name]), flush=True)
    results['milliseconds'] = milliseconds(method, sources[PAINTED], given.rounds)
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / 'influence.json').write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')
    (given.output / 'influence.md').write_text(page(results), encoding='utf-8')


def two_sensors() -> Method:
    """The default method with the shipped links of true objects for both sensors."""
    lm = load_language_model('smollm2-135m-instruct')
    method = create_method('mpnp', lm)
    for name in (FIRST, SECOND):
        method.plug(copied_link_version(shipped_links()[OBJECTS].path, name, ENCODER, lm=lm).link)
    return method


def measure(method: Method, cases: Sequence[Case], some: Sequence[Case]) -> dict[str, Any]:
    """All but the times; some: cases that are asked one by one, of all `cases`."""
    seen, blind = (replies_to(method, some, (FIRST, SECOND), blinded) for blinded in (False, True))
    return {'questions': len(some), 'calibrated on': len(cases),
            'rests on the sensor': rests_on_sensor(method, some),
            'faithfulness': faithfulness(method, some[::FAITHFUL]),
            'calibration': {'first sensor': calibration(method, cases, (FIRST,), False),
                            'both sensors': calibration(method, cases, (FIRST, SECOND), False),
                            'blinded at random': calibration(method, cases, (FIRST, SECOND), True)},
            'errors': {'both see': errors(seen), 'blinded at random': errors(blind)}}


def page(results: Mapping[str, Any]) -> str:
    """The Markdown page."""
    parts = [INTRODUCTION, f'Options: `{results["options"]}`.\n']
    for name in (PAINTED, REAL):
        if name in results:
            parts += _section(name, results[name])
    times = results['milliseconds']
    parts += ['## Milliseconds\n', markdown_table(
        ('an answer to a new frame', 'wall, median', 'with influence', 'CPU, median', 'with influence'),
        [(title, *(row[which][clock] for clock in ('wall p50', 'cpu p50') for which in ('without', 'with')))
         for title, row in times.items()], numbers=True) + '\n',
        f'{results["machine"]}, threads: {results["threads"]}; both take turns in one process. Other '
        'programs ran on the machine, so compare only within a row.\n']
    return '\n'.join(parts)


def _section(name: str, found: Mapping[str, Any]) -> list[str]:
    rests = [(f'{sensors}, blind for {kind}', row['n'], row['influence'], row['support'], row.get('text', ''))
             for sensors, kinds in found['rests on the sensor'].items() for kind, row in kinds.items()]
    faithful = [(f'{sensors}, {count}', row['n'], row['named'], row['others'], f'{100 * row["more"]:.1f} %')
                for sensors, counts in found['faithfulness'].items() for count, row in counts.items()]
    kinds = list(found['calibration']['both sensors'])
    return [
        f'## {name.capitalize()}: {found["questions"]} questions\n',
        '### Rests on the sensor (AUROC)\n',
        markdown_table(('', 'n', 'influence', 'support', 'distance to the text alone'), rests, True) + '\n',
        '### Grounding is faithful\n',
        markdown_table(('heaviest tokens removed', 'n', 'change', 'change by as many others', 'named more'),
                       faithful, True) + '\n',
        f'### Expected calibration error, percentage points ({found["calibrated on"]} questions)\n',
        markdown_table(('', *kinds), [
            (title, *(f'{cell["error"]} ({cell["chance"]})' for cell in row.values()))
            for title, row in found['calibration'].items()], True) + '\n',
        'In brackets: what answers that are right as often as they say would show with so few questions.\n',
        f'### A thousand questions (confident: {CONFIDENT:g} or more)\n',
        *(f'{title}:\n\n' + markdown_table(
            ('', 'answered', 'errors', 'confident errors', 'accuracy of answered, %'),
            [(condition, *row.values()) for condition, row in rows.items()], True) + '\n'
          for title, rows in found['errors'].items())]


INTRODUCTION = """# Seen or guessed

Made by `python -m bench.influence --root ROOT` (see its help). Two sensors with the shipped links of true
objects answer questions about painted frames of streets that no link was trained on, and about the annotated
objects of a real drive. Each sensor is blinded with probability one half: it looks nowhere, or not where is
asked, or does not know the category that is asked about; the encoder says so with its tokens.

*Influence* is the total variation distance between the probabilities of the answer and those with the
modality closed. *Support* is that between the modality alone and none. An AUROC of 1 means that every blind
sensor has a lower value than every sensor that sees. The last column is the distance to the text alone,
without any link: links that see nothing still pass on what they have learned of such questions, so it does
not tell seen from guessed. Two sensors that tell the same have little influence each, and full support.
"""

if __name__ == '__main__':
    sys.exit(main())
