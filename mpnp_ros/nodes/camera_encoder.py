"""Node: images of any number of cameras in, camera tokens out."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mpnp_ros.conversions.camera_info import intrinsics
from mpnp_ros.conversions.images import to_image_file, to_rgb
from mpnp_ros.modalities.base import CameraFrame, CameraView
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.health import CameraLimits
from mpnp_ros.nodes.encoder_node import Input, encoder_parameters
from mpnp_ros.nodes.parameters import Change, Parameter
from mpnp_ros.nodes.runtime import run_node
from mpnp_ros.nodes.synchronized_encoder import SynchronizedEncoder, set_parameters, topics_of

NUSCENES = ('cam_front', 'cam_front_left', 'cam_front_right', 'cam_back', 'cam_back_left', 'cam_back_right')
PARAMETERS = encoder_parameters(CameraConfig, (
    Parameter('cameras', NUSCENES, 'Names of the cameras.', change=Change.CONFIGURE),
    Parameter('image_topic', '{camera}/image_rect/compressed', 'Topic of the images of {camera}.',
              change=Change.CONFIGURE),
    Parameter('transport', 'compressed', 'CompressedImage or Image messages.', choices=('compressed', 'raw'),
              change=Change.ACTIVATE),
    Parameter('camera_info_topic', '{camera}/camera_info', 'Topic of the calibration of {camera}.',
              change=Change.CONFIGURE),
    Parameter('rectified', True, 'Whether the images are rectified: P of the calibration holds, not K.',
              change=Change.LIVE),
    *set_parameters('images', 0.06, 0.15),
), CameraLimits)
TYPES = {'compressed': CompressedImage, 'raw': Image}


class CameraEncoder(SynchronizedEncoder):
    """Groups images of one moment and encodes them together; a camera that is absent is left out."""

    def __init__(self) -> None:
        super().__init__('camera', PARAMETERS)
        self._infos: dict[str, CameraInfo] = {}
        self._topics: dict[str, str] = {}
        self._info_topics: dict[str, str] = {}

    def load(self) -> None:
        """Check the topics, then load the encoder."""
        self._topics = topics_of('camera', self.values.cameras, self.values.image_topic, 'image_topic')
        self._info_topics = topics_of('camera', self.values.cameras, self.values.camera_info_topic,
                                      'camera_info_topic')
        super().load()

    def start(self) -> None:
        """Subscribe to every camera."""
        super().start()
        for camera, topic in self._info_topics.items():
            self.listen(CameraInfo, topic, self._info_callback(camera))
        self.gather(TYPES[self.values.transport], self._topics)

    def part(self, item: Input) -> CameraView:
        """Return the view, with the direction from ``/tf_static`` and the calibration that came last."""
        message, info = item.message, self._infos.get(item.source)
        convert = to_image_file if isinstance(message, CompressedImage) else to_rgb
        image = convert(message, self.values['encoder.max_pixels'])
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
