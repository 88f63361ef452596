"""Node: images of any number of cameras in, camera tokens out."""
from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mpnp_ros.conversions.camera_info import Calibration, calibration, is_rectified_topic
from mpnp_ros.conversions.images import to_encoded, to_rgb
from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.base import CameraFrame, CameraView
from mpnp_ros.modalities.camera.calibration import facing, image_size, nominal_yaw, optical_rotation
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
    Parameter('rectified', 'auto', 'Whether the images are rectified; true: P of the calibration holds; '
              'false: K and the distortion do; auto: true where the name of the image topic says rect, as '
              'image_rect does.', choices=('auto', 'true', 'false'), change=Change.LIVE),
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
        self._latched: set[str] = set()

    def load(self) -> None:
        """Check the topics, then load the encoder."""
        self._topics = topics_of('camera', self.values.cameras, self.values.image_topic, 'image_topic')
        self._infos.clear()
        self._info_topics = topics_of('camera', self.values.cameras, self.values.camera_info_topic,
                                      'camera_info_topic')
        super().load()

    def start(self) -> None:
        """Subscribe to every camera."""
        super().start()
        self._latched.clear()
        for camera, topic in self._info_topics.items():
            self.listen(CameraInfo, topic, self._info_callback(camera))
        self.gather(TYPES[self.values.transport], self._topics)

    def part(self, item: Input) -> CameraView:
        """Return the view, with the direction of its mount and the calibration that came last."""
        message = item.message
        image = to_encoded(message) if isinstance(message, CompressedImage) else \
            to_rgb(message, self.values['encoder.max_pixels'])
        rotation, lens = self._rotation(item), self._calibration(item, image)
        return CameraView(item.source, image, lens.matrix, rotation, item.stamp_ns, lens.distortion)

    def frame(self, parts: Sequence[CameraView]) -> CameraFrame:
        """Return the views as one frame."""
        return CameraFrame(tuple(parts), self.values.base_frame)

    def _rotation(self, item: Input) -> np.ndarray | None:
        """[3, 3] optical frame to base frame; None where the name of the camera tells the direction."""
        camera, frame_id = item.source, item.message.header.frame_id
        named = nominal_yaw(camera, self.encoder.config) is not None
        alone = len(self._topics) == 1
        otherwise = 'taking the direction of its name' if named else \
            'taking it as looking ahead' if alone else 'leaving it out'
        pose = self.mounts.pose(camera, frame_id, self.values.base_frame, otherwise)
        if pose is not None:
            rotation, amiss = optical_rotation(pose[:3, :3], frame_id)
            self.concerns.set(f'{camera} axis', f'{camera}: {amiss}' if amiss else '')
            return rotation
        self.concerns.set(f'{camera} axis', '')
        if named or alone:
            return None if named else facing(0.)
        raise ImageError(f'{camera}: {self.mounts.unknown(frame_id, self.values.base_frame)}; or add its '
                         'name to encoder.nominal_views and its direction to encoder.nominal_yaws')

    def _calibration(self, item: Input, image: np.ndarray | bytes) -> Calibration:
        """Where the pixels look; as long as something has to be assumed for that, it is a concern."""
        camera, field = item.source, f'{self.encoder.config.nominal_fov:g} degrees'
        topic = self.resolve_topic_name(self._info_topics[camera])
        info = self._info(camera, topic)
        said = self.values.rectified
        rectified = is_rectified_topic(item.topic) if said == 'auto' else said == 'true'
        try:
            found = calibration(info, image_size(image), rectified) if info else \
                Calibration(None, concern=f'no calibration on {topic}')
        except ImageError as error:
            found = Calibration(None, concern=f'{topic}: {error}')
        concern = f'{topic}: {found.concern}' if found.concern and found.matrix is not None else found.concern
        if found.matrix is None:
            concern = f'{concern or f"{topic} says that the camera is not calibrated"}; taking a field of ' \
                      f'view of {field}'
        self.concerns.set(f'{camera} calibration', f'{camera}: {concern}' if concern else '')
        return found

    def _info(self, camera: str, topic: str) -> CameraInfo | None:
        """Return the newest calibration; the first frame waits for it a moment.

        A calibration that was latched before the node came is heard by a subscription of its own.  It is made
        where such a publisher is seen, because one of other publishers would be told that nothing will come.
        """
        while camera not in self._infos:
            if camera not in self._latched and any(
                    publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
                    for publisher in self.get_publishers_info_by_topic(topic)):
                self._latched.add(camera)
                self._subscriptions_made.append(self.create_subscription(
                    CameraInfo, self._info_topics[camera], partial(self._info_callback(camera), topic),
                    QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
                    callback_group=self.inputs_group,
                    event_callbacks=SubscriptionEventCallbacks(incompatible_qos=lambda event: None)))
            left = self.mounts.patience()
            if left <= 0:
                break
            time.sleep(min(0.05, left))
        return self._infos.get(camera)

    def _info_callback(self, camera: str) -> Any:
        def callback(topic: str, message: CameraInfo) -> None:
            self._infos[camera] = message
        return callback


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(CameraEncoder)


if __name__ == '__main__':
    sys.exit(main())
