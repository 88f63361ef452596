"""Node: encodes images of any number of cameras to camera tokens."""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from mpnp_ros.conversions.camera_info import Calibration, calibration, is_rectified_topic
from mpnp_ros.conversions.images import to_image_file, to_rgb
from mpnp_ros.detection.clusters import Clusters
from mpnp_ros.detection.motion import MotionTracker
from mpnp_ros.endpoints import LATCHED, qos_profile
from mpnp_ros.errors import ImageError, MpnpError
from mpnp_ros.modalities.camera.calibration import (
    facing,
    image_size,
    nominal_yaw,
    optical_rotation,
    view_rotation,
)
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
from mpnp_ros.nodes.ego_poses import UNTOLD, EgoPoses, fixed_frame_option, odometry_option
from mpnp_ros.nodes.encoder_node import EncoderOptions, Input
from mpnp_ros.nodes.objects import ObjectsPublisher
from mpnp_ros.nodes.parameters import topic_problem
from mpnp_ros.nodes.recent_inputs import RecentInputs
from mpnp_ros.nodes.sweeps import SweepHistory
from mpnp_ros.nodes.synchronized_encoder import (
    SynchronizedEncoder,
    slop_option,
    timeout_option,
    topics_of,
    topics_problem,
)
from mpnp_ros.options import Change, option
from mpnp_ros.poses import Transform
from mpnp_ros.tokens import SECOND, ModalityTokens

