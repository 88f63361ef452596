from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.geometry import (
    azimuth_of,
    check_rotation,
    heading_of,
    wrap_azimuth,
)


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
