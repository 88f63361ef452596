"""Jobs in processes of their own, and results that are kept."""
from __future__ import annotations

from bench.common.jobs import Job, Workers, kept


def test_a_result_that_is_on_disk_is_not_measured_again(tmp_path):
    path, measured = tmp_path / 'result.json', iter([{'right': [1, 0]}])
    assert [kept(path, lambda: next(measured)) for _ in range(2)] == [{'right': [1, 0]}] * 2


def test_a_job_that_fails_says_why_and_others_are_done(tmp_path, capfd):
    missing = str(tmp_path / 'missing.json')
    (tmp_path / 'good').mkdir()
    (tmp_path / 'in.json').write_text('{}')
    bad = Job('bad', tmp_path / 'bad', ('json.tool', missing))
    good = Job('good', tmp_path / 'good', ('json.tool', str(tmp_path / 'in.json'),
                                           str(tmp_path / 'good' / 'result.json')))
    workers = Workers(1, lambda: False)
    workers.work([bad, good])
    assert good.result.is_file() and set(workers.failed) == {'bad'} and missing in workers.failed['bad']
    workers.work([good])
    assert capfd.readouterr().out.count('good: started') == 1


def test_jobs_end_where_they_are_stopped_and_none_begins_after(tmp_path):
    pressed = iter([False, False, False])
    command = ('timeit', '-n', '1', '-r', '1', 'import time; time.sleep(900)')
    sleeping, waiting = (Job(name, tmp_path / name, command) for name in ('sleeping', 'waiting'))
    workers = Workers(1, lambda: next(pressed, True))
    workers.work([sleeping, waiting])
    assert not workers.failed and not sleeping.result.exists() and not waiting.folder.exists()
