"""Compare the memory of training links in the upper blocks with that of tuning the input layer.

    python -m bench.adaptation_memory

Each way trains for a few steps in its own process, with the same questions, tokens and batches.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.table import Table

from bench.adaptation_memory.training_process import (
    DATA,
    INPUT,
    MODALITY,
    READ,
    RECOMPUTED,
    UPPER,
    WHOLE,
    Setting,
    StepMeasurement,
)
from bench.common.page import console, terminal_table
from bench.common.program import exit_code, program_parser
from bench.common.timing import machine
from mpnp_ros.device import DTYPES, LEAN, choose_dtype
from mpnp_ros.errors import TrainingError
from mpnp_ros.llm.weights import DEFAULT_MODEL, ModelFolder
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.questions.generator import scene_questions
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.tokens import SECTORS, ModalityTokens, sector_azimuths
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_world.dataset.objects_only import scene_key_frames

MEGA, GIGA = 1e6, 1e9
SCENES = 8
ABOUT = {UPPER: 'links, upper blocks', WHOLE: 'links, whole model', INPUT: 'input layer',
         RECOMPUTED: 'input layer, recomputed'}
HEADS = ('batch', 'way', 'loaded', 'peak MB', 'share', 'above imports', 'share', 'GMAC/step', 'share',
         's/step', 'parameters')
CHILD = 'bench.adaptation_memory.training_process'


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the JSON file if requested; returns the exit code."""
    parser = program_parser('adaptation_memory', __doc__)
    parser.add_argument('--llm', default=DEFAULT_MODEL, help='name, folder or hub ID of the language model')
    parser.add_argument('--dtype', choices=DTYPES, default='auto', help='number format of its weights')
    parser.add_argument('--batches', type=int, nargs='+', default=[64, 128], help='questions per step')
    parser.add_argument('--ways', nargs='+', choices=list(ABOUT), default=list(ABOUT), help='ways to compare')
    parser.add_argument('--steps', type=int, default=3, help='training steps per way')
    parser.add_argument('--questions', type=int, default=1000, help='number of training questions')
    parser.add_argument('--columns', type=int, default=24, choices=(12, 24, 36, 72),
                        help='entries at the input layer per frame of 72 tokens')
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='CPU threads per process')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the results to this file')
    options = parser.parse_args(arguments)
    return exit_code('adaptation_memory', lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Measure every way, print the table and write the JSON file if requested."""
    shown, dtype = console(130), choose_dtype(options.dtype, 'cpu', ModelFolder.find(options.llm).width)
    setting = Setting(options.llm, str(dtype).removeprefix('torch.'), options.columns, options.steps,
                      options.threads)
    config = load_link(shipped_links()[MODALITY].path).config
    data = questions_and_tokens(options.questions, config.encoder, config.token_width)
    facts = {**machine(), **asdict(setting), 'questions': len(data.examples),
             'texts': len({example.question for example in data.examples})}
    shown.print(', '.join(f'{name}: {value}' for name, value in facts.items()))
    results = measure(setting, data, options.ways, options.batches)
    shown.print(table(results))
    reading = results[0]
    shown.print('loaded: peak up to the loaded model; above imports: above the '
                f'{reading.imported / MEGA:.0f} MB of a process that has imported all; share: of the input '
                'layer; recomputed: each block is run again on the way back (checkpointing).\nReading all '
                f'questions with the whole model beforehand: peak {reading.peak / MEGA:.0f} MB')
    if options.json:
        found = {'machine': facts, 'results': [asdict(result) for result in results]}
        options.json.write_text(json.dumps(found, indent=1))


def questions_and_tokens(count: int, encoder: str, width: int) -> TokenDataset:
    """`count` questions about key frames of the world, with random counts in 72 sectors as tokens."""
    examples: list[Example] = []
    frames: dict[str, dict[str, ModalityTokens]] = {}
    for frame in (frame for seed in range(SCENES) for frame in scene_key_frames(seed)):
        values = np.random.default_rng(len(frames)).exponential(.1, (SECTORS, width)).astype(np.float32)
        frames[frame.token] = {MODALITY: ModalityTokens(MODALITY, encoder, values, sector_azimuths())}
        examples += [Example(question.text, question.answer, ANSWERS, question.type, question.hops,
                             frame.token)
                     for question in scene_questions(frame, per_kind=count)]
    return TokenDataset(frames, tuple(examples)).sample(count)


def measure(setting: Setting, data: TokenDataset, ways: Sequence[str],
            batches: Sequence[int]) -> list[StepMeasurement]:
    """The measurements of each way at each batch size, one process after the other.

    Raises TrainingError if a process fails, e.g. for lack of memory.
    """
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data.save(folder / DATA)
        setting.save(folder)
        for way, batch in [(READ, 1), *((way, batch) for batch in batches for way in ways)]:
            done = subprocess.run([sys.executable, '-m', CHILD, str(folder), way, str(batch)],
                                  capture_output=True, text=True, env={**os.environ, **LEAN})
            if done.returncode:
                raise TrainingError(f'way {way!r} with batches of {batch} questions failed with exit code '
                                    f'{done.returncode} (-9: out of memory; use smaller --batches): '
                                    f'{done.stderr.strip()[-300:]}')
            results.append(StepMeasurement(**json.loads(done.stdout.splitlines()[-1])))
    return results


def table(results: Sequence[StepMeasurement]) -> Table:
    """A table of all ways; memory and MACs also as shares of the input layer's with the same batch."""
    shown = terminal_table('Training steps, each way in a fresh process', HEADS, texts=2)
    rivals = {result.batch: result for result in results if result.way == INPUT}
    for result in results:
        if result.way not in ABOUT:
            continue
        rival = rivals.get(result.batch)
        own = result.peak - result.imported
        peak, above, macs = (f'{result.peak / rival.peak:.3f}', f'{own / (rival.peak - rival.imported):.3f}',
                             f'{result.macs / rival.macs:.3f}') if rival else ('-', '-', '-')
        shown.add_row(str(result.batch), ABOUT[result.way], f'{result.loaded / MEGA:.0f}',
                      f'{result.peak / MEGA:.0f}', peak, f'{own / MEGA:.0f}', above,
                      f'{result.macs / GIGA:.1f}', macs, f'{result.seconds:.2f}', f'{result.parameters:,}')
    return shown


if __name__ == '__main__':
    sys.exit(main())
