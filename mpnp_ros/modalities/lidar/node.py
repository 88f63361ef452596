"""Node: encodes point clouds of a LiDAR to LiDAR tokens."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2

from mpnp_ros.conversions.pointclouds import to_points
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.health import LidarLimits
from mpnp_ros.modalities.lidar.sweep import IntensityScale, LidarFrame
from mpnp_ros.nodes.discovery import CLOUD, FoundSensor, FoundSensors, Topic, equals, find_lidars, sensor_name
from mpnp_ros.nodes.encoder_node import EncoderNode, EncoderOptions, Input
from mpnp_ros.nodes.parameters import topic_problem
from mpnp_ros.options import Change, option


@dataclass(frozen=True)
class LidarOptions(EncoderOptions):
    """Parameters of the LiDAR encoder node."""

    topic: str = option(
        '',
        'topic of the point clouds; empty: that of the LiDAR that publishes below the namespace of the '
        'node, as soon as it does', change=Change.ACTIVATE)
    sensor: str = option(
        '', 'name of the sensor in the tokens; empty: as its topic is called', change=Change.LIVE)
    full_intensity: float = option(
        0.0,
        'intensity that a perfect reflector has in the point clouds; 0: it is found, 1 of intensities from '
        '0 to 1 and encoder.max_intensity of others', low=0.0, high=1e6, change=Change.ACTIVATE)
    encoder: LidarConfig = option(LidarConfig(), 'the encoder', change=Change.CONFIGURE)
    health: LidarLimits = option(LidarLimits(), 'how good the input is', change=Change.CONFIGURE)

    def check(self) -> Iterator[str]:
        """The topic must be one."""
        if self.topic and (problem := topic_problem('topic', self.topic)):
            yield problem


class LidarNode(EncoderNode):
    """Encodes the newest sweep."""

    MODALITY, OPTIONS = 'lidar', LidarOptions
    HINT = 'set `topic`'

    def __init__(self) -> None:
        super().__init__()
        self._scale = IntensityScale(LidarConfig.max_intensity)
        self._named = ''
        self._others: list[str] = []
        self._found = FoundSensors(self, 'a LiDAR', 'topic', (CLOUD,), kin='lidar|livox|velodyne|scan|ouster',
                                   find=self._choose, same=str, read=self._read,
                                   leave=lambda lidar: self.forget(lidar.topic))

    @property
    def discovers(self) -> bool:
        """Return whether no parameter names a topic."""
        return not self.values.topic

    def start(self) -> None:
        """Subscribe to the topic named by the parameter."""
        super().start()
        self._scale = IntensityScale(self.encoder.config.max_intensity, self.values.full_intensity)
        if topic := self.values.topic:
            self._read(FoundSensor(sensor_name(topic, kind='lidar'), topic))

    def stop(self) -> None:
        """Unsubscribe."""
        super().stop()
        self._found.clear()

    def discover(self, graph: Sequence[Topic]) -> None:
        """Subscribe to the discovered LiDAR."""
        self._found.follow(graph, graph, {})

    def readable(self, graph: Sequence[Topic]) -> list[str]:
        """Return the topics of LiDARs."""
        return [lidar.topic for lidar in find_lidars(graph)]

    def part(self, item: Input) -> LidarFrame:
        """Return the sweep with its mounting; without one, the sensor is in the base frame."""
        points, base = to_points(item.message), self.values.base_frame
        mounts = self.mounts
        assert mounts is not None  # the encoder is loaded
        pose = mounts.pose(item.source, item.message.header.frame_id, base, 'taking them as the same')
        if pose is None:
            pose = np.eye(4)
        return LidarFrame(points.xyz, points.intensity, pose[:3, :3], pose[:3, 3], item.stamp_ns, item.source,
                          base)

    def frame(self, parts: Sequence[LidarFrame]) -> LidarFrame:
        """Return the sweep with intensities on the scale of the encoder."""
        intensity, concern = self._scale.fit(parts[0].intensity)
        self.concerns.set('intensity', f'{parts[0].name}: {concern}' if concern else '')
        return replace(parts[0], intensity=intensity)

    def _choose(self, graph: Sequence[Topic], namespace: str, read: Mapping[str, str]) -> list[FoundSensor]:
        """Return the likeliest LiDAR, or the current one if it is as likely."""
        found = find_lidars(graph, namespace)
        if not found:
            return []
        likely = [found[0], *equals(found)]
        kept = next((lidar for lidar in likely if lidar.topic in read), found[0])
        self._others = [lidar.topic for lidar in likely if lidar != kept]
        return [kept]

    def _read(self, lidar: FoundSensor) -> None:
        self._named = lidar.name
        if self._others:
            log = self.get_logger()  # type: ignore[no-untyped-call]  # rclpy does not annotate it
            log.warning(f'several LiDARs found: reading {lidar.topic}, not {", ".join(self._others)}; set '
                        '`topic` to read another')
        self.expect(lidar.topic)
        self.listen(PointCloud2, lidar.topic, self._receive)

    def _receive(self, topic: str, message: Any) -> None:
        self.submit((self.receive(topic, self.values.sensor or self._named, message),))
