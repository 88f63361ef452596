"""Registration of the LiDAR: its node, its sweeps in nuScenes, and the training of its heads."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mpnp_ros.endpoints import encoder_endpoints
from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.head_training import HeadTraining, PolarInput, PretrainingConfig, polar_network
from mpnp_ros.modalities.lidar.config import POLAR, LidarConfig
from mpnp_ros.modalities.lidar.health import LidarLimits
from mpnp_ros.modalities.lidar.sweep import FEATURES, GRID_VERSION, IntensityScale, LidarFrame, polar_grid
from mpnp_ros.modalities.registry import DatasetReader, Encoder, Sensor
from mpnp_ros.nuscenes.sensor_files import read_lidar
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading


def build_encoder(config: LidarConfig) -> Encoder:
    """Load the weights and return the encoder: RangeViT if the backbone is a converted checkpoint."""
    from mpnp_ros.modalities.lidar.encoder import LidarEncoder, PolarEncoder
    from mpnp_ros.modalities.lidar.rangevit import RangeVitEncoder, is_rangevit
    if config.backbone == POLAR:
        return PolarEncoder(config)
    return RangeVitEncoder(config) if is_rangevit(config.backbone) else LidarEncoder(config)


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


class LidarInput(PolarInput):
    """The polar grid of a sweep."""

    kind, version, features, config = 'lidar', GRID_VERSION, FEATURES, LidarConfig(backbone=POLAR)

    def grid(self, frame: KeyFrame, azimuths: int, ranges: int) -> np.ndarray:
        """See PolarInput."""
        return polar_grid(lidar_frame(frame), self.config, azimuths, ranges)


SENSOR = Sensor(
    'lidar', LidarConfig, build_encoder, LidarLimits,
    node='mpnp_ros.modalities.lidar.node:LidarNode', start_by_default=True,
    source_topics=('/lidar_top',), source_parameters={'topic': '/lidar_top'},
    endpoints=encoder_endpoints(
        'lidar', (('<topic>', 'sensor_msgs/msg/PointCloud2', 'sweeps'),), 'the sensor',
        'one message for each sweep, or for the newest if sweeps come faster'),
    dataset=DatasetReader(lidar_frame, readings),
    head=HeadTraining(lambda device: LidarInput(), polar_network, PretrainingConfig(
        epochs=16, batch=32, learning_rate=3e-3, dropout=0., hidden=16), {'backbone': POLAR}))
