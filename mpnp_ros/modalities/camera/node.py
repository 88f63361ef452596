"""Node: encodes images of any number of cameras to camera tokens."""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mpnp_ros.conversions.camera_info import Calibration, calibration, is_rectified_topic
from mpnp_ros.conversions.images import to_image_file, to_rgb
from mpnp_ros.endpoints import LATCHED, qos_profile
from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.calibration import facing, image_size, nominal_yaw, optical_rotation
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.health import CameraLimits
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView, ImageFile
from mpnp_ros.nodes.discovery import (
    CAMERA_INFO,
    COMPRESSED,
    IMAGE,
    TRANSPORTS,
    FoundSensor,
    FoundSensors,
    Topic,
    find_cameras,
    info_topic,
    matching,
    sensor_name,
)
from mpnp_ros.nodes.encoder_node import EncoderOptions, Input
from mpnp_ros.nodes.synchronized_encoder import (
    SynchronizedEncoder,
    slop_option,
    timeout_option,
    topics_of,
    topics_problem,
)
from mpnp_ros.options import Change, option

PATTERN = '{camera}/image_rect/compressed'
TYPES = {'compressed': CompressedImage, 'raw': Image}


@dataclass(frozen=True)
class CameraOptions(EncoderOptions):
    """Parameters of the camera encoder node."""

    cameras: tuple[str, ...] = option(
        (),
        'names of the cameras; empty: every colour camera that publishes below the namespace of the node, '
        'as soon as it does', change=Change.CONFIGURE)
    image_topic: str = option(
        PATTERN,
        'topic of the images of {camera}. Without {camera}, and with cameras empty: of the one camera',
        change=Change.CONFIGURE)
    transport: str = option(
        'auto', 'CompressedImage or Image messages; auto: whichever is published',
        choices=('auto', 'compressed', 'raw'), change=Change.ACTIVATE)
    camera_info_topic: str = option(
        '', 'topic of the calibration of {camera}; empty: camera_info beside its images',
        change=Change.CONFIGURE)
    rectified: str = option(
        'auto',
        'whether the images are rectified; true: P of the calibration holds; false: K and the distortion '
        'do; auto: true where the name of the image topic says rect, as image_rect does',
        choices=('auto', 'true', 'false'), change=Change.LIVE)
    slop: float = slop_option('images', 0.06)
    timeout: float = timeout_option('images', 0.15)
    encoder: CameraConfig = option(CameraConfig(), 'the encoder', change=Change.CONFIGURE)
    health: CameraLimits = option(CameraLimits(), 'how good the input is', change=Change.CONFIGURE)

    @property
    def names(self) -> tuple[str, ...]:
        """The cameras that are named; none: they are to be found."""
        return self.cameras or (() if '{camera}' in self.image_topic else (sensor_name(self.image_topic),))

    def check(self) -> Iterator[str]:
        """Cameras and topics must fit each other."""
        for key in ('image_topic', 'camera_info_topic'):
            if self[key] and (problem := topics_problem('camera', self.names, self[key], key)):
                yield problem


