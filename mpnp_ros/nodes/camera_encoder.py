"""Node: images of any number of cameras in, camera tokens out."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mpnp_ros.conversions.camera_info import intrinsics
from mpnp_ros.conversions.images import to_encoded, to_rgb
from mpnp_ros.modalities.base import CameraFrame, CameraView
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.health import CameraLimits
from mpnp_ros.nodes.discovery import (
    CAMERA_INFO,
    COMPRESSED,
    IMAGE,
    TRANSPORTS,
    Sensor,
    Topic,
    find_cameras,
    info_topic,
    sensor_name,
)
from mpnp_ros.nodes.encoder_node import Input, encoder_parameters
from mpnp_ros.nodes.found_sensors import FoundSensors, matching
from mpnp_ros.nodes.parameters import Change, Parameter
from mpnp_ros.nodes.runtime import run_node
from mpnp_ros.nodes.synchronized_encoder import SynchronizedEncoder, set_parameters, topics_of

PATTERN = '{camera}/image_rect/compressed'
TYPES = {'compressed': CompressedImage, 'raw': Image}
PARAMETERS = encoder_parameters(CameraConfig, (
    Parameter('cameras', (), 'Names of the cameras; empty: every colour camera that publishes below the '
              'namespace of the node, as soon as it does.', change=Change.CONFIGURE),
    Parameter('image_topic', PATTERN, 'Topic of the images of {camera}. Without {camera}, and with cameras '
              'empty: of the one camera.', change=Change.CONFIGURE),
    Parameter('transport', 'auto', 'CompressedImage or Image messages; auto: whichever is published.',
              choices=('auto', 'compressed', 'raw'), change=Change.ACTIVATE),
    Parameter('camera_info_topic', '', 'Topic of the calibration of {camera}; empty: camera_info beside its '
              'images.', change=Change.CONFIGURE),
    Parameter('rectified', True, 'Whether the images are rectified: P of the calibration holds, not K.',
              change=Change.LIVE),
    *set_parameters('images', 0.06, 0.15),
), CameraLimits)


class CameraEncoder(SynchronizedEncoder):
    """Groups images of one moment and encodes them together; a camera that is absent is left out."""

    HINT = 'set `image_topic` (and `cameras`)'

    def __init__(self) -> None:
        super().__init__('camera', PARAMETERS)
        self._infos: dict[str, CameraInfo] = {}
        self._topics: dict[str, str] = {}
        self._info_topics: dict[str, str] = {}
        self._found = FoundSensors(self, 'cameras', 'image_topic', (IMAGE, COMPRESSED), kin='image|packet',
                                   find=find_cameras, read=self._read, leave=self._leave)

    @property
    def discovers(self) -> bool:
        """Where no camera is named."""
        return not self._topics

    def load(self) -> None:
        """Check the topics, then load the encoder."""
        values = self.values
        one = () if '{camera}' in values.image_topic else (sensor_name(values.image_topic),)
        names = values.cameras or one
        self._topics = topics_of('camera', names, values.image_topic, 'image_topic') if names else {}
        self._info_topics = topics_of('camera', names, values.camera_info_topic, 'camera_info_topic') \
            if names and values.camera_info_topic else \
            {camera: info_topic(topic) for camera, topic in self._topics.items()}
        super().load()

    def start(self) -> None:
        """Subscribe to every camera that is named."""
        super().start()
        self.begin()
        for camera, topic in self._topics.items():
            transport = self.values.transport
            if transport == 'auto':
                transport = 'compressed' if topic.endswith('compressed') else 'raw'
            self._read(Sensor(camera, topic, transport, self._info_topics[camera]))

    def discover(self, graph: Sequence[Topic]) -> None:
        """Join the cameras that are found."""
        pattern, transport = self.values.image_topic, self.values.transport
        allowed = [topic for topic in graph if transport in ('auto', TRANSPORTS.get(topic.type, 'auto'))]
        named: dict[str, str] = {}
        if pattern != PATTERN:
            named = matching([topic for topic in allowed if topic.type in TRANSPORTS], pattern, 'camera',
                             self.get_namespace())
            allowed = [topic for topic in allowed if topic.name in named or topic.type == CAMERA_INFO]
        self._found.follow(graph, allowed, named)

    def readable(self, graph: Sequence[Topic]) -> list[str]:
        """Return the topics of colour cameras."""
        return [camera.topic for camera in find_cameras(graph)]

    def check(self) -> None:
        """Read what is published where the transport is left open."""
        super().check()
        for topic in self.joined.values() if self.values.transport == 'auto' else ():
            subscription = self.subscription(topic)
            kinds = {info.topic_type for info in subscription.publishers}
            if len(kinds) == 1 and (kind := TRANSPORTS.get(kinds.pop())) and subscription.others():
                subscription.retype(TYPES[kind])

    def _read(self, camera: Sensor) -> None:
        pattern = self.values.camera_info_topic
        info = pattern.replace('{camera}', camera.name) if pattern else camera.info
        self._info_topics[camera.name] = info
        self.listen(CameraInfo, info, self._info_callback(camera.name))
        self.join(camera.name, TYPES[camera.transport], camera.topic)

    def _leave(self, camera: Sensor) -> None:
        self.forget(self._info_topics.pop(camera.name))
        self.leave(camera.name)

    def stop(self) -> None:
        """Unsubscribe from every camera."""
        super().stop()
        self._found.clear()

    def part(self, item: Input) -> CameraView:
        """Return the view, with the direction from ``/tf_static`` and the calibration that came last."""
        message, info = item.message, self._infos.get(item.source)
        image = to_encoded(message) if isinstance(message, CompressedImage) else \
            to_rgb(message, self.values['encoder.max_pixels'])
        matrix = intrinsics(info, self.values.rectified) if info else None
        if matrix is None:
            self.warn_once(f'{item.source} uncalibrated', f'{item.source}: no calibration on '
                           f'{self._info_topics[item.source]}; taking encoder.nominal_fov')
        return CameraView(item.source, image, matrix, self._rotation(item), item.stamp_ns)

    def frame(self, parts: Sequence[CameraView]) -> CameraFrame:
        """Return the views as one frame."""
        return CameraFrame(tuple(parts), self.values.base_frame)

    def _rotation(self, item: Input) -> np.ndarray | None:
        frame_id = item.message.header.frame_id
        pose = self.transforms.lookup(self.values.base_frame, frame_id)
        if pose is None:
            self.warn_once(f'{item.source} unmounted', f'{item.source}: /tf_static does not connect '
                           f'{frame_id!r} with {self.values.base_frame!r}; taking the direction of its name')
            return None
        return pose[:3, :3]

    def _info_callback(self, camera: str) -> Any:
        def callback(topic: str, message: CameraInfo) -> None:
            self._infos[camera] = message
        return callback


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(CameraEncoder)


if __name__ == '__main__':
    sys.exit(main())
