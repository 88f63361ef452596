"""Node: point clouds of a LiDAR in, LiDAR tokens out."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2

from mpnp_ros.conversions.pointclouds import to_points
from mpnp_ros.modalities.base import LidarFrame
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.health import LidarLimits
from mpnp_ros.modalities.lidar.intensity import IntensityScale
from mpnp_ros.nodes.encoder_node import EncoderNode, Input, encoder_parameters
from mpnp_ros.nodes.parameters import Change, Parameter
from mpnp_ros.nodes.runtime import run_node

PARAMETERS = encoder_parameters(LidarConfig, (
    Parameter('topic', 'lidar_top', 'Topic of the point clouds.', change=Change.ACTIVATE),
    Parameter('sensor', 'lidar_top', 'Name of the sensor in the tokens.', change=Change.LIVE),
    Parameter('full_intensity', 0.0, 'Intensity that a perfect reflector has in the point clouds; 0: it is '
              'found, 1 of intensities from 0 to 1 and encoder.max_intensity of others.', minimum=0.0,
              maximum=1e6, change=Change.ACTIVATE),
), LidarLimits)


class LidarEncoder(EncoderNode):
    """Encodes the newest sweep."""

    def __init__(self) -> None:
        super().__init__('lidar', PARAMETERS)
        self._scale = IntensityScale(LidarConfig.max_intensity)

    def start(self) -> None:
        """Subscribe to the sensor."""
        super().start()
        self._scale = IntensityScale(self.encoder.config.max_intensity, self.values.full_intensity)
        self.expect(self.values.topic)
        self.listen(PointCloud2, self.values.topic, self._receive)

    def part(self, item: Input) -> LidarFrame:
        """Return the sweep, with the mount from ``/tf_static``."""
        points = to_points(item.message)
        frame_id, base = item.message.header.frame_id, self.values.base_frame
        pose = self.transforms.lookup(base, frame_id)
        if pose is None:
            self.warn_once('unmounted', f'{item.source}: /tf_static does not connect {frame_id!r} with '
                                        f'{base!r}; taking them as the same')
            pose = np.eye(4)
        return LidarFrame(points.xyz, points.intensity, pose[:3, :3], pose[:3, 3], item.stamp_ns, item.source,
                          base)

    def frame(self, parts: Sequence[LidarFrame]) -> LidarFrame:
        """Return the one sweep, with intensities as the encoder reads them."""
        intensity, concern = self._scale.fit(parts[0].intensity)
        self.concerns.set('intensity', f'{parts[0].name}: {concern}' if concern else '')
        return replace(parts[0], intensity=intensity)

    def _receive(self, topic: str, message: Any) -> None:
        self.submit((self.receive(topic, self.values.sensor, message),))


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(LidarEncoder)


if __name__ == '__main__':
    sys.exit(main())
