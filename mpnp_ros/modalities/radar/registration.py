"""Registration of the radar."""
from __future__ import annotations

from mpnp_ros.modalities.base import Encoder
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.health import RadarLimits
from mpnp_ros.modalities.registry import Sensor


def build_encoder(config: RadarConfig) -> Encoder:
    """Load the head and return the encoder."""
    from mpnp_ros.modalities.radar.encoder import RadarEncoder
    return RadarEncoder(config)


SENSOR = Sensor('radar', RadarConfig, build_encoder, RadarLimits)
