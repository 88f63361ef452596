"""Node: objects that the robot's own detectors find become tokens."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import MarkerArray

from mpnp_ros.conversions.camera_info import calibration, is_rectified_topic
from mpnp_ros.conversions.detections import (
    BOXES,
    IMAGE_BOXES,
    MARKERS,
    TYPES,
    StampedMarkers,
    from_detections_2d,
    from_detections_3d,
    from_markers,
    message_class,
)
from mpnp_ros.detection.classes import load_class_map
from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.hypotheses import (
    ClassReader,
    NamedObjects,
    ScoreCalibration,
    calibration_problem,
)
from mpnp_ros.detection.merging import merged
from mpnp_ros.detection.motion import MotionTracker
from mpnp_ros.endpoints import GROUNDING_BOXES, GROUNDING_MARKERS, OBJECTS
from mpnp_ros.errors import ConfigurationError, DetectionsError, ImageError
from mpnp_ros.modalities.camera.calibration import optical_rotation
from mpnp_ros.modalities.detections.config import DetectionsConfig
from mpnp_ros.modalities.detections.health import DetectionsLimits
from mpnp_ros.modalities.detections.places import in_image, in_space, looked_between
from mpnp_ros.nodes.discovery import (
    CAMERA_INFO,
    FoundSensor,
    FoundSensors,
    Topic,
    below,
    info_topic,
    matching,
)
from mpnp_ros.nodes.ego_poses import UNTOLD, EgoPoses, fixed_frame_option, odometry_option
from mpnp_ros.nodes.encoder_node import EncoderOptions, Input
from mpnp_ros.nodes.parameters import topic_problem
from mpnp_ros.nodes.synchronized_encoder import (
    SynchronizedEncoder,
    slop_option,
    timeout_option,
    topics_of,
    topics_problem,
)
from mpnp_ros.options import Change, option

PATTERN = '{detector}/detections'
WORLDS = ('map', 'odom', 'world', 'earth')
"""Frames that cannot be taken as the robot's own."""
OWN = (OBJECTS.format(modality=''), GROUNDING_BOXES, GROUNDING_MARKERS)
"""Ends of topics that nodes of this package publish."""
GENERIC = ('detections', 'objects', 'markers', 'detection', 'boxes')


@dataclass(frozen=True)
class DetectionsOptions(EncoderOptions):
    """Parameters of the node."""

    detectors: tuple[str, ...] = option(
        (), 'names of the detectors; empty: those that publish below the namespace of the node, as soon as '
            'they do; of boxes around the robot the first by name, or else all of boxes in images',
        change=Change.CONFIGURE)
    topic: str = option(
        PATTERN, 'topic of {detector}. Without {detector}, and with detectors empty: of the one detector',
        change=Change.CONFIGURE)
    type: str = option(
        'auto', f'messages of the detectors; boxes: {BOXES}; image_boxes: {IMAGE_BOXES}; markers: {MARKERS}; '
                'auto: what is published, markers only where detectors or topic say where',
        choices=('auto', *TYPES), change=Change.CONFIGURE)
    camera_info_topic: str = option(
        '', 'topic of the calibration of the camera of {detector}, for boxes in images; empty: camera_info '
            'beside the detections', change=Change.CONFIGURE)
    rectified: str = option(
        'auto', 'whether boxes are those of rectified images, as of the camera encoder; auto: true where the '
                'topic of the detections says rect', choices=('auto', 'true', 'false'), change=Change.LIVE)
    slop: float = slop_option('detections', 0.08)
    timeout: float = timeout_option('detections', 0.15)
    classes: str = option(
        'nuscenes', 'class map: nuscenes, coco, open_images, street, or the path of a YAML file',
        change=Change.CONFIGURE)
    class_names: tuple[str, ...] = option(
        (), 'names of the classes in their order, where messages have numbers, from 0, in place of names',
        change=Change.CONFIGURE)
    calibration: tuple[float, ...] = option(
        (), 'how scores become probabilities; empty: they are probabilities; one number: a temperature, '
            'above 1 for a detector that is too sure; pairs of score, probability: straight lines between '
            'them',
        change=Change.CONFIGURE)
    least_existence: float = option(
        0.05, 'objects less probable than this are left out', low=0, high=1, change=Change.CONFIGURE)
    marker_score: float = option(
        0.8, 'score of markers, which have none', low=0, high=1, change=Change.CONFIGURE)
    range_deviation: float = option(
        0.4, 'standard deviation of a distance whose covariance is not in the message', unit='m', low=0.01,
        high=100, change=Change.CONFIGURE)
    max_distance: float = option(
        0.0, 'distance up to which the detectors find objects; 0: as far as encoder.reach', unit='m', low=0,
        high=1000, change=Change.CONFIGURE)
    view: tuple[float, ...] = option(
        (), 'two directions between which detectors of boxes around the robot look, counter-clockwise from '
            'the first, 0 ahead and 90 left; empty: all around', unit='degree', low=-360, high=360,
        change=Change.CONFIGURE)
    fixed_frame: str = fixed_frame_option()
    odometry_topic: str = odometry_option()
    encoder: DetectionsConfig = option(DetectionsConfig(), 'the encoder', change=Change.CONFIGURE)
    health: DetectionsLimits = option(DetectionsLimits(), 'how good the input is', change=Change.CONFIGURE)

    @property
    def names(self) -> tuple[str, ...]:
        """The detectors that are named; none: they are to be found."""
        return self.detectors or (() if '{detector}' in self.topic else (detector_name(self.topic),))

    def check(self) -> Iterator[str]:
        """Detectors and topics must fit each other; a calibration and a view must be one."""
        for key in ('topic', 'camera_info_topic'):
            if self[key] and (problem := topics_problem('detector', self.names, self[key], key)):
                yield problem
        if self.odometry_topic and (problem := topic_problem('odometry_topic', self.odometry_topic)):
            yield problem
        if problem := calibration_problem(self.calibration):
            yield f'calibration is {list(self.calibration)}: {problem}'
        if self.view and (len(self.view) != 2 or (self.view[1] - self.view[0]) % 360 == 0):
            yield f'view is {list(self.view)}; give two different directions, or none for all around'


