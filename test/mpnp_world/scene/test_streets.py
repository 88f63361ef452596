"""Maps: cross sections, junctions, kerbs, and lanes that hang together."""
from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_world.scene.lanes import LaneNetwork, curve
from mpnp_world.scene.streets import ALL_RED, SignalCycle, Street, draw_map

seeds = st.integers(0, 10_000)

times = st.floats(0, 500)
cycles = st.integers(0, 1000).map(lambda seed: SignalCycle.draw(np.random.default_rng(seed)))


def angle_between(first: float, other: float) -> float:
    """Radians, 0..pi."""
    return abs(math.remainder(first - other, math.tau))


def test_traffic_keeps_right_on_both_axes() -> None:
    """The first lane of each way lies to the right of the middle line."""
    for street in (Street(True, 5.0, -50.0, 50.0, 2), Street(False, 5.0, -50.0, 50.0, 2)):
        for way in (1, -1):
            x, y = street.point(0.0, street.lane_offset(way, 0))
            centre = street.point(0.0, 0.0)
            yaw = street.yaw(way)
            left = -math.sin(yaw) * (x - centre[0]) + math.cos(yaw) * (y - centre[1])
            assert left == pytest.approx(-1.75)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_lanes_join_without_a_gap_or_a_kink(seed: int) -> None:
    """A way ends where, and in the direction in which, the next one begins."""
    network = LaneNetwork(draw_map(np.random.default_rng(seed)))
    for lane in network.lanes:
        for following in lane.successors:
            end, start = lane.path.at(lane.length), following.path.at(0.0)
            assert math.dist(end[:2], start[:2]) < .15
            assert angle_between(end[2], start[2]) < .1


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_every_lane_leads_off_the_map(seed: int) -> None:
    """A lane ends at a junction with ways onward, or at the end of the map."""
    streets = draw_map(np.random.default_rng(seed))
    for lane in LaneNetwork(streets).lanes:
        if lane.kind == 'lane':
            assert bool(lane.successors) == (lane.junction is not None)
        else:
            assert [onward.kind for onward in lane.successors] == ['lane']
    assert {lane.kind for lane in LaneNetwork(streets).lanes} == {'lane', 'straight', 'left', 'right'}


def test_a_curve_keeps_its_pace() -> None:
    """Equal arc lengths are equal distances, and the heading turns all the time in one direction."""
    path = curve((0.0, 0.0, 0.0), (12.0, 15.0, math.pi / 2))
    poses = [path.at(s) for s in np.linspace(0, path.length, 60).tolist()]
    steps = [math.dist(a[:2], b[:2]) for a, b in zip(poses, poses[1:], strict=False)]
    assert max(steps) - min(steps) < .02 * max(steps)
    assert all(b[2] >= a[2] for a, b in zip(poses, poses[1:], strict=False))
    assert math.dist(poses[-1][:2], (12.0, 15.0)) < .1


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_kerbs_leave_the_junctions_open(seed: int) -> None:
    """No kerb reaches into the street that crosses."""
    streets = draw_map(np.random.default_rng(seed))
    for kerb in streets.kerbs():
        assert kerb.end > kerb.start
        for junction in streets.junctions_on(kerb.street):
            centre, half = junction.centre(kerb.street), junction.half(kerb.street)
            assert kerb.end <= centre - half + 1e-6 or kerb.start >= centre + half - 1e-6


@given(cycles, times)
def test_one_street_is_red(cycle: SignalCycle, time: float) -> None:
    """At any time at least one of both is red."""
    assert 'red' in (cycle.colour(True, time), cycle.colour(False, time))


@given(cycles, times, st.booleans())
def test_the_next_green_comes_at_once_after_red(cycle: SignalCycle, time: float, along_x: bool) -> None:
    """It is green from then on, and red just before; the other street has been red for a moment."""
    green = cycle.next_green(along_x, time)
    assert time <= green <= time + cycle.period
    assert cycle.colour(along_x, green + .01) == 'green'
    assert cycle.colour(along_x, green - .01) == 'red'
    assert cycle.colour(not along_x, green - ALL_RED / 2) == 'red'


def test_green_yellow_red() -> None:
    """The colours follow each other."""
    cycle = SignalCycle((10.0, 8.0), 0.0)
    assert [cycle.colour(True, time) for time in (0, 9.9, 10.1, 13.1, 26.9)] == \
        ['green', 'green', 'yellow', 'red', 'red']
    assert cycle.period == pytest.approx(27.0)
