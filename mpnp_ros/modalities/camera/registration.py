"""Registration of the camera."""
from __future__ import annotations

from mpnp_ros.modalities.base import Encoder
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.health import CameraLimits
from mpnp_ros.modalities.registry import Sensor


def build_encoder(config: CameraConfig) -> Encoder:
    """Load the weights and return the encoder; with a head if the tokens are objects."""
    from mpnp_ros.modalities.camera.encoder import CameraEncoder
    from mpnp_ros.modalities.camera.object_encoder import CameraObjectEncoder
    return CameraObjectEncoder(config) if config.tokens == 'objects' else CameraEncoder(config)


SENSOR = Sensor('camera', CameraConfig, build_encoder, CameraLimits)
