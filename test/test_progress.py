"""Progress: lines where there is no terminal, a bar where there is one."""
from __future__ import annotations

import io

from mpnp_ros.progress import progress


def test_lines_in_a_log_are_few_and_the_last_one_is_written():
    log = io.StringIO()
    with progress('links', stream=log) as show:
        for step in range(1, 301):
            show(step, 300, f'loss {1 / step:.2f}')
    lines = log.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0] == 'links: step 1 of 300, 0 s, loss 1.00'
    assert lines[1].startswith('links: step 300 of 300, ') and lines[1].endswith('loss 0.00')


def test_a_line_that_is_due_says_how_much_time_is_left():
    log = io.StringIO()
    with progress('encoding', 'key frame', stream=log, period=0.) as show:
        show(40, 80)
        show(60, 80)
    assert [line.split(', ')[0] for line in log.getvalue().splitlines()] == [
        'encoding: key frame 40 of 80', 'encoding: key frame 60 of 80']
    assert 'about 0 s left' in log.getvalue()


def test_nothing_is_shown_where_that_is_wanted_or_nothing_was_done():
    log = io.StringIO()
    with progress('links', quiet=True, stream=log) as show:
        show(1, 2, 'loss')
    with progress('links', stream=log):
        pass
    assert log.getvalue() == ''


def test_a_terminal_gets_a_bar(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(log, 'isatty', lambda: True)
    with progress('links', stream=log) as show:
        show(5, 10, 'loss 0.5')
    assert log.getvalue().startswith('\rlinks: ')
