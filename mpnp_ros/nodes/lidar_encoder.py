"""Node: point clouds of a LiDAR in, LiDAR tokens out."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2

from mpnp_ros.conversions.pointclouds import to_points
from mpnp_ros.modalities.base import LidarFrame
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.health import LidarLimits
from mpnp_ros.nodes.encoder_node import EncoderNode, Input, encoder_parameters
from mpnp_ros.nodes.parameters import Change, Parameter
from mpnp_ros.nodes.runtime import run_node

PARAMETERS = encoder_parameters(LidarConfig, (
    Parameter('topic', 'lidar_top', 'Topic of the point clouds.', change=Change.ACTIVATE),
    Parameter('sensor', 'lidar_top', 'Name of the sensor in the tokens.', change=Change.LIVE),
), LidarLimits)


class LidarEncoder(EncoderNode):
    """Encodes the newest sweep."""

    def __init__(self) -> None:
        super().__init__('lidar', PARAMETERS)

    def start(self) -> None:
        """Subscribe to the sensor."""
        super().start()
        self.expect(self.values.topic)
        self.listen(PointCloud2, self.values.topic, self._receive)

    def part(self, item: Input) -> LidarFrame:
        """Return the sweep, with its mount; where that is unknown the sensor is taken as the base frame."""
        points, base = to_points(item.message), self.values.base_frame
        pose = self.mounts.pose(item.source, item.message.header.frame_id, base, 'taking them as the same')
        if pose is None:
            pose = np.eye(4)
        return LidarFrame(points.xyz, points.intensity, pose[:3, :3], pose[:3, 3], item.stamp_ns, item.source,
                          base)

    def frame(self, parts: Sequence[LidarFrame]) -> LidarFrame:
        """Return the one sweep."""
        return parts[0]

    def _receive(self, topic: str, message: Any) -> None:
        self.submit((self.receive(topic, self.values.sensor, message),))


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(LidarEncoder)


if __name__ == '__main__':
    sys.exit(main())