PATTERN = '{camera}/image_rect/compressed'
TYPES = {'compressed': CompressedImage, 'raw': Image}
APART = 0.19
"""Least seconds between images of a camera that are kept as earlier ones."""


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
    points_topic: str = option(
        '', 'used with detections: topic of the point clouds of a LiDAR that tells how far objects are and '
            'what moves; empty: none', change=Change.ACTIVATE)
    points_slop: float = option(
        0.25, 'largest difference of the stamps of images and of the point cloud that is used with them',
        unit='s', low=0.0, high=10.0, change=Change.LIVE)
    fixed_frame: str = fixed_frame_option()
    odometry_topic: str = odometry_option()
    publish_objects: bool = option(
        True, 'used with detections, and with a head that finds objects: publish them as boxes, while '
        'somebody listens', change=Change.ACTIVATE)
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
        for key in ('points_topic', 'odometry_topic'):
            if self[key] and (problem := topic_problem(key, self[key])):
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
        self._tracker = MotionTracker()
        self._recent = RecentInputs(APART)
        self._ego: EgoPoses | None = None
        self._sweeps: SweepHistory | None = None
        self._objects: ObjectsPublisher | None = None
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
        if self._detects or self._looks_back:
            self._follow()
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
        """Unsubscribe from every camera, and from what tells distances and motion."""
        if self._sweeps:
            self._sweeps.stop()
        super().stop()
        self._found.clear()
        if self._ego:
            self._ego.destroy()
        if self._objects:
            self._objects.destroy()
        self._sweeps = self._ego = self._objects = None
        self._recent = RecentInputs(APART)

    def part(self, item: Input) -> CameraView:
        """Return the view with its mounting and newest calibration."""
        message = item.message
        convert = to_image_file if isinstance(message, CompressedImage) else to_rgb
        image = convert(message, self.values.encoder.max_pixels)
        (rotation, position), lens = self._mount(item), self._calibration(item, image)
        return CameraView(item.source, image, lens.matrix, rotation, item.stamp_ns, lens.distortion, position)

    def receive(self, topic: str, source: str, message: Any) -> Input:
        """Count a received message; keep images where earlier ones are needed."""
        item = super().receive(topic, source, message)
        if self._looks_back and source in self.joined:
            self._recent.keep(item)
        return item

    def frame(self, parts: Sequence[CameraView]) -> CameraFrame:
        """Return the views as one frame; where objects are found, from where the robot was at its time."""
        first = min((view.stamp_ns for view in parts), default=0)
        if self._looks_back:
            parts = self._with_earlier(parts)
        ways = [self._way(view.stamp_ns, first) for view in parts]
        views = tuple(view if way is None else view.moved(way) for view, way in zip(parts, ways, strict=True))
        return CameraFrame(views, self.values.base_frame)

    def encode(self, frame: CameraFrame) -> ModalityTokens:
        """Return the tokens of a frame; of detections with distances from a LiDAR, and with what moves."""
        if self._looks_back:
            seen = self.encoder.detect(frame)
            if self._objects:
                self._objects.publish(seen)
            return self.encoder.tokens(seen)
        if not self._detects:
            return super().encode(frame)
        found = self.encoder.detect(frame, self._clusters(min(view.stamp_ns for view in frame.views)))
        followed = self._tracker.follow(found, self._pose(found.stamp_ns))
        told = self._tracker.concern
        self.concerns.set('motion', f'{told}; {UNTOLD.format(base=self.values.base_frame)}' if told else '',
                          quality=1.)
        if self._objects:
            self._objects.publish(followed)
        return self.encoder.tokens(followed)

    @property
    def _detects(self) -> bool:
        return bool(self.values.encoder.tokens == 'detections')

    @property
    def _looks_back(self) -> bool:
        return bool(getattr(self.encoder, 'looks_back', False))

    def _with_earlier(self, views: Sequence[CameraView]) -> list[CameraView]:
        """Return views with those of about half a second before, as they lie in the base frame of now."""
        made, missing = [], ''
        for view in views:
            found, reason = self._recent.with_way(view.name, view.stamp_ns, self._way, self.values.base_frame,
                                                  f'image of {view.name}')
            missing, earlier = reason or missing, None
            if found is not None:
                item, way = found
                with suppress(MpnpError):  # it was rejected when it came
                    before = self.part(item)
                    rotation = view_rotation(before, self.encoder.config)
                    earlier = replace(before, rotation=rotation).moved(way)
            made.append(replace(view, earlier=earlier))
        self.concerns.set('motion', f'motion cannot be seen: {missing}' if missing else '', quality=1.)
        return made

    def _follow(self) -> None:
        """Subscribe to the pose of the robot and to the LiDAR; offer the objects."""
        values = self.values
        self._tracker.forget()
        self._recent = RecentInputs(APART)
        self._ego = EgoPoses(self, values.odometry_topic, self.inputs_group)
        if values.points_topic and self._detects:
            self._sweeps = SweepHistory(
                self.get_name(), self._pose, self._way, self._mount_of_points,
                lambda item: self.supersede([item]),
                lambda item: self.tally.settle([item.topic], 'encoded'), self.reject)
            self.expect(values.points_topic)
            self.listen(PointCloud2, values.points_topic, self._take_points)
        if values.publish_objects:
            self._objects = ObjectsPublisher(self, self.MODALITY)

    def _take_points(self, topic: str, message: Any) -> None:
        item, sweeps = self.receive(topic, 'points', message), self._sweeps
        if sweeps:
            sweeps.add(item)
        else:
            self.supersede([item])

    def _mount_of_points(self, item: Input) -> np.ndarray | None:
        mounts = self.mounts
        assert mounts is not None  # the encoder is loaded
        return mounts.pose('points', item.message.header.frame_id, self.values.base_frame, 'leaving them out')

    def _pose(self, stamp_ns: int) -> Transform | None:
        """Return the pose of the base frame at a time in a frame that does not move."""
        ego = self._ego
        return ego.pose(self.values.base_frame, self.values.fixed_frame, stamp_ns) if ego else None

    def _way(self, then_ns: int, now_ns: int) -> Transform | None:
        """Return the map from the base frame at one time to the base frame at another."""
        ego = self._ego
        return ego.way(self.values.base_frame, self.values.fixed_frame, then_ns, now_ns) if ego else None

    def _clusters(self, stamp_ns: int) -> Clusters | None:
        """Return what a LiDAR sees at a time; without it distances are those of the images."""
        if self._sweeps is None:
            return None
        slop = self.values.points_slop
        found = self._sweeps.nearest(stamp_ns, round(SECOND * slop))
        concern = ''
        if found is None:
            topic = self.resolve_topic_name(self.values.points_topic)
            concern = (f'no point cloud of {topic} is within {slop:g} s of the images; distances are told by '
                       'the images alone')
        self.concerns.set('points', concern, quality=1.)
        return found

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
