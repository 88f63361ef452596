"""Measured numbers as the commands print them; what was not measured is a dash."""
from __future__ import annotations

import math
import sys
from collections.abc import Sequence

UNKNOWN = '-'
"""What was not measured."""


def percent(share: float | None) -> str:
    """A share in [0, 1], e.g. an accuracy."""
    return f'{100 * share:.1f} %' if _known(share) else UNKNOWN


def from_to(before: float | None, after: float | None) -> str:
    """How a share has changed."""
    return f'{percent(before)} -> {percent(after)}'


def seconds(value: float | None) -> str:
    """A time in seconds."""
    return f'{value:.0f} s' if _known(value) else UNKNOWN


def macs(value: float | None) -> str:
    """Multiply-accumulates, in units of 1e12."""
    return f'{value / 1e12:.2f} TMACs' if _known(value) else UNKNOWN


def megabytes(value: float | None) -> str:
    """Bytes, in units of 1e6."""
    return f'{value / 1e6:.1f} MB' if _known(value) else UNKNOWN


def print_table(cells: Sequence[Sequence[str]], heads: Sequence[str] = ()) -> None:
    """Print rows: in a terminal with lines and folded to its width, else aligned text, a line each."""
    if not sys.stdout.isatty():
        lines = [*([heads] if heads else []), *cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            print('  '.join(map(str.ljust, line, widths)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=bool(heads))
    for place in range(len(heads or cells[0])):
        table.add_column(heads[place] if heads else '', overflow='fold')
    for row in cells:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
