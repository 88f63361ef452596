"""Own motion and speeds over ground from a radar that measures along the line of sight only."""
from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError, PointCloudError
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.doppler import (
    MOVING,
    STATIONARY,
    UNKNOWN,
    doppler_records,
    doppler_scan,
    fields_of,
    folded,
    own_motion,
)
from mpnp_ros.modalities.radar.frames import radial_speed, usable_returns

FOLDED = 10.3


def street(seed: int, velocity: tuple[float, float], movers: float, span: float = math.inf,
           count: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points [N, 3], measured speeds [N] and speeds over ground [N]; some move."""
    rng = np.random.default_rng(seed)
    azimuth, far = rng.uniform(-1.2, 1.2, count), rng.uniform(4, 60, count)
    points = np.stack([far * np.cos(azimuth), far * np.sin(azimuth), rng.uniform(-.5, 2, count)], 1)
    rays = points / np.linalg.norm(points, axis=1)[:, None]
    over_ground = np.where(rng.random(count) < movers, rng.uniform(1, 4, count), 0.)
    return points, folded(over_ground - rays[:, :2] @ velocity + rng.normal(0, .03, count), span), over_ground


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(-5, 30), st.floats(-3, 3), st.sampled_from([FOLDED, math.inf]))
def test_what_stands_tells_motion_and_what_moves(seed: int, ahead: float, left: float, span: float) -> None:
    points, speed, over_ground = street(seed, (ahead, left), .25, span)
    rays = points / np.linalg.norm(points, axis=1)[:, None]
    motion = own_motion(rays[:, :2], speed, span)
    assert motion is not None and motion.share > .6
    np.testing.assert_allclose(motion.velocity, [ahead, left], atol=.1)
    scan = doppler_scan(points, speed, np.zeros(len(points)), span, name='front')
    assert ((scan.dyn_prop == MOVING) == (over_ground > 0)).mean() > .99
    flat = np.hypot(*points[:, :2].T) / np.linalg.norm(points, axis=1)
    seen = radial_speed(scan.points, scan.compensated)
    np.testing.assert_allclose(seen[flat > .99], over_ground[flat > .99], atol=.3)


def test_a_radar_at_the_side_tells_the_same_motion() -> None:
    points, speed, over_ground = street(1, (8., 0.), .2)
    turn = np.array([[0., -1, 0], [1, 0, 0], [0, 0, 1]])  # its x axis is left of the robot
    scan = doppler_scan(points @ turn, speed, np.zeros(len(points)), name='left', rotation=turn)
    assert ((scan.dyn_prop == MOVING) == (over_ground > 0)).mean() > .99


def test_where_points_do_not_agree_nothing_is_said_to_move() -> None:
    points, _, _ = street(2, (0., 0.), 0)
    noise = np.random.default_rng(3).uniform(-30, 30, len(points))
    for count in (len(points), 3):
        scan = doppler_scan(points[:count], noise[:count], np.zeros(count), name='front')
        assert (scan.dyn_prop == UNKNOWN).all() and not scan.compensated.any()
    assert len(doppler_scan(np.zeros((0, 3)), np.zeros(0), np.zeros(0), name='front').points) == 0


def test_points_that_are_no_numbers_stay_and_say_nothing() -> None:
    points, speed, _ = street(4, (5., 0.), 0)
    points[3], speed[7] = np.nan, np.inf
    rcs = np.full(len(points), np.nan)
    scan = doppler_scan(points, speed, rcs, name='front')
    assert (scan.dyn_prop == STATIONARY).sum() == len(points) - 2 and not scan.rcs.any()
    assert len(usable_returns(scan, 1.).points) == len(points) - 2
    with pytest.raises(PointCloudError, match=r'front: \[200, 3\] points have \[3\] speeds'):
        doppler_scan(points, speed[:3], np.zeros(3), name='front')


def test_fields_are_found_by_their_names() -> None:
    assert fields_of(['x', 'y', 'z', 'Doppler', 'SNR']) == ('doppler', 'snr')
    assert fields_of(['x', 'y', 'z', 'v_r']) == ('v_r',)
    assert fields_of(['x', 'y', 'z', 'intensity']) is None


def test_records_are_read_as_the_options_say() -> None:
    points, speed, _ = street(5, (6., 0.), .3, FOLDED)
    records = np.zeros(len(points), [(name, np.float32) for name in ('x', 'y', 'z', 'doppler', 'snr')])
    for axis, values in zip('xyz', points.T, strict=True):
        records[axis] = values
    records['doppler'], records['snr'] = -speed, 62
    config = RadarConfig(doppler_span=FOLDED, nearing_positive=True, power_offset=50.)
    scan = doppler_records(records, config, 'front', 7)
    whole = doppler_scan(points, speed, np.zeros(len(points)), FOLDED, name='front')
    np.testing.assert_array_equal(scan.dyn_prop, whole.dyn_prop)
    assert (scan.rcs == 12).all() and (scan.name, scan.stamp_ns) == ('front', 7)
    assert not doppler_records(records[['x', 'y', 'z', 'doppler']], config, 'front').rcs.any()


def test_a_short_span_is_refused() -> None:
    with pytest.raises(ConfigurationError, match='doppler_span is 0.9 m/s; it must be 0, or 3 or more'):
        RadarConfig(doppler_span=.9)
