"""Compare the latency of answers with that of the usual way of connecting modalities.

    python -m bench.latency

First the language model alone: all variants in turn in one process, a standing question on a new frame. With
the package xllamacpp installed (pip install --no-deps xllamacpp), llama.cpp is among them: the same question
with objects as text.
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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from rich.table import Table

from bench.common.page import console, terminal_table
from bench.common.program import exit_code, program_parser
from bench.common.timing import Summary, machine, take_turns
from bench.latency.answering import QUESTIONS, Variant, random_frame, variants
from bench.latency.llama_cpp import LlamaCpp
from bench.latency.sensor_to_answer import Measured, Sensors, measure
from mpnp_ros.errors import WeightsError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.weights import DEFAULT_MODEL, load_language_model
from mpnp_ros.questions.vocabulary import ANSWERS, CHANNELS

QUESTION = ('There is a moving car to the front left of me; what is the status of the other thing that is to '
            'the back right of that car and to the front of the parked construction vehicle over there, '
            'please?')
SHAPES = {'camera': (24, len(CHANNELS)), 'lidar': (16, len(CHANNELS))}
LINKS = {'pooling': 'counting', 'channels': tuple(
    f'{category}: {status}' if status else category for category, status in CHANNELS)}
OBJECTS = 3, 10
FRAMES, WARM_UP = 8, 5
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
KEY_FRAME = Path('../shared/data/nuscenes_keyframe')
GIGA = 1e9
ANSWERING_HEADS = ('dtype', 'variant', '', 'p50 ms', 'p95 ms', 'p50 / (b)', 'GMAC', 'counted', 'GMAC / (b)')


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
    parser = program_parser('latency', __doc__)
    parser.add_argument('--rounds', type=int, default=100, help='runs of each variant')
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='CPU threads of the variants')
    parser.add_argument('--linked-blocks', type=int, default=8, metavar='N',
                        help='number of linked upper blocks')
    parser.add_argument('--llm', default=DEFAULT_MODEL, help='name, folder or hub ID of the language model')
    parser.add_argument('--device', default='cpu', help='torch device of the variants')
    parser.add_argument('--llama-cpp', action=argparse.BooleanOptionalAction, default=True,
                        help='measure llama.cpp too, where xllamacpp is installed')
    parser.add_argument('--clock', choices=CLOCKS, default='wall',
                        help='cpu: seconds of computing of all threads, for a machine that others use too')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the results to this file')
    parser.add_argument('--ros', action=argparse.BooleanOptionalAction,
                        default=importlib.util.find_spec('rclpy') is not None,
                        help='also measure from sensor to answer through ROS nodes')
    parser.add_argument('--seconds', type=float, default=20., help='duration of the ROS measurement, s')
    parser.add_argument('--rate', type=float, default=2., help='sets of sensor messages per second')
    parser.add_argument('--domain', type=int, default=101, help='ROS domain of the measurement')
    parser.add_argument('--nuscenes', type=Path, default=KEY_FRAME if KEY_FRAME.is_dir() else None,
                        help='nuScenes root for the sensors (default: a generated stand-in)')
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C, so that started nodes are stopped
        signal.signal(number, signal.default_int_handler)
    return exit_code('latency', lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Measure the variants, then the nodes; print the tables and write the JSON file if requested."""
    shown = console(120)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    models = load_models(options.llm, options.device)
    facts = {**machine(), 'llm': models[0].name, 'device': str(models[0].device), 'clock': options.clock}
    shown.print(', '.join(f'{name}: {value}' for name, value in facts.items()))
    peers: dict[tuple[str, str], Variant] = {}
    try:
        for count in OBJECTS if options.llama_cpp else ():
            peers['Q4_1', f'llama.cpp, {count}'] = LlamaCpp(QUESTION, ANSWERS, count, options.threads)
    except WeightsError as error:
        shown.print(str(error))
    rows = compare(models, options.linked_blocks, options.rounds, peers,
                   CLOCKS[options.clock])
    facts['load_after'] = machine()['load']
    shown.print(f'{options.rounds} rounds in turn, {options.linked_blocks} linked blocks, '
                f'{len(ANSWERS)} choices, tokens (count, width): {SHAPES}, load after: '
                f'{facts["load_after"]}', answering_table(rows), *ratios(rows), sep='\n')
    way = None
    if options.ros:
        with tempfile.TemporaryDirectory() as name:
            sensors = Sensors.read(options.nuscenes, Path(name))
            measured = measure(QUESTION, ANSWERS, sensors, seconds=options.seconds, rate=options.rate,
                               domain=options.domain)
        shown.print(way_table(measured))
        way = {'origin': measured.origin, 'sets': measured.sets, 'answers': measured.answers,
               'parts': {part: asdict(summary) for part, summary in summaries(measured).items()}}
    if options.json:
        options.json.write_text(json.dumps({
            'machine': facts, 'answering': [asdict(row) for row in rows], 'sensor_to_answer': way}, indent=1))


