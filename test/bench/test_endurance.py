"""The endurance program's parts: what is planned, what counts as good, what is shown; no processes."""
from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
from rich.console import Console

from bench.endurance.__main__ import (
    HANDED,
    POINTS,
    TRAINING,
    UNPLUGGED,
    Kill,
    Point,
    plan,
    tables,
    thorough,
)
from bench.endurance.robot import object_snapshots
from mpnp_ros.cli.node_processes import FUSION
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import SECTORS


@pytest.mark.parametrize(('cycles', 'kills'), [(1, 3), (3, 4), (20, 10), (20, 12), (7, 25)])
def test_every_kill_has_a_cycle_in_which_it_can_happen(cycles: int, kills: int):
    planned = plan(cycles, kills)
    assert len(planned) == cycles
    assert Counter(point for points in planned for point in points) == Counter(
        POINTS[number % len(POINTS)] for number in range(kills))
    assert all(thorough(cycle, cycles) for cycle, points in enumerate(planned)
               for point in points if point.phase == TRAINING)


def test_ten_kills_hit_all_processes_in_all_phases():
    first = POINTS[:10]
    assert {point.victim for point in first} == {point.victim for point in POINTS}
    assert {point.phase for point in first} == {point.phase for point in POINTS}
    assert len(set(POINTS)) == len(POINTS)


def test_every_fifth_cycle_trains_and_the_last():
    assert [cycle for cycle in range(12) if thorough(cycle, 12)] == [4, 9, 11]


@pytest.mark.parametrize(('after', 'good'), [
    (None, False), ({}, False), ({'camera': '000001', 'lidar': '000001'}, False),
    ({'camera': '000001', 'lidar': '000002'}, True), ({'camera': '000001', 'lidar': '000003'}, True)])
def test_what_came_back_has_the_last_good_links(after: dict[str, str] | None, good: bool):
    before = {'camera': '000001', 'lidar': '000002', 'radar': ''}
    assert Kill(1, Point(HANDED, FUSION), before, 0., 1, 2., after).good is good


def test_snapshots_are_sectors_with_questions():
    seen = object_snapshots()
    assert {snapshot.values.shape for snapshot in seen} == {(SECTORS, len(CHANNELS))}
    assert all(np.isfinite(snapshot.values).all() and len(snapshot.questions) > 40 for snapshot in seen)


def test_tables_name_what_was_killed_and_what_came_of_it():
    facts = {'cycles': 2, 'seconds': 60., 'asked': 12, 'ok': 10, 'rejected': 1, 'failed': 0, 'unheard': 1,
             'lost': ['q1'], 'doubled': 0, 'torn': [], 'p50_ms': 90., 'p95_ms': 200.,
             'kills': [{'cycle': 1, 'point': {'phase': UNPLUGGED, 'victim': FUSION}, 'seconds': 6.5,
                        'before': {'lidar': '000002', 'camera': '000001'}, 'after': None, 'good': False}]}
    console = Console(file=io.StringIO(), width=140)
    for table in tables(facts):
        console.print(table)
    text = console.file.getvalue()
    for part in ('2 cycles in 60 s', UNPLUGGED, FUSION, '6.5 s', 'camera=1 lidar=2', 'BAD'):
        assert part in text
