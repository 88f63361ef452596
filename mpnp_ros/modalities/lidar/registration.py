"""Registration of the LiDAR: its node, its sweeps in nuScenes, and the training of its heads."""
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mpnp_ros.endpoints import encoder_endpoints, object_endpoints
from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.head_training import (
    HeadTraining,
    Inputs,
    PolarInput,
    PretrainingConfig,
    polar_network,
)
from mpnp_ros.modalities.lidar.config import POLAR, LidarConfig
from mpnp_ros.modalities.lidar.health import LidarLimits
from mpnp_ros.modalities.lidar.sweep import (
    FEATURES,
    GRID_VERSION,
    LATEST,
    IntensityScale,
    LidarFrame,
    earlier_of,
    polar_grid,
)
from mpnp_ros.modalities.registry import DatasetReader, Encoder, Sensor
from mpnp_ros.nuscenes.sensor_files import read_lidar
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading
from mpnp_ros.tokens import SECOND

if TYPE_CHECKING:
    from mpnp_ros.modalities.lidar.detection_network import DetectionNetwork


def build_encoder(config: LidarConfig) -> Encoder:
    """Load the weights and return the encoder: RangeViT if the backbone is a converted checkpoint.

    Of heads, the manifest says whether they count objects by direction or find single ones.
    """
    from mpnp_ros.modalities.heads import load_head
    from mpnp_ros.modalities.lidar.detection_encoder import LidarDetectionEncoder
    from mpnp_ros.modalities.lidar.encoder import LidarEncoder, PolarEncoder
    from mpnp_ros.modalities.lidar.rangevit import RangeVitEncoder, is_rangevit
    if config.backbone == POLAR:
        head = load_head(config.head, 'lidar')
        return (PolarEncoder if head.manifest.form == 'sectors' else LidarDetectionEncoder)(config, head)
    return RangeVitEncoder(config) if is_rangevit(config.backbone) else LidarEncoder(config)


def lidar_frame(frame: KeyFrame) -> LidarFrame:
    """Return the LiDAR sweep of a key frame with its mounting and intensities up to 255, as in nuScenes.

    The earlier sweep comes from an earlier key frame or from between key frames; there is none where no file
    of the right age is at hand.  Raises DatasetError if the key frame has no sweep.
    """
    sweeps = [_sweep(reading) for reading in readings(frame)]
    if not sweeps:
        raise DatasetError(f'key frame {frame.token} has no LiDAR sweep; train without the lidar')
    return replace(sweeps[0], earlier=sweeps[1] if len(sweeps) > 1 else None)


def _sweep(reading: SensorReading) -> LidarFrame:
    points, mounting = read_lidar(reading.path), reading.extrinsics
    intensity, _ = IntensityScale(LidarConfig.max_intensity).fit(points[:, 3])
    return LidarFrame(points[:, :3], intensity, mounting.rotation, mounting.translation,
                      reading.stamp_ns, reading.channel.lower())


def readings(frame: KeyFrame) -> list[SensorReading]:
    """Return the sweep of a key frame and the earlier one, if they are there.

    The extrinsics of the earlier one contain the motion of the vehicle.
    """
    newest = frame.lidar
    if newest is None:
        return []
    before = [reading for reading in frame.earlier(newest.channel, LATEST) if reading.path.is_file()]
    chosen = earlier_of([(newest.stamp_ns - reading.stamp_ns) / SECOND for reading in before])
    if chosen is None:
        return [newest]
    return [newest, replace(before[chosen], extrinsics=frame.to_base(before[chosen]))]


class LidarInput(PolarInput):
    """The polar grid of a sweep."""

    kind, version, features, config = 'lidar', GRID_VERSION, FEATURES, LidarConfig(backbone=POLAR)

    def grid(self, frame: KeyFrame, azimuths: int, ranges: int) -> np.ndarray:
        """See PolarInput."""
        return polar_grid(lidar_frame(frame), self.config, azimuths, ranges)


OWN_BODY = 2.5
"""Metres from a LiDAR on a roof within which points are of the vehicle itself."""


class LidarDetectionInput:
    """The grid of a sweep and an earlier one; see HeadInput."""

    kind, backbone = 'lidar', ''

    def __init__(self) -> None:
        from mpnp_ros.modalities.lidar.detection_grid import AZIMUTHS, PLANES, RANGES, VERSION
        self.version, self._config = VERSION, LidarConfig(backbone=POLAR, min_range=OWN_BODY)
        self.shape = {'features': PLANES, 'azimuths': AZIMUTHS, 'ranges': RANGES}
        self.options = {'min_range': self._config.min_range}

    def read(self, frame: KeyFrame) -> Inputs:
        """Return the grid in steps of 1/255, uint8."""
        import torch

        from mpnp_ros.modalities.lidar.detection_grid import STEPS, detection_grid
        grid = detection_grid(lidar_frame(frame), self._config)
        return {'grid': torch.from_numpy(np.round(grid * STEPS).astype(np.uint8))}


def untrained_detection_network(channels: Any, **shape: Any) -> DetectionNetwork:
    """Return an untrained network that finds objects."""
    from mpnp_ros.modalities.lidar.detection_network import detection_network
    return detection_network(channels, **shape)


SENSOR = Sensor(
    'lidar', LidarConfig, build_encoder, LidarLimits,
    node='mpnp_ros.modalities.lidar.node:LidarNode', start_by_default=True,
    source_topics=('/lidar_top',), source_parameters={'topic': '/lidar_top'},
    endpoints=encoder_endpoints(
        'lidar', (('<topic>', 'sensor_msgs/msg/PointCloud2', 'sweeps'),), 'the sensor',
        'one message for each sweep, or for the newest if sweeps come faster') + object_endpoints(
            'lidar', 'a head that finds objects'),
    reads_like='objects', dataset=DatasetReader(lidar_frame, readings),
    head=HeadTraining(lambda device: LidarInput(), polar_network, PretrainingConfig(
        epochs=16, batch=32, learning_rate=3e-3, dropout=0., hidden=16), {'backbone': POLAR}),
    detection_head=HeadTraining(
        lambda device: LidarDetectionInput(), untrained_detection_network, PretrainingConfig(
            epochs=12, batch=8, learning_rate=4e-3, weight_decay=.02, warm_up=.05, clip=5., hidden=24),
        {'backbone': POLAR}))
