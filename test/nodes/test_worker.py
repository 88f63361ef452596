"""The worker: newest wins, nothing is lost without a count, errors do not end it."""
from __future__ import annotations

import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.nodes.worker import Alarm, LatestWorker, MessageCounters

PATIENCE = 10


class Gate:
    """Work that can be held up."""

    def __init__(self):
        self.done, self.superseded, self.failed = [], [], []
        self.started, self.open = threading.Event(), threading.Event()
        self.open.set()
        self.worker = LatestWorker('test', self.work, superseded=self.superseded.append,
                                   failed=lambda item, error: self.failed.append((item, str(error))))

    def work(self, item):
        self.started.set()
        assert self.open.wait(PATIENCE)
        if item == 'bad':
            raise ValueError('no good')
        self.done.append(item)

    def hold(self, item):
        self.open.clear()
        self.started.clear()
        self.worker.submit(item)
        assert self.started.wait(PATIENCE)


def test_the_newest_item_wins():
    gate = Gate()
    gate.hold(0)
    for item in (1, 2, 3):
        assert gate.worker.submit(item)
    gate.open.set()
    assert gate.worker.wait_idle(PATIENCE)
    assert (gate.done, gate.superseded) == ([0, 3], [1, 2])
    assert gate.worker.stop(PATIENCE)


def test_an_error_is_reported_and_the_next_item_works():
    gate = Gate()
    gate.worker.submit('bad')
    assert gate.worker.wait_idle(PATIENCE)
    gate.worker.submit('good')
    assert gate.worker.wait_idle(PATIENCE)
    assert gate.failed == [('bad', 'no good')] and gate.done == ['good']
    gate.worker.stop()


def test_stopping_finishes_what_runs_and_supersedes_what_waits():
    gate = Gate()
    gate.hold(0)
    gate.worker.submit(1)
    assert not gate.worker.stop(0.01)
    gate.open.set()
    assert gate.worker.stop(PATIENCE)
    assert not gate.worker.submit(2)
    assert (gate.done, gate.superseded) == ([0], [1, 2])


@given(st.integers(1, 4), st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_every_item_of_many_threads_is_done_or_superseded(threads, each):
    gate = Gate()
    senders = [threading.Thread(target=lambda n=n: [gate.worker.submit((n, i)) for i in range(each)])
               for n in range(threads)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert gate.worker.wait_idle(PATIENCE)
    gate.worker.stop()
    assert sorted(gate.done + gate.superseded) == [(n, i) for n in range(threads) for i in range(each)]


@given(st.lists(st.sampled_from(['receive', 'encoded', 'superseded', 'rejected']), max_size=60))
def test_the_tally_always_adds_up(events):
    tally = MessageCounters(['/a'])
    for event in events:
        if event == 'receive':
            tally.receive('/a')
        elif tally.counts()['/a']['waiting']:
            tally.settle(['/a'], event)
        counts = tally.counts()['/a']
        assert counts['received'] == sum(counts.values()) - counts['received']
        assert counts['received'] <= events.count('receive')


def test_an_alarm_rings_when_it_is_due_and_sleeps_otherwise():
    due, rung, asked, failed = [], threading.Semaphore(0), [], []

    def ring():
        due.pop(0)
        rung.release()
        if len(due) == 1:
            raise ValueError('no good')

    def when():
        asked.append(1)
        return due[0] if due else None

    alarm = Alarm('test', when, ring, failed=failed.append)
    alarm.look()  # nothing is due
    due += [time.monotonic_ns(), time.monotonic_ns() + 20_000_000, time.monotonic_ns() + 40_000_000]
    alarm.look()
    for _ in range(3):
        assert rung.acquire(timeout=PATIENCE)
    assert not rung.acquire(timeout=.1)
    assert [str(error) for error in failed] == ['no good'] and len(asked) < 10
    alarm.stop()
    due.append(time.monotonic_ns())
    alarm.look()
    assert not rung.acquire(timeout=.1)


def test_an_alarm_that_was_set_late_rings_earlier_where_that_is_due():
    due, rung = [time.monotonic_ns() + 3600 * 10 ** 9], threading.Event()

    def ring():
        due.clear()
        rung.set()

    alarm = Alarm('test', lambda: due[0] if due else None, ring)
    alarm.look()
    due[0] = time.monotonic_ns()
    alarm.look()
    assert rung.wait(PATIENCE)
    alarm.stop()
