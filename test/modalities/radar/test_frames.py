from __future__ import annotations

import numpy as np
import pytest

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.radar.frames import FIELDS, SOUND, RadarScan, radar_scan, usable_returns

KINDS = [(name, '<i2' if name == 'dyn_prop' else '<f4') for name in FIELDS]


def records(count, extra=(), order='<'):
    made = np.zeros(count, np.dtype([*KINDS, *((name, 'i1') for name in extra)]).newbyteorder(order))
    for place, name in enumerate(made.dtype.names):
        made[name] = place + np.arange(count)
    return made


@pytest.mark.parametrize('order', ['<', '>'])
def test_every_field_comes_to_its_place(order):
    scan = radar_scan(records(2, order=order), 'radar_front', 7, np.eye(3), np.zeros(3))
    assert scan.points.tolist() == [[0, 1, 2], [1, 2, 3]] and scan.points.dtype == np.float32
    assert scan.dyn_prop.tolist() == [3, 4] and scan.rcs.tolist() == [4, 5]
    assert scan.velocity.tolist() == [[5, 6], [6, 7]] and scan.compensated.tolist() == [[7, 8], [8, 9]]
    assert (scan.name, scan.stamp_ns) == ('radar_front', 7)


def test_points_that_the_radar_itself_doubts_are_left_out():
    doubted = records(4, SOUND)
    doubted['invalid_state'], doubted['ambig_state'] = [0, 1, 0, 0], [3, 3, 3, 4]
    assert radar_scan(doubted, 'radar').points[:, 0].tolist() == [0, 2]


def test_no_points_are_a_scan_too():
    scan = usable_returns(radar_scan(records(0, SOUND), 'radar'), 1.0)
    assert scan.points.shape == (0, 3) and scan.rcs.shape == (0,)


def test_what_is_near_or_not_finite_is_dropped():
    odd = records(6)
    odd['x'], odd['y'], odd['z'] = [0.5, 2, np.nan, 3, 4, 5], 0, 0
    odd['vx_comp'][3], odd['rcs'][4] = np.inf, np.nan
    assert usable_returns(radar_scan(odd, 'radar'), 1.0).points[:, 0].tolist() == [2, 5]


def test_arrays_that_do_not_fit_together_are_refused():
    scan = RadarScan(np.ones((2, 3)), np.ones((2, 2)), np.ones((3, 2)), np.ones(2), np.ones(2), name='odd')
    with pytest.raises(PointCloudError, match=r'odd: compensated has shape \[3, 2\]; expected \[2, 2\]'):
        usable_returns(scan, 1.0)
