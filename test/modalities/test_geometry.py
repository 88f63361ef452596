from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.geometry import (
    SECTORS,
    azimuth_of,
    check_rotation,
    heading_of,
    sector_azimuths,
    sector_of,
    wrap_azimuth,
)
from mpnp_ros.questions.vocabulary import RELATIONS, relation


@given(st.floats(-50, 50))
def test_an_azimuth_is_the_angle_within_minus_pi_and_pi(angle):
    found = azimuth_of(np.array([[np.cos(angle), np.sin(angle), 0.4]]))[0]
    assert found.dtype == np.float32 and np.float32(-np.pi) < found <= np.float32(np.pi)
    assert abs(np.exp(1j * found) - np.exp(1j * angle)) < 1e-5
    assert abs(np.exp(1j * wrap_azimuth(np.array([angle]))[0]) - np.exp(1j * found)) < 1e-5


@pytest.mark.parametrize('angle', [-np.pi, np.pi, -3 * np.pi, np.nextafter(-np.pi, 0)])
def test_straight_behind_is_plus_pi(angle):
    assert wrap_azimuth(np.array([angle]))[0] == np.float32(np.pi)
    assert azimuth_of(np.array([[-1.0, -0.0, 0.0]]))[0] == np.float32(np.pi)


def test_straight_up_and_down_have_no_azimuth():
    assert np.isnan(azimuth_of(np.array([[0, 0, 1], [1e-9, 0, -1]]))).all()


@given(st.floats(-3, 3))
def test_heading_is_the_yaw_of_the_x_axis(yaw):
    cos, sin = np.cos(yaw), np.sin(yaw)
    assert heading_of(np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])) == pytest.approx(yaw)


@pytest.mark.parametrize('matrix', [np.zeros((3, 3)), np.eye(4), np.diag([1, 1, -1]),
                                    np.full((3, 3), np.nan)])
def test_what_is_not_a_rotation_is_refused_by_the_name_of_its_owner(matrix):
    with pytest.raises(ImageError, match='left eye'):
        check_rotation(matrix, 'left eye', ImageError)


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
