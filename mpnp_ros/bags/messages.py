"""ROS messages of a nuScenes scene as rosbags objects: images, clouds, poses, boxes, questions."""
from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from mpnp_ros.errors import BagError
from mpnp_ros.poses import Transform, rotation_about_z
from mpnp_ros.questions.generator import LabelledQuestion
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading
from mpnp_ros.questions.vocabulary import ANSWERS

PACKAGE = 'mpnp_ros'

MAP_FRAME, BASE_FRAME = 'map', 'base_link'
MOTION_WINDOW = 0.1
"""Seconds before and after a moment from which its velocity is derived: poses that are milliseconds apart may
come from different sensors, and then differ by centimetres.
"""

COLOURS = {
    'barrier': (0.44, 0.50, 0.56), 'bicycle': (0.86, 0.08, 0.24), 'bus': (1.0, 0.50, 0.31),
    'car': (1.0, 0.62, 0.0), 'construction vehicle': (0.91, 0.59, 0.48), 'motorcycle': (1.0, 0.24, 0.39),
    'pedestrian': (0.0, 0.0, 0.90), 'traffic cone': (0.18, 0.31, 0.31), 'trailer': (1.0, 0.55, 0.0),
    'truck': (1.0, 0.39, 0.28),
}
"""Red, green, blue of each category, 0..1, as in the official devkit."""

_POINT_FIELD_TYPES = {'i1': 1, 'u1': 2, 'i2': 3, 'u2': 4, 'i4': 5, 'u4': 6, 'f4': 7, 'f8': 8}


def message_types() -> Typestore:
    """Return a store of the types of ROS 2 Jazzy and of ``mpnp_ros/msg``, to (de)serialise messages (CDR)."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for definition in sorted(definitions_folder().glob('*.msg')):
        store.register(get_types_from_msg(definition.read_text('utf-8'), f'{PACKAGE}/msg/{definition.stem}'))
    return store


def definitions_folder() -> Path:
    """Return the folder of this package's ``.msg`` files, installed or in the checkout."""
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    candidates = [Path(prefix, 'share', PACKAGE, 'msg') for prefix in prefixes if prefix]
    candidates.append(Path(__file__).resolve().parents[2] / 'msg')
    for folder in candidates:
        if any(folder.glob('*.msg')):
            return folder
    raise BagError(f'the message definitions of {PACKAGE} are not installed: no *.msg in '
                   f'{", ".join(map(str, candidates))}; source the workspace that {PACKAGE} was built in')


