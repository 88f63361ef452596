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

from rich.console import Console
from rich.table import Table

from bench.paper_scale.accounting import reproduce
from bench.paper_scale.claims import claims
from bench.paper_scale.costs import by_depth, costs
from bench.paper_scale.models import ADD, SWITCH
from bench.paper_scale.page import (
    CLAIM_HEADS,
    DEPTH_HEADS,
    PAPER_HEADS,
    Found,
    claim_cells,
    cost_table,
    depth_cells,
    paper_cells,
    write_page,
)
from mpnp_ros.device import choose_device
from mpnp_ros.errors import MpnpError

PAIRS = (('OPT-1.3B', SWITCH), ('OPT-1.3B', ADD), ('OPT-2.7B', SWITCH), ('BLOOMZ-1.1B', SWITCH))
NUMBERS = 2
"""Number of text columns on the left of a table; the others are numbers."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print the tables and write them if requested; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        choose_device(options.device)
        _run(options, Console(width=None if sys.stdout.isatty() else 190))
    except MpnpError as error:
        print(f'paper_scale: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(options: argparse.Namespace, console: Console) -> None:
    began, found, ratios = time.process_time(), [], {}
    paper = reproduce()
    _show(console, 'Accounting of the paper, 1e15 multiply-accumulates', PAPER_HEADS, paper_cells(paper))
    for model, task in PAIRS[:1] if options.quick else PAIRS:
        here = costs(model, task, options.device)
        ratios[model, task.name] = claims(here, task)
        found += here
        _show(console, f'{model}, {task.name}', *cost_table(here))
        _show(console, 'ours to theirs', CLAIM_HEADS, claim_cells(ratios[model, task.name]))
    depths = by_depth(*PAIRS[0], options.device)
    _show(console, f'ours by linked blocks, {PAIRS[0][0]}', DEPTH_HEADS, depth_cells(depths))
    if options.output:
        counted = Found(paper, found, depths, ratios, time.process_time() - began)
        console.print(f'written: {write_page(counted, options.output)}')


def _show(console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify='left')
    for place, head in enumerate(heads):
        table.add_column(head, justify='left' if place < NUMBERS else 'right')
    for row in rows:
        table.add_row(*(cell.replace('**', '') for cell in row))
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m bench.paper_scale', description=__doc__.splitlines()[0])
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu',
                        help='cuda: also run all steps on a GPU with random weights and show its peak memory')
    parser.add_argument('--output', type=Path, metavar='FOLDER',
                        help='folder for paper_scale.json, .md and .png')
    parser.add_argument('--quick', action='store_true', help='OPT-1.3B and one adaptation only')
    return parser


if __name__ == '__main__':
    sys.exit(main())
