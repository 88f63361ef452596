"""Node: encodes point clouds of a LiDAR to LiDAR tokens."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2

from mpnp_ros.conversions.pointclouds import to_points
from mpnp_ros.errors import MpnpError
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.health import LidarLimits
from mpnp_ros.modalities.lidar.sweep import IntensityScale, LidarFrame
from mpnp_ros.nodes.discovery import CLOUD, FoundSensor, FoundSensors, Topic, equals, find_lidars, sensor_name
from mpnp_ros.nodes.ego_poses import EgoPoses, fixed_frame_option, odometry_option
from mpnp_ros.nodes.encoder_node import EncoderNode, EncoderOptions, Input
from mpnp_ros.nodes.objects import ObjectsPublisher
from mpnp_ros.nodes.parameters import topic_problem
from mpnp_ros.nodes.recent_inputs import RecentInputs
from mpnp_ros.options import Change, option
from mpnp_ros.poses import Transform
from mpnp_ros.tokens import ModalityTokens

APART = 0.09
"""Least seconds between sweeps that are kept as earlier ones."""


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
    fixed_frame: str = fixed_frame_option()
    odometry_topic: str = odometry_option()
    publish_objects: bool = option(
        True, 'used with a head that finds objects: publish them as boxes, while somebody listens',
        change=Change.ACTIVATE)
    encoder: LidarConfig = option(LidarConfig(), 'the encoder', change=Change.CONFIGURE)
    health: LidarLimits = option(LidarLimits(), 'how good the input is', change=Change.CONFIGURE)

    def check(self) -> Iterator[str]:
        """Topics must be such."""
        for key in ('topic', 'odometry_topic'):
            if self[key] and (problem := topic_problem(key, self[key])):
                yield problem


class LidarNode(EncoderNode):
    """Encodes the newest sweep, with one of half a second before for an encoder that looks back."""

    MODALITY, OPTIONS = 'lidar', LidarOptions
    HINT = 'set `topic`'

    def __init__(self) -> None:
        super().__init__()
        self._scale = IntensityScale(LidarConfig.max_intensity)
        self._named = ''
        self._others: list[str] = []
        self._recent = RecentInputs(APART)
        self._ego: EgoPoses | None = None
        self._objects: ObjectsPublisher | None = None
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
        self._recent = RecentInputs(APART)
        if getattr(self.encoder, 'looks_back', False):
            self._ego = EgoPoses(self, self.values.odometry_topic, self.inputs_group)
            if self.values.publish_objects:
                self._objects = ObjectsPublisher(self, self.MODALITY)
        if topic := self.values.topic:
            self._read(FoundSensor(sensor_name(topic, kind='lidar'), topic))

    def stop(self) -> None:
        """Unsubscribe."""
        super().stop()
        self._found.clear()
        if self._ego:
            self._ego.destroy()
        if self._objects:
            self._objects.destroy()
        self._ego = self._objects = None
        self._recent = RecentInputs(APART)

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
        """Return the sweep with intensities on the scale of the encoder, and an earlier one."""
        intensity, concern = self._scale.fit(parts[0].intensity)
        self.concerns.set('intensity', f'{parts[0].name}: {concern}' if concern else '')
        return replace(parts[0], intensity=intensity, earlier=self._earlier(parts[0]))

    def encode(self, frame: LidarFrame) -> ModalityTokens:
        """Return the tokens of a sweep; objects are published too."""
        if self._objects is None:
            return super().encode(frame)
        found = self.encoder.detect(frame)
        self._objects.publish(found)
        tokens: ModalityTokens = self.encoder.tokens(found)
        return tokens

    def _earlier(self, newest: LidarFrame) -> LidarFrame | None:
        """Return the sweep of about half a second before as it lies in the base frame of the newest one."""
        if (ego := self._ego) is None:
            return None
        base, fixed = self.values.base_frame, self.values.fixed_frame
        found, missing = self._recent.with_way(newest.name, newest.stamp_ns, partial(ego.way, base, fixed),
                                               base, 'sweep')
        self.concerns.set('motion', f'{newest.name}: motion cannot be seen: {missing}' if missing else '',
                          quality=1.)
        if found is None:
            return None
        item, way = found
        try:
            sweep = self.part(item)
        except MpnpError:  # it was rejected when it came
            return None
        assert sweep.rotation is not None and sweep.translation is not None  # part gives them
        moved = way @ Transform(sweep.rotation, sweep.translation)
        return replace(sweep, rotation=moved.rotation, translation=moved.translation)

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
        item = self.receive(topic, self.values.sensor or self._named, message)
        if self._ego:
            self._recent.keep(item)
        self.submit((item,))
