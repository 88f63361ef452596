"""Node: encodes points of any number of radars to radar tokens."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from sensor_msgs.msg import PointCloud2

from mpnp_ros.conversions.pointclouds import to_records
from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.doppler import doppler_records, fields_of
from mpnp_ros.modalities.radar.frames import FIELDS, SOUND, RadarFrame, RadarScan, radar_scan
from mpnp_ros.modalities.radar.health import RadarLimits
from mpnp_ros.nodes.discovery import CLOUD, FoundSensors, Topic, find_clouds, matching, sensor_name
from mpnp_ros.nodes.encoder_node import EncoderOptions, Input
from mpnp_ros.nodes.synchronized_encoder import (
    SynchronizedEncoder,
    slop_option,
    timeout_option,
    topics_of,
    topics_problem,
)
from mpnp_ros.options import Change, option

PATTERN = '{radar}'


@dataclass(frozen=True)
class RadarOptions(EncoderOptions):
    """Parameters of the radar encoder node."""

    radars: tuple[str, ...] = option(
        (),
        'names of the radars; empty: all that publish below the namespace of the node, as soon as they do',
        change=Change.CONFIGURE)
    topic: str = option(
        PATTERN, 'topic of the points of {radar}. Without {radar}, and with radars empty: of the one radar',
        change=Change.CONFIGURE)
    slop: float = slop_option('scans', 0.08)
    timeout: float = timeout_option('scans', 0.15)
    encoder: RadarConfig = option(RadarConfig(), 'the encoder', change=Change.CONFIGURE)
    health: RadarLimits = option(RadarLimits(), 'how good the input is', change=Change.CONFIGURE)

    @property
    def names(self) -> tuple[str, ...]:
        """The radars that are named; none: they are to be found."""
        return self.radars or (() if '{radar}' in self.topic else (sensor_name(self.topic, kind='radar'),))

    def check(self) -> Iterator[str]:
        """Radars and topics must fit each other."""
        if problem := topics_problem('radar', self.names, self.topic, 'topic'):
            yield problem


class RadarNode(SynchronizedEncoder):
    """Groups scans of one moment and encodes them together; absent radars are omitted."""

    MODALITY, OPTIONS = 'radar', RadarOptions
    HINT = 'set `topic` (and `radars`)'

    def __init__(self) -> None:
        super().__init__()
        self._topics: dict[str, str] = {}
        self._found = FoundSensors(
            self, 'radars', 'topic', (CLOUD,), kin='radar', find=partial(find_clouds, 'radar'), same=str,
            read=lambda radar: self.join(radar.name, PointCloud2, radar.topic),
            leave=lambda radar: self.leave(radar.name))

    @property
    def discovers(self) -> bool:
        """Return whether no parameter names radars."""
        return not self._topics

    def load(self) -> None:
        """Load the encoder."""
        names = self.values.names
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
        return [radar.topic for radar in find_clouds('radar', graph)]

    def part(self, item: Input) -> RadarScan:
        """Return the scan with its mounting.

        A single radar without mounting is in the base frame, its height unknown; one of several is rejected.
        """
        names = [field.name.lower() for field in item.message.fields]
        measured = None if set(FIELDS) <= set(names) else fields_of(names)
        if measured is None:
            records = to_records(item.message, FIELDS, SOUND)
        else:
            records = to_records(item.message, ('x', 'y', 'z', *measured))
        frame_id, base, alone = item.message.header.frame_id, self.values.base_frame, len(self.joined) == 1
        mounts = self.mounts
        assert mounts is not None  # the encoder is loaded
        pose = mounts.pose(item.source, frame_id, base,
                                'taking them as the same' if alone else 'leaving it out')
        if pose is None and not alone:
            raise PointCloudError(f'{item.source}: {mounts.unknown(frame_id, base)}')
        mount = (None, None) if pose is None else (pose[:3, :3], pose[:3, 3])
        if measured is None:
            return radar_scan(records, item.source, item.stamp_ns, *mount)
        return doppler_records(records, self.values.encoder, item.source, item.stamp_ns, *mount)

    def frame(self, parts: Sequence[RadarScan]) -> RadarFrame:
        """Return the scans as one frame."""
        return RadarFrame(tuple(parts), self.values.base_frame)
