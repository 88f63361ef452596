"""Messages of detectors to arrays: ``vision_msgs`` and markers.

vision_msgs is not a part of every installation, so it is imported where a detector publishes it.
"""
from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from mpnp_ros.conversions.messages import from_nanoseconds
from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.hypotheses import Hypotheses
from mpnp_ros.errors import ConfigurationError, DetectionsError
from mpnp_ros.modalities.detections.places import ImageBoxes, SpaceBoxes
from mpnp_ros.poses import rotation_from_quaternion
from mpnp_ros.questions.vocabulary import CATEGORIES

BOXES, IMAGE_BOXES = 'vision_msgs/msg/Detection3DArray', 'vision_msgs/msg/Detection2DArray'
MARKERS = 'visualization_msgs/msg/MarkerArray'
TYPES = {'boxes': BOXES, 'image_boxes': IMAGE_BOXES, 'markers': MARKERS}
"""Types of messages that are read, by the word of the parameter."""
SOLID = (Marker.CUBE, Marker.SPHERE, Marker.CYLINDER, Marker.MESH_RESOURCE)
OUTLINE = (Marker.LINE_STRIP, Marker.LINE_LIST)
TYPICAL = {'barrier': (.5, 2., 1.), 'bicycle': (1.7, .6, 1.3), 'bus': (11., 2.9, 3.4), 'car': (4.6, 1.9, 1.7),
           'construction vehicle': (6., 2.8, 3.1), 'motorcycle': (2.1, .8, 1.5), 'pedestrian': (.7, .7, 1.75),
           'traffic cone': (.4, .4, .9), 'trailer': (12., 2.9, 3.8), 'truck': (6.9, 2.5, 2.9)}
"""Metres, length, width and height of objects whose size is not known."""
LEAST_TOLD = 0.02
"""Categories of lower probability are left out, but for the likeliest one."""
TELLING = 1.0
"""Metres/second, velocity from which on it shows where an object heads."""


class StampedMarkers:
    """Markers with a header, which a MarkerArray does not have: that of its first marker."""

    def __init__(self, message: MarkerArray, now: Any) -> None:
        """now: stamp where the markers have none."""
        self.markers = [marker for marker in message.markers if marker.action == Marker.ADD]
        first = self.markers[0].header if self.markers else Header()
        self.header = Header(stamp=first.stamp if first.stamp.sec or first.stamp.nanosec else now,
                             frame_id=first.frame_id)


def message_class(type_name: str) -> type:
    """Return the class of a type such as ``vision_msgs/msg/Detection3DArray``.

    Raises ConfigurationError where its package is not installed.
    """
    package, _, name = type_name.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f'{type_name} cannot be read: {package} is not installed ({error}); install '
            f'ros-<distribution>-{package.replace("_", "-")}, or `make install` without a distribution'
        ) from None


def from_detections_3d(message: Any) -> SpaceBoxes:
    """Return the boxes of a Detection3DArray; see SpaceBoxes.

    Where a box has no size and no place, the pose of its likeliest hypothesis is taken.  Raises
    DetectionsError for numbers that are not finite.
    """
    hypotheses, centre, size, axis, covariance = [], [], [], [], []
    for item in message.detections:
        likely = max(item.results, key=lambda result: result.hypothesis.score, default=None)
        box, pose = item.bbox, item.bbox.center
        lengths = np.array([box.size.x, box.size.y, box.size.z])
        if likely is not None and not lengths.any() and not _xyz(pose.position).any():
            pose = likely.pose.pose
        hypotheses.append(_hypotheses(item))
        centre.append(_xyz(pose.position))
        size.append(np.where(lengths > 0, lengths, np.nan))
        axis.append(_axis(pose))
        covariance.append(np.full((3, 3), np.nan) if likely is None else
                          np.array(likely.pose.covariance).reshape(6, 6)[:3, :3])
    return _checked(SpaceBoxes(tuple(hypotheses), _rows(centre, 3), _rows(size, 3), _rows(axis, 3),
                               _rows(covariance, 3, 3), message.header.frame_id))


def to_detections_3d(detections: Detections) -> Any:
    """Return objects as a Detection3DArray.

    The score of a hypothesis is the probability of an object of that category.  A size that is not known is
    that of a typical object, and a heading that is not known is ahead, or along its velocity.
    """
    kinds = importlib.import_module('vision_msgs.msg')
    message = kinds.Detection3DArray()
    message.header = Header(stamp=from_nanoseconds(detections.stamp_ns), frame_id=detections.frame_id)
    spread = np.nan_to_num(detections.range_deviation)
    for row in range(len(detections)):
        chances = detections.existence[row] * detections.categories[row]
        item = kinds.Detection3D(header=message.header)
        item.id = str(detections.track[row]) if detections.track[row] >= 0 else ''
        size = np.where(np.isnan(detections.size[row]), TYPICAL[CATEGORIES[int(chances.argmax())]],
                        detections.size[row])
        yaw, speed = detections.yaw[row], detections.velocity[row]
        if np.isnan(yaw):
            yaw = math.atan2(speed[1], speed[0]) if np.hypot(*speed) > TELLING else 0.
        pose = Pose()
        pose.position.x, pose.position.y = map(float, detections.position[row])
        pose.position.z = float(size[2]) / 2
        pose.orientation.z, pose.orientation.w = math.sin(yaw / 2), math.cos(yaw / 2)
        item.bbox.center = pose
        item.bbox.size.x, item.bbox.size.y, item.bbox.size.z = map(float, size)
        unit = detections.position[row] / max(1e-6, float(detections.distance[row]))
        along = np.outer(unit, unit) * spread[row] ** 2
        for category in np.argsort(-chances):
            if chances[category] < LEAST_TOLD and item.results:
                break
            result = kinds.ObjectHypothesisWithPose()
            result.hypothesis.class_id = CATEGORIES[category]
            result.hypothesis.score = float(chances[category])
            result.pose.pose = pose
            result.pose.covariance[0:2], result.pose.covariance[6:8] = along
            item.results.append(result)
        message.detections.append(item)
    return message


