"""Messages of IMUs become readings, or are refused with the reason."""
from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from sensor_msgs.msg import Imu

from mpnp_ros.conversions.imu import to_reading
from mpnp_ros.errors import ImuError

pytestmark = pytest.mark.ros


def message(**orientation):
    """A message with different numbers everywhere."""
    built = Imu()
    for first, field in ((1, 'angular_velocity'), (4, 'linear_acceleration')):
        for place, axis in enumerate('xyz', first):
            setattr(getattr(built, field), axis, float(place))
    for axis in 'wxyz':
        setattr(built.orientation, axis, orientation.get(axis, 0.0))
    return built


def test_a_reading_has_the_numbers_of_its_message():
    assert to_reading(message(w=1.0, x=1.0)).tolist() == pytest.approx([
        1, 2, 3, 4, 5, 6, math.sqrt(0.5), math.sqrt(0.5), 0, 0])


@pytest.mark.parametrize('orientation', [{}, {'w': math.nan}, {'w': math.inf}, {'w': 9.0}])
def test_an_orientation_that_is_none_is_absent(orientation):
    reading = to_reading(message(**orientation))
    assert np.isnan(reading[6:]).all() and np.isfinite(reading[:6]).all()


def test_an_orientation_is_absent_where_its_covariance_says_so():
    built = message(w=1.0)
    built.orientation_covariance[0] = -1.0
    assert np.isnan(to_reading(built)[6:]).all()


@pytest.mark.parametrize('field', ['angular_velocity', 'linear_acceleration'])
def test_what_is_not_measured_is_refused_by_name(field):
    built = message(w=1.0)
    getattr(built, f'{field}_covariance')[0] = -1.0
    with pytest.raises(ImuError, match=f'{field} is absent'):
        to_reading(built)
    built = message(w=1.0)
    getattr(built, field).y = math.nan
    with pytest.raises(ImuError, match='NaN'):
        to_reading(built)
