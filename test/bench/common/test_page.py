"""Tables and pages of the programs."""
from __future__ import annotations

import json

from bench.common.page import markdown_table, terminal_table, write_page


def test_a_markdown_table_has_a_line_a_row():
    assert markdown_table(['a', 'b'], [['x', 1], ['y', 2]]) == '| a | b |\n|---|---|\n| x | 1 |\n| y | 2 |'
    assert markdown_table(['a', 'b', 'c'], [], numbers=True) == '| a | b | c |\n|---|---:|---:|'


def test_a_terminal_table_has_texts_on_the_left():
    table = terminal_table('title', ['a', 'b', 'c'], texts=2)
    assert [column.justify for column in table.columns] == ['left', 'left', 'right']


def test_a_page_has_its_results_and_its_picture_beside_it(tmp_path):
    page = write_page(tmp_path / 'docs' / 'name.md', 'text', {'right': 1}, lambda path: path.touch())
    assert page.read_text() == 'text' and json.loads(page.with_suffix('.json').read_text()) == {'right': 1}
    assert page.with_suffix('.png').is_file()
