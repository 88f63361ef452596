"""Compare the latency of answers with that of the usual way of connecting modalities.

    python -m bench.latency

First the language model alone: all variants in turn in one process, a standing question on a new frame.
Then, if ROS 2 is installed, from the stamp of a sensor to the answer through the real nodes.
"""
from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.latency.answering import Variant, random_frame, variants
from bench.latency.sensor_to_answer import Measured, Sensors, measure
from bench.timing import Summary, machine, take_turns
from mpnp_ros.errors import MpnpError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.weights import DEFAULT_MODEL, load_language_model
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.training.budget import measure_macs

QUESTION = ('There is a moving car to the front left of me; what is the status of the other thing that is to '
            'the back right of that car and to the front of the parked construction vehicle over there, '
            'please?')
SHAPES = {'camera': (24, 768), 'lidar': (16, 768)}
FRAMES, WARM_UP = 8, 5
KEY_FRAME = Path('../shared/data/nuscenes_keyframe')
GIGA = 1e9


@dataclass(frozen=True)
class LatencyRow:
    """One variant in one number format; macs: by formula, counted_macs: by the counter of torch."""

    dtype: str
    name: str
    about: str
    time: Summary
    ratio: float
    macs: int
    counted_macs: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the JSON file if requested; returns the exit code."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C, so that started nodes are stopped
        signal.signal(number, signal.default_int_handler)
    try:
        _run(options, Console(width=None if sys.stdout.isatty() else 120))
    except MpnpError as error:
        print(f'latency: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def compare(models: Sequence[LanguageModel], last: int, rounds: int) -> list[LatencyRow]:
    """Time all variants on all models in turn.  models: one model in several number formats."""
    frames = [random_frame(SHAPES, seed) for seed in range(FRAMES)]
    rivals = {(_dtype(lm), name): variant for lm in models
              for name, variant in variants(lm, QUESTION, ANSWERS, frames[0], last=last).items()}
    seconds = take_turns({key: partial(_answer, variant, frames) for key, variant in rivals.items()},
                         rounds, WARM_UP)
    times = {key: Summary.of(samples) for key, samples in seconds.items()}
    return [LatencyRow(*key, variant.about, times[key], times[key].p50 / times[key[0], 'b'].p50,
                variant.macs(frames[0]), measure_macs(partial(variant.answer, frames[0])))
            for key, variant in rivals.items()]


def answering_table(rows: Sequence[LatencyRow]) -> Table:
    """A table of the variants; time and MACs also as shares of variant (b) in the same format."""
    table = Table('dtype', 'variant', '', title='A standing question on a new frame', title_justify='left')
    for name in ('p50 ms', 'p95 ms', 'p50 / (b)', 'GMAC', 'counted', 'GMAC / (b)'):
        table.add_column(name, justify='right', no_wrap=True)
    whole = {row.dtype: row.macs for row in rows if row.name == 'b'}
    for row in rows:
        table.add_row(row.dtype, row.name, row.about, f'{row.time.p50:.1f}', f'{row.time.p95:.1f}',
                      f'{row.ratio:.3f}', f'{row.macs / GIGA:.4f}', f'{row.counted_macs / GIGA:.4f}',
                      f'{row.macs / whole[row.dtype]:.4f}', end_section=row.name == 'b')
    return table


def way_table(measured: Measured) -> Table:
    """A table of the latencies from a sensor to an answer, by part."""
    title = (f'Sensor stamp to answer through ROS: {measured.sets} sets of six images and a sweep '
             f'({measured.origin}), {measured.answers} answers')
    table = Table('part', title=title, title_justify='left', min_width=len(title))
    for name in ('n', 'p50 ms', 'p95 ms'):
        table.add_column(name, justify='right')
    for part, summary in summaries(measured).items():
        table.add_row(part, str(summary.count), f'{summary.p50:.1f}', f'{summary.p95:.1f}',
                      end_section=part.endswith('stamp to answer'))
    return table


def summaries(measured: Measured) -> dict[str, Summary]:
    """Median and 95th percentile of every part of the latency."""
    return {part: Summary.of(seconds) for part, seconds in measured.parts.items()}


def load_models(source: str, device: str) -> list[LanguageModel]:
    """The language model in float32 and, if different, in the format of 'auto'."""
    models = {lm.dtype: lm for lm in (load_language_model(source, device, dtype)
                                      for dtype in ('float32', 'auto'))}
    return list(models.values())


def _run(options: argparse.Namespace, console: Console) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    models = load_models(options.llm, options.device)
    facts = {**machine(), 'llm': models[0].name, 'device': str(models[0].device)}
    console.print(', '.join(f'{name}: {value}' for name, value in facts.items()))
    rows = compare(models, options.linked_blocks, options.rounds)
    facts['load_after'] = machine()['load']
    console.print(f'{options.rounds} rounds in turn, {options.linked_blocks} linked blocks, '
                  f'{len(ANSWERS)} choices, tokens (count, width): {SHAPES}, load after: '
                  f'{facts["load_after"]}', answering_table(rows), sep='\n')
    measured = _through_ros(options, models[0]) if options.ros else None
    if measured:
        console.print(way_table(measured))
    if options.json:
        options.json.write_text(json.dumps(_as_json(facts, rows, measured), indent=1))


def _through_ros(options: argparse.Namespace, lm: LanguageModel) -> Measured:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sensors = Sensors.read(options.nuscenes, folder)
        return measure(lm, QUESTION, ANSWERS, sensors, folder / 'links', last=options.linked_blocks,
                       seconds=options.seconds, rate=options.rate, domain=options.domain)


def _as_json(facts: Mapping[str, object], rows: Sequence[LatencyRow],
             measured: Measured | None) -> dict[str, object]:
    way = measured and {
        'origin': measured.origin, 'sets': measured.sets, 'answers': measured.answers,
        'parts': {part: asdict(summary) for part, summary in summaries(measured).items()}}
    return {'machine': dict(facts), 'answering': [asdict(row) for row in rows], 'sensor_to_answer': way}


def _answer(variant: Variant, frames: Sequence[object], number: int) -> None:
    variant.answer(frames[number % len(frames)])


def _dtype(lm: LanguageModel) -> str:
    return str(lm.dtype).removeprefix('torch.')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m bench.latency', description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=100, help='runs of each variant')
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='CPU threads of the variants')
    parser.add_argument('--linked-blocks', type=int, default=8, metavar='N',
                        help='number of linked upper blocks')
    parser.add_argument('--llm', default=DEFAULT_MODEL, help='name, folder or hub ID of the language model')
    parser.add_argument('--device', default='cpu', help='torch device of the variants')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the results to this file')
    parser.add_argument('--ros', action=argparse.BooleanOptionalAction,
                        default=importlib.util.find_spec('rclpy') is not None,
                        help='also measure from sensor to answer through ROS nodes')
    parser.add_argument('--seconds', type=float, default=20., help='duration of the ROS measurement, s')
    parser.add_argument('--rate', type=float, default=2., help='sets of sensor messages per second')
    parser.add_argument('--domain', type=int, default=101, help='ROS domain of the measurement')
    parser.add_argument('--nuscenes', type=Path, default=KEY_FRAME if KEY_FRAME.is_dir() else None,
                        help='nuScenes root for the sensors (default: a generated stand-in)')
    return parser


if __name__ == '__main__':
    sys.exit(main())
