"""Accuracies as text: by type of question and number of hops, by light and weather."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpnp_ros.adaptation.evaluation import Accuracy, Share


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


def _heads(names: list[str]) -> str:
    return ' '.join(f'{name:>10}' for name in names)


def _cells(shares: Mapping[str, Share], names: list[str]) -> str:
    return ' '.join(f'{100 * shares[name].value:10.1f}' if name in shares else f'{"-":>10}' for name in names)
