"""Registration of the radar."""
from __future__ import annotations

from mpnp_ros.endpoints import encoder_endpoints
from mpnp_ros.modalities.head_training import HeadInput, HeadTraining, PretrainingConfig, polar_network
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.dataset import radar_frame, readings
from mpnp_ros.modalities.radar.health import RadarLimits
from mpnp_ros.modalities.registry import DatasetReader, Encoder, Sensor


def build_encoder(config: RadarConfig) -> Encoder:
    """Load the head and return the encoder."""
    from mpnp_ros.modalities.radar.encoder import RadarEncoder
    return RadarEncoder(config)


def head_inputs(device: str) -> HeadInput:
    """Return the inputs of a head."""
    from mpnp_ros.modalities.radar.head_input import RadarInput
    return RadarInput()


SENSOR = Sensor(
    'radar', RadarConfig, build_encoder, RadarLimits,
    node='mpnp_ros.modalities.radar.node:RadarNode',
    source_topics=('/radar_front',),
    source_parameters={
        'radars': ['radar_front', 'radar_front_left', 'radar_front_right', 'radar_back_left',
                   'radar_back_right'],
        'topic': '/{radar}'},
    endpoints=encoder_endpoints('radar', (
        ('<topic>', 'sensor_msgs/msg/PointCloud2',
         'one for each radar, with the fields x y z dyn_prop rcs vx vy vx_comp vy_comp of nuScenes'),
    ), 'the radars', 'one message for each set of scans'),
    dataset=DatasetReader(radar_frame, readings),
    head=HeadTraining(head_inputs, polar_network, PretrainingConfig(
        epochs=16, batch=32, learning_rate=3e-3, dropout=.1, hidden=16)))
