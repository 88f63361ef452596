"""Node: encodes the ranges of any number of sonars to sonar tokens."""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sensor_msgs.msg import Range

from mpnp_ros.errors import MpnpError
from mpnp_ros.nodes.encoder_node import EncoderOptions, Input
from mpnp_ros.nodes.synchronized_encoder import (
    SynchronizedEncoder,
    slop_option,
    timeout_option,
    topics_of,
    topics_problem,
)
from mpnp_ros.options import Change, option
from toy_sensor.encoder import Echo, SonarConfig, SonarFrame
from toy_sensor.health import SonarLimits


@dataclass(frozen=True)
class SonarOptions(EncoderOptions):
    """Parameters of the sonar encoder node."""

    sonars: tuple[str, ...] = option(('sonar',), 'names of the sonars', change=Change.CONFIGURE)
    topic: str = option('{sonar}/range', 'topic of the ranges of {sonar}', change=Change.CONFIGURE)
    slop: float = slop_option('ranges', 0.2)
    timeout: float = timeout_option('ranges', 0.2)
    encoder: SonarConfig = option(SonarConfig(), 'the encoder', change=Change.CONFIGURE)
    health: SonarLimits = option(SonarLimits(), 'how good the input is', change=Change.CONFIGURE)

    def check(self) -> Iterator[str]:
        """Sonars and topics must fit each other."""
        if problem := topics_problem('sonar', self.sonars, self.topic, 'topic'):
            yield problem


class SonarNode(SynchronizedEncoder):
    """Groups ranges of one moment and encodes them together; absent sonars are omitted."""

    MODALITY, OPTIONS = 'sonar', SonarOptions
    HINT = 'set `sonars` and `topic`'

    def start(self) -> None:
        """Subscribe to the sonars."""
        super().start()
        self.begin()
        for sonar, topic in topics_of('sonar', self.values.sonars, self.values.topic, 'topic').items():
            self.join(sonar, Range, topic)

    def part(self, item: Input) -> Echo:
        """Return the echo with its mounting; a sonar without one is rejected, as it has no direction."""
        message, base = item.message, self.values.base_frame
        pose = self.mounts.pose(item.source, message.header.frame_id, base, 'leaving it out')
        if pose is None:
            raise MpnpError(f'{item.source}: {self.mounts.unknown(message.header.frame_id, base)}')
        distance = math.inf if message.range > message.max_range else max(0., message.range)
        return Echo(item.source, distance, message.min_range, message.max_range, pose[:3, :3], item.stamp_ns)

    def frame(self, parts: Sequence[Echo]) -> SonarFrame:
        """Return the echoes as one frame."""
        return SonarFrame(tuple(parts), self.values.base_frame)
