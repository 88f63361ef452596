"""Formats of measured numbers; unknown ones are a dash."""
from __future__ import annotations

import math
import sys
from collections.abc import Sequence

UNKNOWN = '-'
"""Text of an unknown number."""


def percent(share: float | None) -> str:
    """Return a share in [0, 1] as per cent."""
    return f'{100 * share:.1f} %' if _known(share) else UNKNOWN


def from_to(before: float | None, after: float | None) -> str:
    """Return the change of a share."""
    return f'{percent(before)} -> {percent(after)}'


def seconds(value: float | None) -> str:
    """Return a time in seconds."""
    return f'{value:.0f} s' if _known(value) else UNKNOWN


def macs(value: float | None) -> str:
    """Return multiply-accumulates in units of 1e12."""
    return f'{value / 1e12:.2f} TMACs' if _known(value) else UNKNOWN


def megabytes(value: float | None) -> str:
    """Return bytes in units of 1e6."""
    return f'{value / 1e6:.1f} MB' if _known(value) else UNKNOWN


def print_table(cells: Sequence[Sequence[str]], heads: Sequence[str] = ()) -> None:
    """Print rows: on a terminal as a table folded to its width, otherwise as aligned lines."""
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
