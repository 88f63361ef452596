"""Measure what skipped attentions save on latent links, for docs/lab/benchmarks.md.

    python -m bench.latent_skipping

Attentions are skipped among the linked blocks, which run for every new frame, or below them, where blocks run
once for every new question.  Stand-ins are untrained: what they compute does not change how long it takes.
Times are of the processor, on one thread.  The model with all attentions is measured twice; the difference of
both is what noise does.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.common.page import RESULTS
from bench.common.program import exit_code, program_parser
from bench.common.timing import Summary, machine, take_turns
from mpnp_ros.files import write_file
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp_eas.method import MpnpEas
from mpnp_ros.methods.mpnp_eas.stand_ins import SkippingModel, StandIns, driving_questions
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.budget import measure_macs

WHOLE, AGAIN = 'all attentions', 'all attentions, again'
LINKED, LOWER = 'linked blocks', 'blocks below the links'
FRAME, QUESTION = 'new frame', 'new question'
RANK, TOKENS, WIDTH, FRAMES, QUESTIONS = 32, 24, 24, 16, 64
WORTH = .05
"""Share of the time of an answer that skipping must save to be worth its loss of accuracy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write latent_skipping.json; returns the exit code."""
    parser = program_parser('latent_skipping', __doc__)
    parser.add_argument('--llm', default='smollm2-135m-instruct', help='language model')
    parser.add_argument('--last', type=int, default=8, help='linked blocks')
    parser.add_argument('--rounds', type=int, default=60, help='measured answers of each kind')
    parser.add_argument('--output', type=Path, default=RESULTS, help='folder for latent_skipping.json')
    options = parser.parse_args(arguments)

    def run() -> None:
        torch.set_num_threads(1)
        text = json.dumps(measure(load_language_model(options.llm), options), indent=1)
        write_file(options.output / 'latent_skipping.json', (text + '\n').encode())
        print(text)

    return exit_code('latent_skipping', run)


def skipped_sets(blocks: int, last: int) -> dict[str, tuple[int, ...]]:
    """Return the skipped blocks of each row: half and all of the linked ones, half and all of those below.

    Block 0 keeps its attention.
    """
    linked, lower = range(blocks - last, blocks), range(1, blocks - last)
    rows: dict[str, tuple[int, ...]] = {WHOLE: (), AGAIN: ()}
    for name, there in ((LINKED, linked), (LOWER, lower)):
        half = len(there) // 2
        rows |= {f'{half} of {len(there)} {name}': tuple(there[len(there) - half:]),
                 f'all {len(there)} {name}': tuple(there)}
    return rows


def measure(lm: LanguageModel, options: argparse.Namespace) -> dict[str, Any]:
    """The time and operations of an answer to a new frame and to a new question, of each row."""
    random = np.random.default_rng(0)
    frames = [{'lidar': ModalityTokens('lidar', 'encoder', random.random((TOKENS, WIDTH), np.float32),
                                       random.uniform(-3, 3, TOKENS).astype(np.float32))}
              for _ in range(FRAMES)]
    questions = driving_questions(QUESTIONS, 0)
    methods = {row: with_link(lm, skip, options.last)
               for row, skip in skipped_sets(lm.blocks, options.last).items()}
    ways = {(row, kind): answer for row, method in methods.items()
            for kind, answer in answering(method, questions, frames).items()}
    seconds = take_turns(ways, options.rounds, 2, time.process_time)
    rows = [{'row': row, **{kind: {**asdict(Summary.of(seconds[row, kind])),
                                   'macs': measure_macs(partial(ways[row, kind], 0))}
                            for kind in (FRAME, QUESTION)}} for row in methods]
    return {'machine': machine(), 'linked': options.last, 'rank': RANK, 'rows': rows,
            'saved': {kind: saved(rows, kind) for kind in (FRAME, QUESTION)},
            'worth': WORTH, 'pays': paying(rows)}


def with_link(lm: LanguageModel, skip: tuple[int, ...], last: int) -> Method:
    """The method with an untrained link to the last blocks, without attention in some blocks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stand_ins = StandIns(skip, RANK, lm.width).to(lm.device)
        method = MpnpEas(SkippingModel(lm, stand_ins))
        method.plug(method.new_link('lidar', 'encoder', WIDTH, last=last))
    return method


def answering(method: Method, questions: Sequence[str],
              frames: Sequence[Mapping[str, ModalityTokens]]) -> dict[str, Callable[[int], object]]:
    """What answers a known question from a new frame, and a question never read from one."""
    known = method.prepare(questions[0], ANSWERS)

    def to_new_question(number: int) -> object:
        method.cache.clear()
        asked = method.prepare(questions[number % len(questions)], ANSWERS)
        return method.answer(asked, frames[number % len(frames)])

    return {FRAME: lambda number: method.answer(known, frames[number % len(frames)]),
            QUESTION: to_new_question}


def saved(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, dict[str, float]]:
    """The shares of the median time and of the operations that each row saves of the whole model's."""
    whole = rows[0][kind]
    return {row['row']: {key: 1 - row[kind][key] / whole[key] for key in ('p50', 'macs')} for row in rows[1:]}


def paying(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The rows that save at least WORTH of the time, and at least twice what noise does."""
    shares = {kind: saved(rows, kind) for kind in (FRAME, QUESTION)}
    return {kind: [row for row, share in found.items()
                   if row != AGAIN and share['p50'] >= max(WORTH, 2 * abs(found[AGAIN]['p50']))]
            for kind, found in shares.items()}


if __name__ == '__main__':
    sys.exit(main())
