"""What bench.idle reads of processes, and its page."""
from __future__ import annotations

import argparse
import subprocess
import sys
import time

import pytest

from bench.idle import (
    AFTER,
    BEFORE,
    SUPERVISOR,
    NodeStart,
    ProcessCost,
    ResidentMemory,
    descendants,
    spent,
    text,
)

BUSY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])
end = time.process_time() + .2
while time.process_time() < end: pass
for _ in range(20): time.sleep(.001)
print('done', flush=True)
time.sleep(60)
"""


@pytest.fixture
def busy():
    """A process that has computed for 0.2 s, has woken twenty times, and has a child; it sleeps."""
    process = subprocess.Popen([sys.executable, '-S', '-c', BUSY], stdout=subprocess.PIPE,
                               start_new_session=True)
    assert process.stdout.readline() == b'done\n'
    yield process.pid
    children = list(descendants(process.pid))
    process.kill()
    process.wait()
    for child in children:
        subprocess.run(['kill', str(child)], check=True)


def test_computing_and_wakeups_of_a_process_are_counted(busy):
    time.sleep(.05)  # until it sleeps
    seconds, wakeups = spent(busy)
    assert seconds >= .2 and wakeups >= 20
    assert spent(busy) == (seconds, wakeups), 'it sleeps'


def test_children_are_found_and_those_of_an_ended_process_are_none(busy):
    [child] = descendants(busy)
    assert list(descendants(child)) == []
    ended = subprocess.Popen(['true'])
    ended.wait()
    assert list(descendants(ended.pid)) == [] and spent(ended.pid) == (0., 0)


def test_memory_of_a_process_is_that_of_its_pages(busy):
    memory = ResidentMemory.of(busy)
    assert 0 < memory.own < memory.resident and memory.share < memory.resident


@pytest.mark.parametrize(('percent', 'verdict'), [(.9, '1.80 %, reached'), (1.1, '2.20 %, missed')])
def test_the_page_adds_the_processes_up_and_says_which_goals_are_reached(percent, verdict):
    def system(percent: float, resident: float) -> dict[str, ProcessCost]:
        memory = ResidentMemory(resident, resident / 2, resident / 4)
        cost = ProcessCost(percent, 10., memory, ResidentMemory(2 * resident, resident, resident))
        return {SUPERVISOR: cost, 'fusion': cost}

    starts = {'fusion': {BEFORE: [NodeStart(9., 6.)], AFTER: [NodeStart(8., 4.), NodeStart(99., 5.),
                                                              NodeStart(7., 3.)]}}
    options = argparse.Namespace(before='elsewhere', rounds=2, seconds=60., answering=30., starts=3)
    page = text(options, 1.5, {BEFORE: [system(5., 900.)], AFTER: [system(percent, 400.)]}, starts)
    assert verdict in page
    assert '| all | **10.00** |' in page
    assert '| fusion | 9.0 | 8.0 | 6.0 | 4.0 |' in page
    assert '| the nodes | **900** | **400** | **450** | **200** |' in page
    assert '4.0 s of computing, reached; 8.0 s beside' in page and '400 MB, reached' in page
    assert 'python -m bench.idle --before CHECKOUT --rounds 2 --seconds 60' in page and 'load of 1.5' in page
