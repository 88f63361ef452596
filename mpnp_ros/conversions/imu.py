"""``sensor_msgs/Imu`` to numpy."""
from __future__ import annotations

import numpy as np
from sensor_msgs.msg import Imu

from mpnp_ros.errors import ImuError

ABSENT = -1.0
"""First element of the covariance of what an IMU does not measure (REP 145)."""
WIDTH = 10
"""Numbers of a reading."""
LIMITS = np.repeat([200., 2000.], 3)
"""Rotation rates, radians/second, and accelerations, metres/second^2, that no robot reaches."""


def to_reading(message: Imu) -> np.ndarray:
    """Return a reading, float64 [WIDTH]: rotation rate, acceleration, and orientation (w, x, y, z).

    The orientation is NaN where it is absent: by its covariance, or not a rotation.  Raises ImuError where
    rotation rate or acceleration is absent, or not finite.
    """
    turn, push, facing = message.angular_velocity, message.linear_acceleration, message.orientation
    for name, covariance in (('angular_velocity', message.angular_velocity_covariance),
                             ('linear_acceleration', message.linear_acceleration_covariance)):
        if covariance[0] == ABSENT:
            raise ImuError(f'{name} is absent (covariance -1); an IMU that measures both is needed')
    reading = np.array([turn.x, turn.y, turn.z, push.x, push.y, push.z,
                        facing.w, facing.x, facing.y, facing.z])
    if not np.isfinite(reading[:6]).all():
        raise ImuError('a rotation rate or acceleration is NaN or Inf')
    if (np.abs(reading[:6]) > LIMITS).any():
        raise ImuError(f'a rotation rate is beyond {LIMITS[0]:g} rad/s or an acceleration beyond '
                       f'{LIMITS[3]:g} m/s^2; look for a wrong unit in the driver')
    length = float(np.linalg.norm(reading[6:]))
    if message.orientation_covariance[0] == ABSENT or not 0.5 < length < 2:
        reading[6:] = np.nan
    else:
        reading[6:] /= length
    return reading
