"""Sets of approximately equal time, with a clock of the test's own."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.nodes.synchronizer import MAX_OPEN, Synchronizer

SLOP, TIMEOUT, ABSENT = 50, 150, 2000


class Bench:
    """A synchronizer and what it did; an item is (source, stamp)."""

    def __init__(self, sources='abc'):
        self.sets, self.superseded = [], []
        self.sync = Synchronizer(sources, SLOP, TIMEOUT, ABSENT, ready=self.sets.append,
                                 superseded=self.superseded.append)

    def add(self, source, stamp, now=None):
        self.sync.add(source, stamp, (source, stamp), stamp if now is None else now)


@pytest.fixture
def bench():
    return Bench()


def test_a_set_is_ready_with_its_last_item_in_the_order_of_the_sources(bench):
    for source, stamp in zip('cab', (100, 120, 150), strict=True):
        assert bench.sets == []
        bench.add(source, stamp)
    assert [list(group.items()) for group in bench.sets] == [
        [('a', ('a', 120)), ('b', ('b', 150)), ('c', ('c', 100))]]
    assert bench.superseded == []


def test_items_farther_apart_than_the_slop_are_never_paired(bench):
    for source, stamp in zip('abc', (100, 130, 151), strict=True):
        bench.add(source, stamp)
    assert bench.sets == []


def test_the_timeout_gives_the_partial_set(bench):
    bench.add('a', 100)
    bench.add('b', 110)
    bench.sync.poll(100 + TIMEOUT - 1)
    assert bench.sets == []
    bench.sync.poll(100 + TIMEOUT)
    assert [list(group) for group in bench.sets] == [['a', 'b']]


def test_an_absent_source_is_waited_for_at_first_and_then_no_more(bench):
    ready_at_once = []
    for stamp in range(0, 4000, 100):
        bench.add('a', stamp)
        before = len(bench.sets)
        bench.add('b', stamp + 1)
        ready_at_once.append(len(bench.sets) > before)
    assert not any(ready_at_once[:20]) and all(ready_at_once[20:])


def test_a_source_that_comes_back_is_waited_for_again(bench):
    for stamp in range(0, 4000, 100):
        bench.add('a', stamp)
        bench.add('b', stamp + 1)
    bench.add('c', 4000)
    bench.add('a', 4001)
    assert list(bench.sets[-1]) == ['a', 'b']
    bench.add('b', 4002)
    assert list(bench.sets[-1]) == ['a', 'b', 'c']


def test_a_newer_complete_set_supersedes_an_older_one(bench):
    bench.add('a', 0)
    for source in 'abc':
        bench.add(source, 100)
    assert len(bench.sets) == 1
    assert bench.superseded == [('a', 0)]


def test_a_straggler_does_not_become_a_set_of_its_own(bench):
    bench.add('a', 100)
    bench.add('b', 100)
    bench.sync.poll(100 + TIMEOUT)
    bench.add('c', 100, now=100 + TIMEOUT + 5)
    bench.sync.poll(100 + TIMEOUT + 5 + TIMEOUT - 10)
    assert len(bench.sets) == 1
    bench.add('a', 300, now=300)
    bench.add('b', 300, now=300)
    bench.sync.poll(300 + TIMEOUT)
    assert [sorted(group) for group in bench.sets] == [['a', 'b'], ['a', 'b']]
    assert bench.superseded == [('c', 100)]


def test_a_clock_that_is_wrong_pairs_with_nothing_and_stops_nobody(bench):
    for stamp in range(0, 3000, 100):
        bench.add('a', stamp)
        bench.add('b', stamp)
        bench.add('c', stamp + 2000, now=stamp)
        bench.sync.poll(stamp + 50)
    sets = [sorted(group) for group in bench.sets]
    assert sets.count(['a', 'b']) >= 27
    assert ['a', 'b', 'c'] not in sets


def test_time_that_jumps_back_starts_anew(bench):
    bench.add('a', 50_000)
    for source in 'abc':
        bench.add(source, 100)
    assert [list(group) for group in bench.sets] == [['a'], ['a', 'b', 'c']]


def test_one_source_is_never_delayed():
    bench = Bench('a')
    for stamp in (0, 100, 50):
        bench.add('a', stamp)
    assert [group['a'][1] for group in bench.sets] == [0, 100, 50]


def test_closing_supersedes_what_waits_and_what_still_comes(bench):
    bench.add('a', 0)
    bench.sync.close()
    bench.add('b', 0)
    assert bench.superseded == [('a', 0), ('b', 0)] and bench.sets == []


@given(st.lists(st.tuples(st.sampled_from('abc'), st.integers(0, 1500), st.integers(-300, 300)), max_size=80))
@settings(max_examples=150, deadline=None)
def test_every_item_ends_in_one_set_or_superseded_and_no_set_is_mispaired(events):
    bench = Bench()
    for number, (source, stamp, now) in enumerate(events):
        bench.sync.add(source, stamp, (source, stamp, number), stamp + now)
        waiting = number + 1 - len(bench.superseded) - sum(map(len, bench.sets))
        assert 0 <= waiting <= MAX_OPEN * 3
    bench.sync.close()
    ended = bench.superseded + [item for group in bench.sets for item in group.values()]
    assert sorted(item[2] for item in ended) == list(range(len(events)))
    for group in bench.sets:
        stamps = [item[1] for item in group.values()]
        assert max(stamps) - min(stamps) <= SLOP
        assert all(item[0] == source for source, item in group.items())


def test_sources_that_all_come_rarely_are_waited_for(bench):
    for stamp in range(0, 10 * ABSENT, ABSENT + 1000):
        for delay, source in enumerate('bca'):
            bench.add(source, stamp + delay, stamp)
    assert [list(group) for group in bench.sets] == [['a', 'b', 'c']] * len(bench.sets)
    assert len(bench.sets) == 7 and bench.superseded == []
