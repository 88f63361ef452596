"""Registration of the LiDAR."""
from __future__ import annotations

from mpnp_ros.modalities.base import Encoder
from mpnp_ros.modalities.lidar.config import POLAR, LidarConfig
from mpnp_ros.modalities.lidar.health import LidarLimits
from mpnp_ros.modalities.registry import Sensor


def build_encoder(config: LidarConfig) -> Encoder:
    """Load the weights and return the encoder: RangeViT if the backbone is a converted checkpoint."""
    from mpnp_ros.modalities.lidar.encoder import LidarEncoder
    from mpnp_ros.modalities.lidar.polar_encoder import PolarEncoder
    from mpnp_ros.modalities.lidar.rangevit import RangeVitEncoder, is_rangevit
    if config.backbone == POLAR:
        return PolarEncoder(config)
    return RangeVitEncoder(config) if is_rangevit(config.backbone) else LidarEncoder(config)


SENSOR = Sensor('lidar', LidarConfig, build_encoder, LidarLimits)
