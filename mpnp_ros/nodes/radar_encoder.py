"""Node: points of any number of radars in, radar tokens out."""
from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

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
from mpnp_ros.nodes.synchronized_encoder import (
    SynchronizedEncoder,
    set_parameters,
    topics_of,
    topics_problem,
)

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

    def problem(self, values: Mapping[str, Any]) -> str:
        """Say where radars and topics do not fit each other."""
        return topics_problem('radar', values['radars'], values['topic'], 'topic')

    def load(self) -> None:
        """Load the encoder."""
        self._topics = topics_of('radar', self.values.radars, self.values.topic, 'topic')
        super().load()

    def start(self) -> None:
        """Subscribe to every radar."""
        super().start()
        self.gather(PointCloud2, self._topics)

    def part(self, item: Input) -> RadarScan:
        """Return the scan, with the mount from ``/tf_static``, without which its points lie nowhere."""
        records = to_records(item.message, FIELDS, SOUND)
        frame_id, base = item.message.header.frame_id, self.values.base_frame
        pose = self.transforms.lookup(base, frame_id)
        if pose is None:
            raise PointCloudError(f'{item.source}: /tf_static does not connect {frame_id!r} with {base!r}; '
                                  'publish how the radar is mounted')
        return radar_scan(records, item.source, item.stamp_ns, pose[:3, :3], pose[:3, 3])

    def frame(self, parts: Sequence[RadarScan]) -> RadarFrame:
        """Return the scans as one frame."""
        return RadarFrame(tuple(parts), self.values.base_frame)


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(RadarEncoder)


if __name__ == '__main__':
    sys.exit(main())
