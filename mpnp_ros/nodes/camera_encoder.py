"""Node: images of any number of cameras in, camera tokens out."""
from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mpnp_ros.conversions.camera_info import intrinsics
from mpnp_ros.conversions.images import to_encoded, to_rgb
from mpnp_ros.conversions.time import SECOND
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.base import CameraFrame, CameraView
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.nodes.encoder_node import EncoderNode, Input, encoder_parameters
from mpnp_ros.nodes.parameters import Parameter
from mpnp_ros.nodes.runtime import run_node
from mpnp_ros.nodes.synchronizer import Synchronizer

NUSCENES = ('cam_front', 'cam_front_left', 'cam_front_right', 'cam_back', 'cam_back_left', 'cam_back_right')
PARAMETERS = encoder_parameters(CameraConfig, (
    Parameter('cameras', NUSCENES, 'Names of the cameras.'),
    Parameter('image_topic', '{camera}/image_rect/compressed', 'Topic of the images of {camera}.'),
    Parameter('transport', 'compressed', 'CompressedImage or Image messages.', choices=('compressed', 'raw')),
    Parameter('camera_info_topic', '{camera}/camera_info', 'Topic of the calibration of {camera}.'),
    Parameter('rectified', True, 'Whether the images are rectified: P of the calibration holds, not K.'),
    Parameter('slop', 0.06, 'Largest difference of the stamps within a set of images.', 's', 0.0, 10.0),
    Parameter('timeout', 0.15, 'How long a set waits for the images that are missing.', 's', 0.0, 10.0),
))
TYPES = {'compressed': CompressedImage, 'raw': Image}


class CameraEncoder(EncoderNode):
    """Groups images of one moment and encodes them together; a camera that is absent is left out."""

    def __init__(self) -> None:
        super().__init__('camera', PARAMETERS)
        self._infos: dict[str, CameraInfo] = {}
        self._synchronizer: Synchronizer[Input] | None = None
        self._timer: Any = None
        self._topics: dict[str, str] = {}
        self._info_topics: dict[str, str] = {}

    def load(self) -> None:
        """Check the topics, then load the encoder."""
        self._topics = _topics(self.values.image_topic, self.values.cameras, 'image_topic')
        self._info_topics = _topics(self.values.camera_info_topic, self.values.cameras, 'camera_info_topic')
        super().load()

    def start(self) -> None:
        """Subscribe to every camera."""
        super().start()
        values = self.values
        spans = (round(SECOND * value) for value in (values.slop, values.timeout, values.absent_after))
        self._synchronizer = Synchronizer(values.cameras, *spans, ready=self._ready,
                                          superseded=lambda item: self.supersede([item]))
        for camera in values.cameras:
            self.listen(CameraInfo, self._info_topics[camera], self._info_callback(camera))
            self.expect(self._topics[camera])
            self.listen(TYPES[values.transport], self._topics[camera], self._image_callback(camera))
        self._timer = self.create_timer(max(0.01, values.timeout / 5), self._poll,
                                        callback_group=self.inputs_group,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stop(self) -> None:
        """Unsubscribe; images that wait count as superseded."""
        if self._timer:
            self.destroy_timer(self._timer)
            self._timer = None
        if self._synchronizer:
            self._synchronizer.close()
        super().stop()

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

    def _image_callback(self, camera: str) -> Any:
        def callback(topic: str, message: Image | CompressedImage) -> None:
            item = self.receive(topic, camera, message)
            self._synchronizer.add(camera, item.stamp_ns, item, self.get_clock().now().nanoseconds)
        return callback

    def _info_callback(self, camera: str) -> Any:
        def callback(topic: str, message: CameraInfo) -> None:
            self._infos[camera] = message
        return callback

    def _poll(self) -> None:
        self._synchronizer.poll(self.get_clock().now().nanoseconds)

    def _ready(self, items: Mapping[str, Input]) -> None:
        if len(items) < len(self.values.cameras):
            self.diagnostics.count('partial sets')
        self.submit(tuple(items.values()))


def _topics(pattern: str, cameras: Sequence[str], key: str) -> dict[str, str]:
    """Return the topic of each camera; raises ConfigurationError unless every camera has its own."""
    topics = {camera: pattern.replace('{camera}', camera) for camera in cameras}
    if not cameras or len(set(topics.values())) < len(cameras):
        raise ConfigurationError(f'cameras is {list(cameras)} and {key} is {pattern!r}: give at least one '
                                 'camera, each its own name, and a topic with {camera} in it')
    return topics


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(CameraEncoder)


if __name__ == '__main__':
    sys.exit(main())
