"""The sectors of tokens."""
from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.questions.vocabulary import RELATIONS, relation
from mpnp_ros.tokens import SECTORS, sector_azimuths, sector_of


def test_sectors_run_counter_clockwise_from_behind():
    degrees = np.degrees(sector_azimuths())
    assert np.allclose(degrees, -177.5 + 5 * np.arange(72), atol=1e-4)
    assert (sector_of(sector_azimuths()) == np.arange(SECTORS)).all()


@given(st.floats(-50, 50), st.integers(-3, 3))
def test_every_angle_has_the_sector_whose_centre_is_within_half_a_sector(angle, turns):
    sector = sector_of(np.array([angle + turns * 2 * np.pi]))[0]
    apart = np.angle(np.exp(1j * (angle - sector_azimuths()[sector])))
    assert abs(apart) <= np.pi / SECTORS + 1e-5


def test_no_sector_lies_in_two_of_the_six_directions():
    inside = np.radians(2.4)
    for azimuth in sector_azimuths():
        seen = {relation(np.cos(azimuth + off), np.sin(azimuth + off)) for off in (-inside, 0, inside)}
        assert len(seen) == 1 and seen <= set(RELATIONS)
