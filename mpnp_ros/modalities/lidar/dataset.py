"""LiDAR sweeps of nuScenes key frames."""
from __future__ import annotations

from collections.abc import Iterable

from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.sweep import IntensityScale, LidarFrame
from mpnp_ros.nuscenes.sensor_files import read_lidar
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading


def lidar_frame(frame: KeyFrame) -> LidarFrame:
    """Return the LiDAR sweep of a key frame with its mounting and intensities up to 255, as in nuScenes.

    Raises DatasetError if it has none.
    """
    reading = frame.lidar
    if reading is None:
        raise DatasetError(f'key frame {frame.token} has no LiDAR sweep; train without the lidar')
    points, mounting = read_lidar(reading.path), reading.extrinsics
    intensity, _ = IntensityScale(LidarConfig.max_intensity).fit(points[:, 3])
    return LidarFrame(points[:, :3], intensity, mounting.rotation, mounting.translation,
                      reading.stamp_ns, reading.channel.lower())


def readings(frame: KeyFrame) -> Iterable[SensorReading]:
    """Return the file and calibration that :func:`lidar_frame` reads."""
    return [] if frame.lidar is None else [frame.lidar]