class CameraNode(SynchronizedEncoder):
    """Groups images of one moment and encodes them together; absent cameras are omitted."""

    MODALITY, OPTIONS = 'camera', CameraOptions
    HINT = 'set `image_topic` (and `cameras`)'

    def __init__(self) -> None:
        super().__init__()
        self._infos: dict[str, CameraInfo] = {}
        self._topics: dict[str, str] = {}
        self._info_topics: dict[str, str] = {}
        self._latched: set[str] = set()
        self._found = FoundSensors(self, 'cameras', 'image_topic', (IMAGE, COMPRESSED), kin='image|packet',
                                   find=find_cameras, read=self._read, leave=self._leave)

    @property
    def discovers(self) -> bool:
        """Return whether no parameter names cameras."""
        return not self._topics

    def load(self) -> None:
        """Load the encoder."""
        values, names = self.values, self.values.names
        self._infos.clear()
        self._topics = topics_of('camera', names, values.image_topic, 'image_topic') if names else {}
        self._info_topics = topics_of('camera', names, values.camera_info_topic, 'camera_info_topic') \
            if names and values.camera_info_topic else \
            {camera: info_topic(topic) for camera, topic in self._topics.items()}
        super().load()

    def start(self) -> None:
        """Subscribe to the cameras named by parameters."""
        super().start()
        self._latched.clear()
        self.begin()
        for camera, topic in self._topics.items():
            transport = self.values.transport
            if transport == 'auto':
                transport = 'compressed' if topic.endswith('compressed') else 'raw'
            self._read(FoundSensor(camera, topic, transport, self._info_topics[camera]))

    def discover(self, graph: Sequence[Topic]) -> None:
        """Subscribe to discovered cameras."""
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
        """Choose the published transport if the parameter does not."""
        super().check()
        for topic in self.joined.values() if self.values.transport == 'auto' else ():
            subscription = self.subscription(topic)
            kinds = {info.topic_type for info in subscription.publishers}
            if len(kinds) == 1 and (kind := TRANSPORTS.get(kinds.pop())) and subscription.others():
                subscription.retype(TYPES[kind])

    def _read(self, camera: FoundSensor) -> None:
        pattern = self.values.camera_info_topic
        info = pattern.replace('{camera}', camera.name) if pattern else camera.info
        self._info_topics[camera.name] = info
        self.listen(CameraInfo, info, self._info_callback(camera.name))
        self.join(camera.name, TYPES[camera.transport], camera.topic)

    def _leave(self, camera: FoundSensor) -> None:
        self.forget(self._info_topics[camera.name])
        self.leave(camera.name)

    def stop(self) -> None:
        """Unsubscribe from every camera."""
        super().stop()
        self._found.clear()

    def part(self, item: Input) -> CameraView:
        """Return the view with its mounting and newest calibration."""
        message = item.message
        convert = to_image_file if isinstance(message, CompressedImage) else to_rgb
        image = convert(message, self.values.encoder.max_pixels)
        (rotation, position), lens = self._mount(item), self._calibration(item, image)
        return CameraView(item.source, image, lens.matrix, rotation, item.stamp_ns, lens.distortion, position)

    def frame(self, parts: Sequence[CameraView]) -> CameraFrame:
        """Return the views as one frame."""
        return CameraFrame(tuple(parts), self.values.base_frame)

    def _mount(self, item: Input) -> tuple[np.ndarray | None, np.ndarray | None]:
        """[3, 3] optical frame to base frame; None if the name of the camera gives it.  [3]: where it is."""
        camera, frame_id = item.source, item.message.header.frame_id
        named = nominal_yaw(camera, self.encoder.config) is not None
        alone = len(self.joined) == 1
        otherwise = 'taking the direction of its name' if named else \
            'taking it as looking ahead' if alone else 'leaving it out'
        mounts = self.mounts
        assert mounts is not None  # the encoder is loaded
        pose = mounts.pose(camera, frame_id, self.values.base_frame, otherwise)
        if pose is not None:
            rotation, amiss = optical_rotation(pose[:3, :3], frame_id)
            self.concerns.set(f'{camera} axis', f'{camera}: {amiss}' if amiss else '')
            return rotation, pose[:3, 3]
        self.concerns.set(f'{camera} axis', '')
        if named or alone:
            return None if named else facing(0.), None
        raise ImageError(f'{camera}: {mounts.unknown(frame_id, self.values.base_frame)}; or add its '
                         'name to encoder.nominal_views and its direction to encoder.nominal_yaws')

    def _calibration(self, item: Input, image: np.ndarray | ImageFile) -> Calibration:
        """Return the viewing directions of the pixels; every assumption is a concern while it lasts."""
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
        mounts = self.mounts
        assert mounts is not None  # the encoder is loaded
        while camera not in self._infos:
            if camera not in self._latched and any(
                    publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
                    for publisher in self.get_publishers_info_by_topic(topic)):
                self._latched.add(camera)
                self._subscriptions_made.append(self.create_subscription(
                    CameraInfo, self._info_topics[camera], partial(self._info_callback(camera), topic),
                    qos_profile(LATCHED), callback_group=self.inputs_group,
                    event_callbacks=SubscriptionEventCallbacks(incompatible_qos=lambda event: None)))
            left = mounts.patience()
            if left <= 0:
                break
            time.sleep(min(0.05, left))
        return self._infos.get(camera)

    def _info_callback(self, camera: str) -> Any:
        def callback(topic: str, message: CameraInfo) -> None:
            self._infos[camera] = message
        return callback
