"""Count operations and memory of runtime adaptation at the sizes of the paper, for all methods.

    python -m bench.paper_scale --output docs/results

It first reproduces the accounting of the paper, then counts everything.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.common.page import console, terminal_table
from bench.common.program import exit_code, program_parser
from bench.paper_scale.accounting import reproduce
from bench.paper_scale.costs import by_depth, by_length, claims, costs
from bench.paper_scale.models import ADD, SWITCH
from bench.paper_scale.page import (
    CLAIM_HEADS,
    DEPTH_HEADS,
    PAPER_HEADS,
    PaperScale,
    claim_cells,
    cost_table,
    depth_cells,
    length_table,
    paper_cells,
    write_report,
)
from mpnp_ros.device import choose_device

PAIRS = (('OPT-1.3B', SWITCH), ('OPT-1.3B', ADD), ('OPT-2.7B', SWITCH), ('BLOOMZ-1.1B', SWITCH))


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print the tables and write them if requested; returns the exit code."""
    parser = program_parser('paper_scale', __doc__)
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu',
                        help='cuda: also run all steps on a GPU with random weights and show its peak memory')
    parser.add_argument('--output', type=Path, metavar='FOLDER',
                        help='folder for paper_scale.json, .md and .png')
    parser.add_argument('--quick', action='store_true', help='OPT-1.3B and one adaptation only')
    options = parser.parse_args(arguments)
    return exit_code('paper_scale', lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Count and print; write the page if requested."""
    choose_device(options.device)
    terminal = console(190)

    def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = terminal_table(title, heads, texts=2)
        for row in rows:
            table.add_row(*(cell.replace('**', '') for cell in row))
        terminal.print(table)

    began, found, ratios = time.process_time(), [], {}
    paper = reproduce()
    show('Accounting of the paper, 1e15 multiply-accumulates', PAPER_HEADS, paper_cells(paper))
    for model, task in PAIRS[:1] if options.quick else PAIRS:
        here = costs(model, task, options.device)
        ratios[model, task.name] = claims(here, task)
        found += here
        show(f'{model}, {task.name}', *cost_table(here))
        show('ours to theirs', CLAIM_HEADS, claim_cells(ratios[model, task.name]))
    first = [cost for cost in found if (cost.model, cost.adaptation) == (PAIRS[0][0], PAIRS[0][1].name)]
    depths = by_depth(*PAIRS[0], first, options.device)
    lengths = by_length(*PAIRS[0], first, options.device)
    show(f'ours by linked blocks, {PAIRS[0][0]}', DEPTH_HEADS, depth_cells(depths))
    show(f'ours to theirs by length, {PAIRS[0][0]}', *length_table(lengths))
    if options.output:
        counted = PaperScale(paper, found, depths, lengths, ratios, time.process_time() - began)
        terminal.print(f'written: {write_report(counted, options.output)}')


if __name__ == '__main__':
    sys.exit(main())