def from_detections_2d(message: Any) -> ImageBoxes:
    """Return the boxes of a Detection2DArray; a turned box as the upright one around it.

    Raises DetectionsError for a box without a place or a size.
    """
    corners = []
    for item in message.detections:
        box, middle = item.bbox, item.bbox.center
        cos, sin = abs(np.cos(middle.theta)), abs(np.sin(middle.theta))
        width, height = box.size_x * cos + box.size_y * sin, box.size_x * sin + box.size_y * cos
        corners.append([middle.position.x - width / 2, middle.position.y - height / 2,
                        middle.position.x + width / 2, middle.position.y + height / 2])
    found = _rows(corners, 4)
    if not np.isfinite(found).all() or (found[:, :2] >= found[:, 2:]).any():
        raise DetectionsError('a box in the image has no size, or a place that is not finite')
    return ImageBoxes(tuple(map(_hypotheses, message.detections)), found, message.header.frame_id)


def from_markers(message: StampedMarkers, is_class: Callable[[str], bool], score: float) -> SpaceBoxes:
    """Return the boxes of markers that name a class; see SpaceBoxes.

    The class is the namespace of the marker, or else the first word that is one in its text or in that of
    the text marker with its id.  A text marker stands for an object where no box has its id.  is_class:
    whether a class map has a name.  score: of each, as markers have none.
    """
    texts = {marker.id: marker.text for marker in message.markers if marker.type == Marker.TEXT_VIEW_FACING}
    solid = [marker for marker in message.markers if marker.type in (*SOLID, *OUTLINE)]
    found: dict[tuple[int, str], tuple[Marker, str]] = {}
    for marker in solid:
        name = _class_of((marker.ns, *_words(marker.text), *_words(texts.get(marker.id, ''))), is_class)
        kept = found.get((marker.id, name))
        if name and (kept is None or kept[0].type in OUTLINE and marker.type in SOLID):
            found[marker.id, name] = marker, name
    ids = {marker.id for marker, _ in found.values()}
    for marker in message.markers:
        name = _class_of((marker.ns, *_words(marker.text)), is_class)
        if marker.type == Marker.TEXT_VIEW_FACING and marker.id not in ids and name:
            found[marker.id, name] = marker, name
    frames = {marker.header.frame_id for marker, _ in found.values()}
    if len(frames) > 1:
        raise DetectionsError(f'markers of the frames {", ".join(sorted(frames))} come in one message; '
                              'publish those of one frame')
    markers = [marker for marker, _ in found.values()]
    places = [_extent(marker) for marker in markers]
    return _checked(SpaceBoxes(
        tuple([(name, score)] for _, name in found.values()), _rows([place for place, _ in places], 3),
        _rows([size for _, size in places], 3), _rows([_axis(marker.pose) for marker in markers], 3),
        np.full((len(markers), 3, 3), np.nan), frames.pop() if frames else message.header.frame_id))


def _extent(marker: Marker) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle and the size of what a marker shows."""
    middle, unknown = _xyz(marker.pose.position), np.full(3, np.nan)
    if marker.type == Marker.TEXT_VIEW_FACING:
        return middle, unknown
    if marker.type in OUTLINE and marker.points:
        points = np.array([_xyz(point) for point in marker.points])
        low, high = points.min(0), points.max(0)
        return _rotation(marker.pose) @ ((low + high) / 2) + middle, high - low
    return middle, unknown if marker.type in (*OUTLINE, Marker.MESH_RESOURCE) else _xyz(marker.scale)


def _words(text: str) -> list[str]:
    return [text, *text.split()]


def _class_of(words: Iterable[str], is_class: Callable[[str], bool]) -> str:
    return next((word for word in words if word and is_class(word)), '')


def _hypotheses(item: Any) -> Hypotheses:
    return [(result.hypothesis.class_id, result.hypothesis.score) for result in item.results]


def _checked(boxes: SpaceBoxes) -> SpaceBoxes:
    if not np.isfinite(boxes.centre).all():
        raise DetectionsError('the place of a box is not finite')
    return boxes


def _rows(values: list[Any], *shape: int) -> np.ndarray:
    return np.array(values, np.float64).reshape(-1, *shape)


def _xyz(vector: Any) -> np.ndarray:
    return np.array([vector.x, vector.y, vector.z])


def _rotation(pose: Pose) -> np.ndarray:
    turn = (pose.orientation.w, pose.orientation.x, pose.orientation.y, pose.orientation.z)
    return rotation_from_quaternion(turn) if np.isfinite(turn).all() and any(turn) else np.eye(3)


def _axis(pose: Pose) -> np.ndarray:
    return _rotation(pose)[:, 0]
