"""Registration of the IMU.

nuScenes has the readings of its IMU in the CAN bus expansion only; `mpnp world generate --sensors ... imu`
writes the same files.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from mpnp_ros.endpoints import encoder_endpoints
from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.imu.config import ImuConfig
from mpnp_ros.modalities.imu.frames import ImuFrame
from mpnp_ros.modalities.imu.health import ImuLimits
from mpnp_ros.modalities.registry import DatasetReader, Encoder, Sensor
from mpnp_ros.nuscenes.sensor_files import read_inertial
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading

if TYPE_CHECKING:
    from mpnp_ros.modalities.imu.network import MotionNetwork


def build_encoder(config: ImuConfig) -> Encoder:
    """Load the head and return the encoder."""
    from mpnp_ros.modalities.imu.encoder import ImuEncoder
    return ImuEncoder(config)


def motion_network(channels: Any, **shape: Any) -> MotionNetwork:
    """Return an untrained network of own motion."""
    from mpnp_ros.modalities.imu.network import MotionNetwork
    return MotionNetwork(channels, **shape)


def imu_frame(frame: KeyFrame) -> ImuFrame:
    """Return the readings of the scene up to a key frame, at least two.  Raises DatasetError if it has
    none.
    """
    if frame.imu is None:
        raise DatasetError(f'key frame {frame.token} has no readings of the IMU, which are in the CAN bus '
                           'expansion; unpack it into the root, or train without the IMU')
    readings = read_inertial(frame.imu.path)
    _, first = np.unique(readings.stamps_ns, return_index=True)
    before = int((readings.stamps_ns[first] <= frame.imu.stamp_ns).sum())
    part = first[:max(2, before)]  # of the first key frame nothing is known
    return ImuFrame('imu', readings.stamps_ns[part], readings.rotation[part], readings.acceleration[part],
                    readings.orientation[part], frame.imu.extrinsics.rotation)


def readings(frame: KeyFrame) -> Iterable[SensorReading]:
    """Return the file that :func:`imu_frame` reads."""
    return () if frame.imu is None else (frame.imu,)


SENSOR = Sensor(
    'imu', ImuConfig, build_encoder, ImuLimits, node='mpnp_ros.modalities.imu.node:ImuNode',
    source_topics=('/imu',), source_parameters={'topic': '/imu'},
    endpoints=encoder_endpoints('imu', (
        ('<topic>', 'sensor_msgs/msg/Imu',
         'readings at 10 to 1000 Hz, with or without gravity and orientation'),
    ), 'the IMU', 'one message for each period'), reads_like='motion',
    dataset=DatasetReader(imu_frame, readings),
    other_heads={'motion': motion_network})