class DetectionsNode(SynchronizedEncoder):
    """Groups the detections of one moment, merges them, and estimates what moves."""

    MODALITY, OPTIONS = 'detections', DetectionsOptions
    HINT = 'set `topic` (and `detectors`)'

    def __init__(self) -> None:
        super().__init__()
        self._topics: dict[str, str] = {}
        self._types: dict[str, str] = {}
        self._type = 'auto'
        self._info_pattern = ''
        self._infos: dict[str, CameraInfo] = {}
        self._info_topics: dict[str, str] = {}
        self._refused = ''
        self._understood: set[str] = set()
        self._reader: ClassReader | None = None
        self._tracker = MotionTracker()
        self._ego: EgoPoses | None = None
        self._found = FoundSensors(
            self, 'detections', 'topic', tuple(TYPES.values()), kin='detect|object|bbox|box', same=str,
            find=self._choose, read=self._read, leave=self._leave)

    @property
    def discovers(self) -> bool:
        """Return whether topics, or what is on them, have to be found."""
        return not self._topics or self._type == 'auto'

    def load(self) -> None:
        """Read the class map and load the encoder."""
        values, names = self.values, self.values.names
        self._topics = topics_of('detector', names, values.topic, 'topic') if names else {}
        self._type, self._info_pattern = values.type, values.camera_info_topic
        self._understood.clear()
        self._reader = ClassReader(load_class_map(values.classes), values.class_names,
                                   ScoreCalibration(values.calibration))
        if self._topics and self._type != 'auto':
            message_class(TYPES[self._type])
        self._marker_score, self._deviation = values.marker_score, values.range_deviation
        self._least, self._looked = values.least_existence, looked_between(values.view)
        self._max_distance = values.max_distance or np.inf
        super().load()

    def start(self) -> None:
        """Subscribe to the detectors named by parameters, and to the pose of the robot."""
        super().start()
        self.begin()
        self._tracker.forget()
        self._ego = EgoPoses(self, self.values.odometry_topic, self.inputs_group)
        if not self.discovers:
            for name, topic in self._topics.items():
                self._read(FoundSensor(name, topic, self._type, info_topic(topic)))

    def stop(self) -> None:
        """Unsubscribe."""
        super().stop()
        self._found.clear()
        self._types.clear()
        self._infos.clear()
        if self._ego:
            self._ego.destroy()

    def discover(self, graph: Sequence[Topic]) -> None:
        """Subscribe to discovered detectors."""
        pattern, named = self.values.topic, {}
        if self._topics:
            named = {self.resolve_topic_name(topic): name for name, topic in self._topics.items()}
        elif pattern != PATTERN:
            named = matching(graph, pattern, 'detector', self.get_namespace())
        chosen = self._topics or pattern != PATTERN
        allowed = [topic for topic in graph if topic.type == CAMERA_INFO or not chosen or topic.name in named]
        self._refused = ''
        self._found.follow(graph, allowed, named)
        self.conditions.set('message type', self._refused)

    def readable(self, graph: Sequence[Topic]) -> list[str]:
        """Return the topics of detections."""
        return [topic.name for topic in graph if topic.type in (BOXES, IMAGE_BOXES)]

    def receive(self, topic: str, source: str, message: Any) -> Input:
        """Count a received message; markers get a header."""
        if isinstance(message, MarkerArray):
            message = StampedMarkers(message, self.get_clock().now().to_msg())
        return super().receive(topic, source, message)

    def part(self, item: Input) -> Detections:
        """Return the objects of one message in the base frame."""
        if self._types[item.source] == 'image_boxes':
            return self._in_image(item)
        reader = self._reader
        assert reader is not None  # the node is configured
        boxes = from_markers(item.message, lambda name: reader.row(name) is not None,
                             self._marker_score) if self._types[item.source] == 'markers' \
            else from_detections_3d(item.message)
        named = self._named(item.source, boxes.hypotheses)
        if not len(boxes.centre):
            found = in_space(boxes, named, np.eye(4), self._deviation, self._looked)
        else:
            found = in_space(boxes, named, self._pose(item, boxes.frame_id), self._deviation, self._looked)
        return self._finished(item, found)

    def frame(self, parts: Sequence[Detections]) -> Detections:
        """Return each object once, with its motion."""
        whole, base = merged(parts), self.values.base_frame
        ego = self._ego.pose(base, self.values.fixed_frame, whole.stamp_ns) if self._ego else None
        followed = self._tracker.follow(whole, ego)
        told = self._tracker.concern
        self.concerns.set('motion', f'{told}; {UNTOLD.format(base=base)}' if told else '', quality=1.)
        return followed

    def _finished(self, item: Input, found: Detections) -> Detections:
        """Return the objects with their source and time, without those that hardly exist."""
        assert self._reader is not None  # the node is configured
        named = replace(
            found, sources=(item.source,), source_index=np.zeros(len(found), np.uint16),
            known=self._reader.known, max_distance=self._max_distance, stamp_ns=item.stamp_ns,
            frame_id=self.values.base_frame)
        return named.select(named.existence >= self._least)

    def _named(self, source: str, hypotheses: Sequence[Any]) -> NamedObjects:
        """Return existence and categories, and raise a concern where none of them can count."""
        assert self._reader is not None  # the node is configured
        named = self._reader.read(hypotheses)
        if any(name not in named.unknown for each in hypotheses for name, _ in each):
            self._understood.add(source)
        lost = '' if source in self._understood else ', '.join(named.unknown[:6])
        self.concerns.set(f'{source} classes', f'{source}: no class of {lost} is in the class map '
                          f'{self.values.classes}; set classes, or class_names for numbers' if lost else '',
                          quality=0.25)
        scored = not hypotheses or named.existence.any() or any(
            score > 0 for each in hypotheses for _, score in each)
        self.concerns.set(f'{source} scores', '' if scored else
                          f'{source}: every score is 0, so that nothing counts; publish scores, or set '
                          'calibration to [0.0, 1.0, 1.0, 1.0] where everything is certain', quality=0.25)
        return named

    def _pose(self, item: Input, frame_id: str) -> np.ndarray:
        """Return the pose [4, 4] of a frame in the base frame at the time of the message."""
        base, frame, alone = self.values.base_frame, frame_id.lstrip('/'), len(self.joined) == 1
        robot = self._ego.pose(base, frame, item.stamp_ns) if self._ego and frame not in ('', base) else None
        if robot is not None:
            back, matrix = robot.inverse(), np.eye(4)
            matrix[:3, :3], matrix[:3, 3] = back.rotation, back.translation
            return matrix
        usable, mounts = alone and frame not in WORLDS, self.mounts
        assert mounts is not None  # the encoder is loaded
        pose = mounts.pose(item.source, frame_id, base,
                           'taking them as the same' if usable else 'leaving it out')
        if pose is None and not usable:
            raise DetectionsError(f'{item.source}: {mounts.unknown(frame_id, base)}')
        return np.eye(4) if pose is None else pose

    def _in_image(self, item: Input) -> Detections:
        boxes = from_detections_2d(item.message)
        topic = self.resolve_topic_name(self._info_topics[item.source])
        info = self._infos.get(item.source)
        if info is None:
            raise DetectionsError(f'{item.source}: no calibration on {topic}; boxes in an image have no '
                                  'direction without it; set camera_info_topic')
        said = self.values.rectified
        rectified = is_rectified_topic(item.topic) if said == 'auto' else said == 'true'
        try:
            lens = calibration(info, None, rectified)
        except ImageError as error:
            raise DetectionsError(f'{topic}: {error}') from None
        if lens.matrix is None or not info.width or not info.height:
            raise DetectionsError(f'{topic} says that the camera is not calibrated, or not for which images; '
                                  'calibrate it')
        frame_id = boxes.frame_id or info.header.frame_id
        mounts = self.mounts
        assert mounts is not None  # the encoder is loaded
        pose = mounts.pose(item.source, frame_id, self.values.base_frame, 'leaving it out')
        if pose is None:
            raise DetectionsError(f'{item.source}: {mounts.unknown(frame_id, self.values.base_frame)}')
        pose = pose.copy()
        pose[:3, :3], amiss = optical_rotation(pose[:3, :3], frame_id)
        self.concerns.set(f'{item.source} axis', f'{item.source}: {amiss}' if amiss else '')
        named = self._named(item.source, boxes.hypotheses)
        return self._finished(item, in_image(boxes, named, pose, lens.matrix, lens.distortion,
                                             (info.width, info.height)))

    def _choose(self, graph: Sequence[Topic], namespace: str, named: Mapping[str, str]) -> list[FoundSensor]:
        """Return the topics to read; of those that no parameter names, boxes around the robot first."""
        words = {type_name: word for word, type_name in TYPES.items()}
        allowed = TYPES.values() if self._type == 'auto' else (TYPES[self._type],)
        inside = sorted((topic for topic in graph if topic.type in allowed and (
            topic.name in self._by_hand or topic in below([topic], namespace) and
            not topic.name.endswith(OWN))), key=lambda topic: topic.name)
        if not self._by_hand and self.values.topic == PATTERN:
            inside = [topic for topic in inside if topic.type != MARKERS or self._type == 'markers']
            around = [topic for topic in inside if topic.type != IMAGE_BOXES]
            kept = [topic for topic in around if topic.name in named]
            inside = (kept or around)[:1] or inside
        infos = {topic.name for topic in graph if topic.type == CAMERA_INFO}
        found: list[FoundSensor] = []
        for topic in inside:
            try:
                message_class(topic.type)
            except ConfigurationError as error:
                self._refused = f'{topic.name}: {error}'
                continue
            name = named.get(topic.name) or detector_name(topic.name, {sensor.name for sensor in found})
            found.append(FoundSensor(name, topic.name, words[topic.type], info_topic(topic.name, infos)))
        return found

    @property
    def _by_hand(self) -> set[str]:
        return {self.resolve_topic_name(topic) for topic in self._topics.values()}

    def _read(self, detector: FoundSensor) -> None:
        name, self._types[detector.name] = detector.name, detector.transport
        if detector.transport == 'image_boxes':
            self._info_topics[name] = self._info_pattern.replace('{detector}', name) or detector.info
            self.listen(CameraInfo, self._info_topics[name],
                        lambda topic, message: self._infos.__setitem__(name, message))
        self.join(name, message_class(TYPES[detector.transport]), detector.topic)

    def _leave(self, detector: FoundSensor) -> None:
        if info := self._info_topics.pop(detector.name, ''):
            self.forget(info)
        self.leave(detector.name)
        self._infos.pop(detector.name, None)


def detector_name(topic: str, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """Return the name of a detector: the last part of its topic that is not a generic word."""
    parts = [part for part in topic.split('/') if part]
    telling = [part for part in parts if part.lower() not in GENERIC] or parts or ['detector']
    name = telling[-1]
    return name if name not in taken else '_'.join(parts)
