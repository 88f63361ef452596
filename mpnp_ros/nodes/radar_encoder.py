"""Node: points of any number of radars in, radar tokens out."""
from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import PointCloud2

from mpnp_ros.conversions.pointclouds import to_records
from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.base import RadarFrame, RadarScan
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.health import RadarLimits
from mpnp_ros.modalities.radar.returns import FIELDS, SOUND, radar_scan
from mpnp_ros.nodes.encoder_node import Input, encoder_parameters
from mpnp_ros.nodes.parameters import Change, Parameter
from mpnp_ros.nodes.runtime import run_node
from mpnp_ros.nodes.synchronized_encoder import SynchronizedEncoder, set_parameters, topics_of

NUSCENES = ('radar_front', 'radar_front_left', 'radar_front_right', 'radar_back_left', 'radar_back_right')
PARAMETERS = encoder_parameters(RadarConfig, (
    Parameter('radars', NUSCENES, 'Names of the radars.', change=Change.CONFIGURE),
    Parameter('topic', '{radar}', 'Topic of the points of {radar}.', change=Change.CONFIGURE),
    *set_parameters('scans', 0.08, 0.15),
), RadarLimits)


class RadarEncoder(SynchronizedEncoder):
    """Groups scans of one moment and encodes them together; a radar that is absent is left out."""

    def __init__(self) -> None:
        super().__init__('radar', PARAMETERS)
        self._topics: dict[str, str] = {}

    def load(self) -> None:
        """Check the topics, then load the encoder."""
        self._topics = topics_of('radar', self.values.radars, self.values.topic, 'topic')
        super().load()

    def start(self) -> None:
        """Subscribe to every radar."""
        super().start()
        self.gather(PointCloud2, self._topics)

    def part(self, item: Input) -> RadarScan:
        """Return the scan, with its mount.

        The only radar is taken as the base frame where its mount is unknown; one of several may look any way.
        """
        records = to_records(item.message, FIELDS, SOUND)
        frame_id, base, alone = item.message.header.frame_id, self.values.base_frame, len(self._topics) == 1
        pose = self.mounts.pose(item.source, frame_id, base,
                                'taking them as the same' if alone else 'leaving it out')
        if pose is None and not alone:
            raise PointCloudError(f'{item.source}: {self.mounts.unknown(frame_id, base)}')
        if pose is None:
            pose = np.eye(4)
        return radar_scan(records, item.source, item.stamp_ns, pose[:3, :3], pose[:3, 3])

    def frame(self, parts: Sequence[RadarScan]) -> RadarFrame:
        """Return the scans as one frame."""
        return RadarFrame(tuple(parts), self.values.base_frame)


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(RadarEncoder)


if __name__ == '__main__':
    sys.exit(main())