def load_models(source: str, device: str) -> list[LanguageModel]:
    """The language model in float32 and, if different, in the format of 'auto'."""
    models = {lm.dtype: lm for lm in (load_language_model(source, device, dtype)
                                      for dtype in ('float32', 'auto'))}
    return list(models.values())


def compare(models: Sequence[LanguageModel], last: int, rounds: int,
            peers: Mapping[tuple[str, str], Variant] | None = None,
            clock: Callable[[], float] = time.perf_counter) -> list[LatencyRow]:
    """Time all variants on all models in turn.

    models: one model in several number formats.  peers: others by number format and name; they are compared
    with the fastest variant (b).
    """
    frames = [random_frame(SHAPES, seed) for seed in range(FRAMES)]
    rivals = {(str(lm.dtype).removeprefix('torch.'), name): variant for lm in models
              for name, variant in variants(lm, QUESTION, ANSWERS, frames[0], last=last, **LINKS).items()}
    rivals.update(peers or {})

    def answer(variant: Variant, number: int) -> object:
        return variant.answer(frames[number % len(frames)])

    runs = {key: partial(answer, variant) for key, variant in rivals.items()}
    times = {key: Summary.of(seconds) for key, seconds in take_turns(runs, rounds, WARM_UP, clock).items()}
    whole = {dtype: summary.p50 for (dtype, name), summary in times.items() if name == 'b'}
    return [LatencyRow(*key, variant.about, times[key],
                       times[key].p50 / whole.get(key[0], min(whole.values())),
                       variant.macs(frames[0]), variant.counted(frames[0]))
            for key, variant in rivals.items()]


def ratios(rows: Sequence[LatencyRow]) -> list[str]:
    """What a packed answer is compared with, as lines of text; empty where none was measured."""
    p50 = {(row.dtype, row.name): row.time.p50 for row in rows}
    lines = []
    for dtype, name in p50:
        if name == 'packed':
            own = p50[dtype, name]
            parts = [f'(b) takes {p50[dtype, "b"] / own:.1f} times as long',
                     *(f'{peer} {time / own:.1f} times' for (_, peer), time in p50.items()
                       if peer.startswith('llama.cpp')),
                     f'the weights alone {p50[dtype, "weights"] / own:.2f}',
                     *(f'{count} questions {p50[dtype, f"packed, {count}"] / own:.2f}'
                       for count in QUESTIONS)]
            lines.append(f'{dtype}, packed: {", ".join(parts)}')
    return lines


def answering_table(rows: Sequence[LatencyRow]) -> Table:
    """A table of the variants; time and MACs also as shares of variant (b) in the same format."""
    table = terminal_table('A standing question on a new frame', ANSWERING_HEADS, texts=3, no_wrap=True)
    whole = {row.dtype: row.macs for row in rows if row.name == 'b'}
    whole['Q4_1'] = max(whole.values(), default=1)
    for row in rows:
        table.add_row(row.dtype, row.name, row.about, f'{row.time.p50:.1f}', f'{row.time.p95:.1f}',
                      f'{row.ratio:.3f}', f'{row.macs / GIGA:.4f}', f'{row.counted_macs / GIGA:.4f}',
                      f'{row.macs / whole[row.dtype]:.4f}', end_section=row.name == 'b')
    return table


def way_table(measured: Measured) -> Table:
    """A table of the latencies from a sensor to an answer, by part."""
    title = (f'Sensor stamp to answer through ROS: {measured.sets} sets of six images and a sweep '
             f'({measured.origin}), {measured.answers} answers')
    table = terminal_table(title, ('part', 'n', 'p50 ms', 'p95 ms'))
    table.min_width = len(title)
    for part, summary in summaries(measured).items():
        table.add_row(part, str(summary.count), f'{summary.p50:.1f}', f'{summary.p95:.1f}',
                      end_section=part.endswith('stamp to answer'))
    return table


def summaries(measured: Measured) -> dict[str, Summary]:
    """Median and 95th percentile of every part of the latency."""
    return {part: Summary.of(seconds) for part, seconds in measured.parts.items()}


if __name__ == '__main__':
    sys.exit(main())