class MessageFactory:
    """Creates messages; each has its type (``__msgtype__``) and is serialised by the same typestore."""

    def __init__(self, types: Typestore) -> None:
        self._types = types

    def new(self, type_name: str, **fields: Any) -> Any:
        """Return a message with the given fields; other fields are zero."""
        _, definitions = self._types.fielddefs[type_name]
        values = {name: fields.pop(name) if name in fields else self._zero(kind)
                  for name, kind in definitions}
        if fields:
            raise TypeError(f'{type_name} has no field {", ".join(fields)}')
        return self._types.types[type_name](**values)

    def _zero(self, kind: Any) -> Any:
        node, detail = kind
        if node == Nodetype.NAME:
            return self.new(detail)
        if node == Nodetype.BASE:
            return '' if detail[0] == 'string' else np.dtype(detail[0]).type(0).item()
        (element_node, element), length = detail
        count = length if node == Nodetype.ARRAY else 0
        if element_node == Nodetype.BASE and element[0] != 'string':
            return np.zeros(count, element[0])
        return [self._zero((element_node, element)) for _ in range(count)]

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """Return std_msgs/Header."""
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        stamp = self.new('builtin_interfaces/msg/Time', sec=seconds, nanosec=nanoseconds)
        return self.new('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)

    def compressed_image(self, reading: SensorReading, jpeg: bytes) -> Any:
        """Return sensor_msgs/CompressedImage with the unchanged JPEG or PNG file."""
        return self.new('sensor_msgs/msg/CompressedImage', header=self._header_of(reading),
                        format='png' if jpeg.startswith(b'\x89PNG') else 'jpeg',
                        data=np.frombuffer(jpeg, np.uint8))

    def camera_info(self, reading: SensorReading) -> Any:
        """Return sensor_msgs/CameraInfo of a camera.

        nuScenes images are rectified, so D is zero and P is [K | 0].
        """
        assert reading.size and reading.intrinsics is not None  # every reading of a camera has both
        width, height = reading.size
        return self.new(
            'sensor_msgs/msg/CameraInfo', header=self._header_of(reading), width=width, height=height,
            distortion_model='plumb_bob', d=np.zeros(5), k=reading.intrinsics.ravel(), r=np.eye(3).ravel(),
            p=np.c_[reading.intrinsics, np.zeros(3)].ravel())

    def point_cloud(self, reading: SensorReading, points: np.ndarray) -> Any:
        """Return sensor_msgs/PointCloud2 of a structured array, with the same fields."""
        fields = [self.new('sensor_msgs/msg/PointField', name=name, offset=offset, count=1,
                           datatype=_POINT_FIELD_TYPES[kind.str[1:]])
                  for name, (kind, offset, *_) in (points.dtype.fields or {}).items()]
        return self.new(
            'sensor_msgs/msg/PointCloud2', header=self._header_of(reading), height=1, width=len(points),
            fields=fields, point_step=points.dtype.itemsize, row_step=points.nbytes, is_dense=True,
            data=np.frombuffer(points.tobytes(), np.uint8))

    def transforms(self, stamp_ns: int, parent: str, children: dict[str, Transform]) -> Any:
        """Return tf2_msgs/TFMessage: the pose of each child frame in the parent frame."""
        return self.new('tf2_msgs/msg/TFMessage', transforms=[
            self.new('geometry_msgs/msg/TransformStamped', header=self.header(stamp_ns, parent),
                     child_frame_id=child, transform=self.new(
                         'geometry_msgs/msg/Transform', translation=self._vector(pose.translation),
                         rotation=self._quaternion(pose)))
            for child, pose in children.items()])

    def odometry(self, stamp_ns: int, pose: Transform, velocity: np.ndarray, yaw_rate: float) -> Any:
        """Return nav_msgs/Odometry.

        pose: of the base in the map.  velocity: [3] m/s in the base frame.  yaw_rate: rad/s.
        """
        twist = self.new('geometry_msgs/msg/Twist', linear=self._vector(velocity),
                         angular=self._vector((0.0, 0.0, yaw_rate)))
        return self.new(
            'nav_msgs/msg/Odometry', header=self.header(stamp_ns, MAP_FRAME), child_frame_id=BASE_FRAME,
            pose=self.new('geometry_msgs/msg/PoseWithCovariance', pose=self._pose(pose)),
            twist=self.new('geometry_msgs/msg/TwistWithCovariance', twist=twist))

    def imu(self, stamp_ns: int, orientation: Sequence[float], rotation_rate: Sequence[float],
            acceleration: Sequence[float]) -> Any:
        """Return sensor_msgs/Imu: orientation (w, x, y, z), rotation rate (rad/s), acceleration (m/s^2)."""
        w, x, y, z = orientation
        return self.new(
            'sensor_msgs/msg/Imu', header=self.header(stamp_ns, BASE_FRAME),
            orientation=self.new('geometry_msgs/msg/Quaternion', w=w, x=x, y=y, z=z),
            angular_velocity=self._vector(rotation_rate), linear_acceleration=self._vector(acceleration))

    def annotations(self, frame: KeyFrame) -> Any:
        """Return visualization_msgs/MarkerArray: "delete all", then a cube in the map for each object."""
        def header() -> Any:
            return self.header(frame.stamp_ns, MAP_FRAME)

        markers = [self.new('visualization_msgs/msg/Marker', action=3, header=header())]
        for number, item in enumerate(frame.objects):
            red, green, blue = COLOURS[item.category]
            box = frame.ego_pose @ Transform(rotation_about_z(item.yaw), np.array(item.centre))
            markers.append(self.new(
                'visualization_msgs/msg/Marker', header=header(), ns=item.category, id=number, type=1,
                pose=self._pose(box), scale=self._vector(item.size),
                color=self.new('std_msgs/msg/ColorRGBA', r=red, g=green, b=blue, a=0.5),
                text=' '.join(filter(None, (item.category, item.attribute)))))
        return self.new('visualization_msgs/msg/MarkerArray', markers=markers)

    def labelled_questions(self, stamp_ns: int, sample_token: str,
                           questions: Iterable[LabelledQuestion]) -> Any:
        """Return mpnp_ros/LabelledQuestions; the choices of every question are all 30 answers."""
        return self.new(
            'mpnp_ros/msg/LabelledQuestions', header=self.header(stamp_ns, BASE_FRAME),
            sample_token=sample_token, questions=[
                self.new('mpnp_ros/msg/LabelledQuestion', answer=item.answer, type=item.type, hops=item.hops,
                         question=self.new('mpnp_ros/msg/Question', id=f'{sample_token}/{number}',
                                           text=item.text, choices=list(ANSWERS)))
                for number, item in enumerate(questions)])

    def _header_of(self, reading: SensorReading) -> Any:
        return self.header(reading.stamp_ns, reading.channel.lower())

    def _vector(self, values: Iterable[float]) -> Any:
        x, y, z = map(float, values)
        return self.new('geometry_msgs/msg/Vector3', x=x, y=y, z=z)

    def _quaternion(self, pose: Transform) -> Any:
        w, x, y, z = pose.quaternion
        return self.new('geometry_msgs/msg/Quaternion', w=w, x=x, y=y, z=z)

    def _pose(self, pose: Transform) -> Any:
        x, y, z = pose.translation.tolist()
        return self.new('geometry_msgs/msg/Pose', orientation=self._quaternion(pose),
                        position=self.new('geometry_msgs/msg/Point', x=x, y=y, z=z))


def motion(stamps_ns: Sequence[int], poses: Sequence[Transform]) -> tuple[np.ndarray, np.ndarray]:
    """Return velocities [N, 3] (m/s, base frame) and yaw rates [N] (rad/s) of at least two poses.

    stamps_ns: increasing.  Both are means from :data:`MOTION_WINDOW` before until after each.
    """
    seconds = (np.asarray(stamps_ns) - stamps_ns[0]) / 1e9
    begin, end = (np.clip(seconds + shift, 0, seconds[-1]) for shift in (-MOTION_WINDOW, MOTION_WINDOW))

    def rate(values: np.ndarray | Sequence[float]) -> np.ndarray:
        return (np.interp(end, seconds, values) - np.interp(begin, seconds, values)) / (end - begin)

    velocity = np.stack([rate(axis) for axis in zip(*(pose.translation for pose in poses), strict=True)], 1)
    yaw_rate = rate(np.unwrap([pose.yaw for pose in poses], period=math.tau))
    return np.stack([pose.rotation.T @ v for pose, v in zip(poses, velocity, strict=True)]), yaw_rate
