"""Radars that show the surroundings and radars that do not."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.modalities.health import Health
from mpnp_ros.modalities.radar.frames import RadarFrame, RadarScan
from mpnp_ros.modalities.radar.health import RadarLimits
from mpnp_ros.modalities.registry import create_judge
from mpnp_ros.tokens import SECOND


def scan(count=40, nearest=3., farthest=90., name='front', stamp_ns=0):
    """Returns at ranges evenly between two, each with a speed."""
    rng = np.random.default_rng(0)
    azimuth, distance = rng.uniform(-1, 1, count), np.linspace(nearest, farthest, count)
    points = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), 0 * azimuth], axis=1)
    speeds = rng.normal(size=(count, 2))
    return RadarScan(points, speeds, speeds, np.zeros(count), np.ones(count), name=name, stamp_ns=stamp_ns)


def judged(*scans):
    return RadarLimits().judge().judge(RadarFrame(scans))


def silenced(scan):
    return replace(scan, velocity=np.zeros_like(scan.velocity))


def test_radars_that_see_are_good():
    assert judged(scan(), scan(name='back')) == Health(1.)


@pytest.mark.parametrize(('bad', 'concern'), [
    (scan(3), 'has few returns (3)'),
    (scan(0), 'has few returns (0)'),
    (scan(90, .1, 4), 'does not see far (95 % within 3.9 m)'),
    (silenced(scan()), 'has returns without speed (100%)'),
    (replace(scan(), rcs=np.repeat([0, np.nan], [8, 32])), 'has few usable points (20%)'),
])
def test_one_bad_radar_of_two_costs_up_to_half_and_is_named(bad, concern):
    said = judged(scan(name='back'), bad)
    assert .5 <= said.quality < .75
    assert said.concerns == (f'front {concern}',)


def test_a_robot_that_stands_sees_no_speeds():
    assert judged(silenced(scan()), silenced(scan(name='back'))) == Health(1.)


def test_a_radar_that_falls_silent_is_missed_until_it_is_back():
    judge = create_judge('radar', {'silent_after': 1.5})
    judge.judge(RadarFrame((scan(), scan(name='back'))))
    alone = [judge.judge(RadarFrame((scan(stamp_ns=second * SECOND),))) for second in (1, 2)]
    assert alone == [Health(1.), Health(.5, ('back is silent (2.0 s)',))]
    assert judge.judge(RadarFrame((scan(stamp_ns=3 * SECOND), scan(name='back')))) == Health(1.)


def test_time_that_begins_again_silences_nobody():
    judge = RadarLimits().judge()
    judge.judge(RadarFrame((scan(stamp_ns=90 * SECOND), scan(name='back', stamp_ns=90 * SECOND))))
    assert judge.judge(RadarFrame((scan(),))) == Health(1.)
    assert judge.judge(RadarFrame((scan(stamp_ns=SECOND),))) == Health(1.)
    assert judge.judge(RadarFrame((scan(stamp_ns=2 * SECOND),))).quality == .5
