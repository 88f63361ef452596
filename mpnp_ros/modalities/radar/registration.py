"""Registration of the radar: its node, its scans in nuScenes, and the training of its heads."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mpnp_ros.endpoints import encoder_endpoints
from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.head_training import HeadTraining, PolarInput, PretrainingConfig, polar_network
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.frames import FEATURES, GRID_VERSION, RadarFrame, polar_grid, radar_scan
from mpnp_ros.modalities.radar.health import RadarLimits
from mpnp_ros.modalities.registry import DatasetReader, Encoder, Sensor
from mpnp_ros.nuscenes.sensor_files import read_radar
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading


def build_encoder(config: RadarConfig) -> Encoder:
    """Return the encoder; that of counts loads its head."""
    from mpnp_ros.modalities.radar.encoder import RadarEncoder
    from mpnp_ros.modalities.radar.moving import RadarMovingEncoder
    return RadarMovingEncoder(config) if config.tokens == 'moving' else RadarEncoder(config)


def radar_frame(frame: KeyFrame) -> RadarFrame:
    """Return the radar scans of a key frame with their mountings.  Raises DatasetError if it has none."""
    if not frame.radars:
        raise DatasetError(f'key frame {frame.token} has no radar scan; train without the radar')
    return RadarFrame(tuple(
        radar_scan(read_radar(item.path), name.lower(), item.stamp_ns, item.extrinsics.rotation,
                   item.extrinsics.translation) for name, item in frame.radars.items()))


def readings(frame: KeyFrame) -> Iterable[SensorReading]:
    """Return the files and calibrations that :func:`radar_frame` reads."""
    return frame.radars.values()


class RadarInput(PolarInput):
    """The polar grid of the scans of all radars."""

    kind, version, features, config = 'radar', GRID_VERSION, FEATURES, RadarConfig()

    def grid(self, frame: KeyFrame, azimuths: int, ranges: int) -> np.ndarray:
        """See PolarInput."""
        return polar_grid(radar_frame(frame), self.config, azimuths, ranges)


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
         'one for each radar, with the fields x y z dyn_prop rcs vx vy vx_comp vy_comp of nuScenes, or x y '
         'z, a speed along the line of sight (velocity, doppler, v_r ...) and possibly rcs or power'),
    ), 'the radars', 'one message for each set of scans'),
    reads_like='objects', dataset=DatasetReader(radar_frame, readings),
    head=HeadTraining(lambda device: RadarInput(), polar_network, PretrainingConfig(
        epochs=16, batch=32, learning_rate=3e-3, dropout=.1, hidden=16)))
