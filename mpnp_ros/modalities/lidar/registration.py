"""Registration of the LiDAR."""
from __future__ import annotations

from mpnp_ros.endpoints import encoder_endpoints
from mpnp_ros.modalities.head_training import HeadInput, HeadTraining, PretrainingConfig, polar_network
from mpnp_ros.modalities.lidar.config import POLAR, LidarConfig
from mpnp_ros.modalities.lidar.dataset import lidar_frame, readings
from mpnp_ros.modalities.lidar.health import LidarLimits
from mpnp_ros.modalities.registry import DatasetReader, Encoder, Sensor


def build_encoder(config: LidarConfig) -> Encoder:
    """Load the weights and return the encoder: RangeViT if the backbone is a converted checkpoint."""
    from mpnp_ros.modalities.lidar.encoder import LidarEncoder, PolarEncoder
    from mpnp_ros.modalities.lidar.rangevit import RangeVitEncoder, is_rangevit
    if config.backbone == POLAR:
        return PolarEncoder(config)
    return RangeVitEncoder(config) if is_rangevit(config.backbone) else LidarEncoder(config)


def head_inputs(device: str) -> HeadInput:
    """Return the inputs of a head."""
    from mpnp_ros.modalities.lidar.head_input import LidarInput
    return LidarInput()


SENSOR = Sensor(
    'lidar', LidarConfig, build_encoder, LidarLimits,
    node='mpnp_ros.modalities.lidar.node:LidarNode', start_by_default=True,
    source_topics=('/lidar_top',), source_parameters={'topic': '/lidar_top'},
    endpoints=encoder_endpoints(
        'lidar', (('<topic>', 'sensor_msgs/msg/PointCloud2', 'sweeps'),), 'the sensor',
        'one message for each sweep, or for the newest if sweeps come faster'),
    dataset=DatasetReader(lidar_frame, readings),
    head=HeadTraining(head_inputs, polar_network, PretrainingConfig(
        epochs=16, batch=32, learning_rate=3e-3, dropout=0., hidden=16), {'backbone': POLAR}))
