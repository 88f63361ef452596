"""What goes when a buffer is full."""
from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.adaptation.replay_buffer import RECENT, UNASKED, Holding, Limits, retained
from mpnp_ros.errors import ConfigurationError

cells = st.sampled_from([('labelled', 'count', str(n)) for n in range(6)])
moments = st.lists(st.tuples(st.integers(1, 30), st.lists(cells, max_size=8)), max_size=40)


def holdings(entries: list[tuple[int, list]]) -> list[Holding]:
    """Moments every tenth of a second."""
    return [Holding(10 ** 8 * place, size, tuple(asked)) for place, (size, asked) in enumerate(entries)]


def units(held: list[Holding], kept: dict[int, tuple[int, ...]]) -> Counter:
    """Questions of each cell that are kept."""
    return Counter(cell for one in held if one.stamp_ns in kept
                   for cell in ([one.cells[at] for at in kept[one.stamp_ns]] if one.cells else [UNASKED]))


@settings(deadline=None)
@given(moments, st.integers(1, 400), st.integers(1, 150))
def test_never_more_than_the_limits(entries, size, questions):
    held = holdings(entries)
    kept = retained(held, Limits(size, questions))
    assert sum(one.size for one in held if one.stamp_ns in kept) <= size
    assert units(held, kept).total() <= questions
    assert all(kept[one.stamp_ns] for one in held if one.cells and one.stamp_ns in kept)


@settings(deadline=None)
@given(moments, st.integers(1, 150))
def test_rare_cells_keep_all_and_the_others_are_shared_out_evenly(entries, questions):
    held = holdings(entries)
    before = Counter(cell for one in held for cell in one.units)
    after = units(held, retained(held, Limits(10 ** 9, questions)))
    quota = int((1 - RECENT) * questions) // max(1, len(before))
    assert all(after[cell] == count for cell, count in before.items() if count <= quota)
    assert all(after[cell] >= quota for cell, count in before.items() if count > quota)


@settings(deadline=None)
@given(moments)
def test_nothing_goes_while_there_is_room(entries):
    held = holdings(entries)
    room = Limits(max(1, sum(one.size for one in held)), max(1, sum(len(one.units) for one in held)))
    assert retained(held, room) == {one.stamp_ns: tuple(range(len(one.cells))) for one in held}


@settings(deadline=None, max_examples=50)
@given(moments, st.integers(1, 40), st.integers(1, 150), st.randoms())
def test_the_order_in_which_moments_come_does_not_matter(entries, size, questions, rng):
    held = holdings(entries)
    mixed = rng.sample(held, len(held))
    limits = Limits(10 * size, questions)
    assert retained(held, limits) == retained(mixed, limits)


def test_bytes_too_are_shared_by_common_and_rare_cells():
    day, night = ('exist', 'day'), ('exist', 'night')
    held = [Holding(place, 10, (night if place % 50 == 0 else day,)) for place in range(1000)]
    kept = units(held, retained(held, Limits(1000, 10 ** 6)))
    assert kept[night] == 20 and kept[day] == 80


def test_what_is_kept_is_spread_over_all_the_time_with_the_newest_whole():
    held = [Holding(place, 1, (('count', '1'),)) for place in range(1000)]
    kept = set(retained(held, Limits(10 ** 6, 100)))
    assert set(range(975, 1000)) <= kept and len(kept) == 100
    assert all(5 <= len(kept & set(range(start, start + 195))) <= 30 for start in range(0, 975, 195))


def test_a_buffer_that_may_hold_nothing_is_refused():
    with pytest.raises(ConfigurationError, match='is too small'):
        Limits(bytes=0)
