"""Registration of detections."""
from __future__ import annotations

from mpnp_ros.endpoints import LATCHED, PUBLISHES, SENSOR_DATA, SUBSCRIBES, Endpoint
from mpnp_ros.modalities.detections.config import DetectionsConfig
from mpnp_ros.modalities.detections.health import DetectionsLimits
from mpnp_ros.modalities.registry import Encoder, Sensor

NODE = 'detections_encoder'


def build_encoder(config: DetectionsConfig) -> Encoder:
    """Return the encoder; there are no weights."""
    from mpnp_ros.modalities.detections.encoder import DetectionsEncoder
    return DetectionsEncoder(config)


SENSOR = Sensor(
    'detections', DetectionsConfig, build_encoder, DetectionsLimits,
    node='mpnp_ros.modalities.detections.node:DetectionsNode', reads_like='objects',
    endpoints=(
        Endpoint(NODE, SUBSCRIBES, '<topic>', 'vision_msgs/msg/Detection3DArray', 'boxes around the robot',
                 SENSOR_DATA),
        Endpoint(NODE, SUBSCRIBES, '<topic of boxes in images>', 'vision_msgs/msg/Detection2DArray',
                 'boxes in the images of a camera', SENSOR_DATA),
        Endpoint(NODE, SUBSCRIBES, '<camera_info_topic>', 'sensor_msgs/msg/CameraInfo',
                 'calibration of that camera', SENSOR_DATA),
        Endpoint(NODE, SUBSCRIBES, '<topic of markers>', 'visualization_msgs/msg/MarkerArray',
                 'boxes around the robot; only if a parameter names the topic', SENSOR_DATA),
        Endpoint(NODE, SUBSCRIBES, '<odometry_topic>', 'nav_msgs/msg/Odometry',
                 'pose of the robot, by which it is told what moves', SENSOR_DATA),
        Endpoint(NODE, SUBSCRIBES, '/tf', 'tf2_msgs/msg/TFMessage', 'the same', SENSOR_DATA),
        Endpoint(NODE, SUBSCRIBES, '/tf_static', 'tf2_msgs/msg/TFMessage', 'frames of the detectors',
                 LATCHED),
        Endpoint(NODE, PUBLISHES, 'encoders', 'mpnp_ros/msg/EncoderInfo',
                 'loaded encoder, its options that are not at their defaults, its topics', LATCHED),
        Endpoint(NODE, PUBLISHES, 'tokens/detections', 'mpnp_ros/msg/ModalityTokens',
                 'one message for each set of detections', SENSOR_DATA)))
