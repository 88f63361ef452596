"""Tables and pages: Markdown, the terminal, and the files of docs/results."""
from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path('docs/results')


def write_page(page: Path, text: str, results: object, draw: Callable[[Path], None]) -> Path:
    """Write a Markdown page, its results as JSON and its picture beside it; returns the path of the page."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.with_suffix('.json').write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')
    draw(page.with_suffix('.png'))
    page.write_text(text, encoding='utf-8')
    return page


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[object]], numbers: bool = False) -> str:
    """A Markdown table.  numbers: align all columns but the first on the right."""
    rule = ['---', *(['---:' if numbers else '---'] * (len(heads) - 1))]
    lines = [f'| {" | ".join(map(str, cells))} |' for cells in (heads, *rows)]
    return '\n'.join([lines[0], f'|{"|".join(rule)}|', *lines[1:]])


def terminal_table(title: str, heads: Sequence[str], texts: int = 1, no_wrap: bool = False) -> Table:
    """An empty table for the terminal.  texts: columns of text on the left; the others are numbers."""
    table = Table(title=title, title_justify='left')
    for place, head in enumerate(heads):
        table.add_column(head, justify='left' if place < texts else 'right', no_wrap=no_wrap)
    return table


def console(width: int) -> Console:
    """A console as wide as the terminal; width: columns where there is none."""
    return Console(width=None if sys.stdout.isatty() else width)
