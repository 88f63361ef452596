"""Measured numbers and accuracies as text; unknown numbers are a dash."""
from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from mpnp_ros.training.evaluation import Accuracy, Share

UNKNOWN = '-'
"""Text of an unknown number."""


def finite(value: float) -> float | None:
    """Return a number, or None for one that JSON does not have."""
    return value if math.isfinite(value) else None


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


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def table(rows: Mapping[str, Accuracy]) -> str:
    """Return accuracies in per cent with 95 % Wilson intervals: overall, by type and by hops."""
    parts = {label: {**row.by_type, **{f'{hops} hop': share for hops, share in row.by_hops.items()}}
             for label, row in rows.items()}
    names = [*sorted({name for row in rows.values() for name in row.by_type}),
             *(f'{hops} hop' for hops in sorted({hops for row in rows.values() for hops in row.by_hops}))]
    lines = [f'{"":14} {"overall":>22} {"n":>6}  ' + _heads(names)]
    return '\n'.join(lines + [f'{label:14} {row.overall!s:>22} {row.n:>6}  ' + _cells(parts[label], names)
                              for label, row in rows.items()])


def condition_table(rows: Mapping[str, Accuracy]) -> str:
    """Return the same by light and weather with the numbers of questions; empty if all scenes are alike.

    Rows about other questions than the first one's are omitted.
    """
    names = sorted({name for row in rows.values() for name in row.by_condition})
    if len(names) <= 2:
        return ''
    numbers = {label: [row.by_condition[name].n if name in row.by_condition else 0 for name in names]
               for label, row in rows.items() if row.by_condition}
    first = next(iter(numbers.values()))
    shown = {label: rows[label].by_condition for label, counts in numbers.items() if counts == first}
    lines = [f'{"":14} {_heads(names)}', f'{"questions":14} ' + ' '.join(f'{count:>10}' for count in first)]
    return '\n'.join(lines + [f'{label:14} {_cells(row, names)}' for label, row in shown.items()])


def interval_table(rows: Mapping[str, Accuracy]) -> tuple[list[str], list[list[str]]]:
    """Return heads and cells: accuracies in per cent with 95 % intervals, overall, by type and by hops."""
    types = sorted({name for row in rows.values() for name in row.by_type})
    hops = sorted({number for row in rows.values() for number in row.by_hops})

    def cell(share: Share | None) -> str:
        if share is None:
            return UNKNOWN
        low, high = share.interval
        return f'{100 * share.value:.1f} [{100 * low:.0f}-{100 * high:.0f}]'

    return (['', 'questions', 'all', *types, *(f'{number} hop' for number in hops)],
            [[label, str(row.n), *map(cell, [row.overall, *map(row.by_type.get, types),
                                             *map(row.by_hops.get, hops)])]
             for label, row in rows.items()])


def _heads(names: list[str]) -> str:
    return ' '.join(f'{name:>10}' for name in names)


def _cells(shares: Mapping[str, Share], names: list[str]) -> str:
    return ' '.join(f'{100 * shares[name].value:10.1f}' if name in shares else f'{"-":>10}' for name in names)
