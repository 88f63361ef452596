"""Node: encodes points of any number of radars to radar tokens."""
from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2

from mpnp_ros.conversions.pointclouds import to_records
from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.base import RadarFrame, RadarScan
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.health import RadarLimits
from mpnp_ros.modalities.radar.returns import FIELDS, SOUND, radar_scan
from mpnp_ros.nodes.discovery import CLOUD, Topic, find_radars, sensor_name
from mpnp_ros.nodes.encoder_node import Input, encoder_parameters
from mpnp_ros.nodes.found_sensors import FoundSensors, matching
from mpnp_ros.nodes.parameters import Change, Parameter
from mpnp_ros.nodes.runtime import run_node
from mpnp_ros.nodes.synchronized_encoder import (
    SynchronizedEncoder,
    set_parameters,
    topics_of,
    topics_problem,
)

PATTERN = '{radar}'
PARAMETERS = encoder_parameters(RadarConfig, (
    Parameter('radars', (), 'Names of the radars; empty: all that publish below the namespace of the node, '
              'as soon as they do.', change=Change.CONFIGURE),
    Parameter('topic', PATTERN, 'Topic of the points of {radar}. Without {radar}, and with radars empty: of '
              'the one radar.', change=Change.CONFIGURE),
    *set_parameters('scans', 0.08, 0.15),
), RadarLimits)


class RadarEncoder(SynchronizedEncoder):
    """Groups scans of one moment and encodes them together; absent radars are omitted."""

    HINT = 'set `topic` (and `radars`)'

    def __init__(self) -> None:
        super().__init__('radar', PARAMETERS)
        self._topics: dict[str, str] = {}
        self._found = FoundSensors(
            self, 'radars', 'topic', (CLOUD,), kin='radar', find=find_radars, same=str,
            read=lambda radar: self.join(radar.name, PointCloud2, radar.topic),
            leave=lambda radar: self.leave(radar.name))

    @property
    def discovers(self) -> bool:
        """Return whether no parameter names radars."""
        return not self._topics

    def problem(self, values: Mapping[str, Any]) -> str:
        """Return why radars and topics do not match."""
        return topics_problem('radar', self._names(values), values['topic'], 'topic')

    @staticmethod
    def _names(values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the radars named by parameters; none if they have to be discovered."""
        topic = values['topic']
        return values['radars'] or (() if '{radar}' in topic else (sensor_name(topic, kind='radar'),))

    def load(self) -> None:
        """Load the encoder."""
        names = self._names(self.values)
        self._topics = topics_of('radar', names, self.values.topic, 'topic') if names else {}
        super().load()

    def start(self) -> None:
        """Subscribe to the radars named by parameters."""
        super().start()
        self.begin()
        for radar, topic in self._topics.items():
            self.join(radar, PointCloud2, topic)

    def stop(self) -> None:
        """Unsubscribe from every radar."""
        super().stop()
        self._found.clear()

    def discover(self, graph: Sequence[Topic]) -> None:
        """Subscribe to discovered radars."""
        named: dict[str, str] = {}
        if self.values.topic != PATTERN:
            named = matching(graph, self.values.topic, 'radar', self.get_namespace())
            graph = [topic for topic in graph if topic.name in named]
        self._found.follow(graph, graph, named)

    def readable(self, graph: Sequence[Topic]) -> list[str]:
        """Return the topics of radars."""
        return [radar.topic for radar in find_radars(graph)]

    def part(self, item: Input) -> RadarScan:
        """Return the scan with its mounting.

        A single radar without mounting is in the base frame; one of several is rejected.
        """
        records = to_records(item.message, FIELDS, SOUND)
        frame_id, base, alone = item.message.header.frame_id, self.values.base_frame, len(self.joined) == 1
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
