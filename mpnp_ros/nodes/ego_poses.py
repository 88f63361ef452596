"""Where the robot was at a time, in a frame that does not move: from ``/tf`` and odometry messages."""
from __future__ import annotations

import bisect
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from nav_msgs.msg import Odometry
from tf2_msgs.msg import TFMessage

from mpnp_ros.conversions.messages import to_nanoseconds
from mpnp_ros.endpoints import LATCHED, SENSOR_DATA, qos_profile
from mpnp_ros.nodes.transforms import DEPTH, FIXED, MOVING, pose_matrix
from mpnp_ros.options import Change, option
from mpnp_ros.poses import Transform, rotation_from_quaternion
from mpnp_ros.tokens import SECOND

if TYPE_CHECKING:
    from geometry_msgs.msg import Point, Quaternion, Vector3
    from rclpy.callback_groups import CallbackGroup
    from rclpy.node import Node

KEPT = 10 * SECOND
"""How long poses are kept."""
LATE = SECOND
"""A pose that is older than the newest one by no more is late; by more, time has begun anew."""
AHEAD = round(0.5 * SECOND)
"""How far a pose is continued beyond the newest one."""
UNTOLD = 'publish odom to {base} on /tf, or odometry; statuses are as frequent as usual'
"""What to do where the pose of the robot is not known, and what it means."""
LIKELY = ('odom', 'map')
"""Frames that do not move, the better first: odometry does not jump."""


def fixed_frame_option() -> Any:
    """Declare the parameter ``fixed_frame`` of a node that tells what moves."""
    return option('', 'frame that does not move, in which it is seen what moves; empty: odom, or map, or the '
                      'topmost one of /tf', change=Change.ACTIVATE)


def odometry_option() -> Any:
    """Declare the parameter ``odometry_topic`` of a node that tells what moves."""
    return option('odom', 'odometry, where /tf does not have it; empty: none', change=Change.ACTIVATE)


class PoseHistory:
    """Poses of frames in their parents over some seconds; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fixed: dict[str, tuple[str, Transform]] = {}
        self._moving: dict[str, dict[str, deque[tuple[int, Transform]]]] = {}

    def fix(self, parent: str, child: str, pose: Transform) -> None:
        """Set a pose that holds at any time."""
        with self._lock:
            self._fixed[_bare(child)] = _bare(parent), pose

    def add(self, parent: str, child: str, stamp_ns: int, pose: Transform) -> None:
        """Add the pose of ``child`` in ``parent`` at a time.

        A late one is left out; one that goes further back in time starts anew.
        """
        with self._lock:
            if _bare(parent) not in self._moving.get(_bare(child), {}):
                self._drop_lost(stamp_ns)
            poses = self._moving.setdefault(_bare(child), {}).setdefault(_bare(parent), deque())
            if poses and 0 < poses[-1][0] - stamp_ns <= LATE:
                return
            if poses and stamp_ns < poses[-1][0]:
                poses.clear()
            if poses and stamp_ns == poses[-1][0]:
                poses.pop()
            poses.append((stamp_ns, pose))
            while stamp_ns - poses[0][0] > KEPT:
                poses.popleft()

    def _drop_lost(self, stamp_ns: int) -> None:
        """Drop frames of which nothing has come for long, such as those of tracked objects."""
        for child, parents in list(self._moving.items()):
            left = {parent: poses for parent, poses in parents.items() if stamp_ns - poses[-1][0] <= KEPT}
            if left:
                self._moving[child] = left
            else:
                del self._moving[child]

    def forget(self, parent: str, child: str) -> None:
        """Drop the poses of ``child`` in ``parent``."""
        with self._lock:
            self._moving.get(_bare(child), {}).pop(_bare(parent), None)

    def pose(self, frame: str, fixed_frame: str, stamp_ns: int) -> Transform | None:
        """Return the pose of ``frame`` in ``fixed_frame`` at a time; None where it is not known.

        fixed_frame: empty: odom, map, or else the topmost frame above that moves.
        """
        with self._lock:
            above = dict(self._above(_bare(frame), stamp_ns))
        chosen = self._chosen(list(above), _bare(frame), fixed_frame)
        return None if chosen is None else above[chosen]

    def way(self, frame: str, fixed_frame: str, then_ns: int, now_ns: int) -> Transform | None:
        """Return the map from ``frame`` at one time to ``frame`` at another; None where it is not known.

        Both poses are in one frame that does not move, chosen as by :meth:`pose`.
        """
        with self._lock:
            then, now = (dict(self._above(_bare(frame), stamp)) for stamp in (then_ns, now_ns))
        chosen = self._chosen([name for name in now if name in then], _bare(frame), fixed_frame)
        return None if chosen is None else now[chosen].inverse() @ then[chosen]

    def _chosen(self, above: list[str], frame: str, fixed_frame: str) -> str | None:
        """Return the frame that does not move, of those above a frame in their order."""
        if fixed_frame:
            return _bare(fixed_frame) if _bare(fixed_frame) in above else None
        chosen = next((name for name in LIKELY if name in above), above[-1] if above else None)
        return chosen if self._moves(frame) else None

    def _above(self, frame: str, stamp_ns: int) -> Iterator[tuple[str, Transform]]:
        """Yield each frame above, and the pose in it."""
        waiting, seen = deque([(frame, Transform.about_z(0.))]), {frame}
        while waiting:
            child, pose = waiting.popleft()
            parents = {parent: found for parent, poses in self._moving.get(child, {}).items()
                       if (found := _at(poses, stamp_ns)) is not None}
            if child in self._fixed:
                parent, found = self._fixed[child]
                parents.setdefault(parent, found)
            for parent, found in parents.items():
                if parent not in seen:
                    seen.add(parent)
                    yield parent, found @ pose
                    waiting.append((parent, found @ pose))

    def _moves(self, frame: str) -> bool:
        """Whether this frame, or one above, moves in its parent."""
        with self._lock:
            seen = {frame}
            while frame not in self._moving:
                frame = self._fixed.get(frame, ('',))[0]
                if not frame or frame in seen:
                    return False
                seen.add(frame)
        return True


class EgoPoses(PoseHistory):
    """A :class:`PoseHistory` that follows ``/tf``, ``/tf_static`` and a topic of odometry.

    Odometry counts for frames that ``/tf`` does not have: the two may differ, or come one after the other.
    """

    def __init__(self, node: Node, odometry_topic: str, group: CallbackGroup) -> None:
        """odometry_topic: empty: none."""
        super().__init__()
        self._node = node
        self._on_tf: set[tuple[str, str]] = set()
        self._subscriptions = [
            node.create_subscription(TFMessage, FIXED, self._take_fixed, qos_profile(LATCHED, DEPTH),
                                     callback_group=group),
            node.create_subscription(TFMessage, MOVING, self._take_moving, qos_profile(SENSOR_DATA, DEPTH),
                                     callback_group=group)]
        if odometry_topic:
            qos = qos_profile(SENSOR_DATA, 20)
            self._subscriptions.append(node.create_subscription(
                Odometry, odometry_topic, self._take_odometry, qos, callback_group=group))

    def destroy(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _take_fixed(self, message: TFMessage) -> None:
        for item in message.transforms:
            if (pose := _transform(item.transform.rotation, item.transform.translation)) is not None:
                self.fix(item.header.frame_id, item.child_frame_id, pose)

    def _take_moving(self, message: TFMessage) -> None:
        for item in message.transforms:
            if (pose := _transform(item.transform.rotation, item.transform.translation)) is not None:
                frames = _bare(item.header.frame_id), _bare(item.child_frame_id)
                if frames not in self._on_tf:
                    self._on_tf.add(frames)
                    self.forget(*frames)
                self.add(item.header.frame_id, item.child_frame_id, to_nanoseconds(item.header.stamp), pose)

    def _take_odometry(self, message: Odometry) -> None:
        pose = _transform(message.pose.pose.orientation, message.pose.pose.position)
        frames = _bare(message.header.frame_id), _bare(message.child_frame_id)
        if pose is not None and all(frames) and frames not in self._on_tf:
            self.add(message.header.frame_id, message.child_frame_id, to_nanoseconds(message.header.stamp),
                     pose)


def _bare(frame: str) -> str:
    return frame.lstrip('/')


def _transform(turn: Quaternion, shift: Point | Vector3) -> Transform | None:
    matrix = pose_matrix((turn.w, turn.x, turn.y, turn.z), (shift.x, shift.y, shift.z))
    return None if matrix is None else Transform(matrix[:3, :3], matrix[:3, 3])


def _at(poses: deque[tuple[int, Transform]], stamp_ns: int) -> Transform | None:
    """Return the pose at a time: between two, or a little before or after all as it moves there."""
    if not poses or stamp_ns > poses[-1][0] + AHEAD or stamp_ns < poses[0][0] - AHEAD:
        return None
    after = bisect.bisect_left(poses, stamp_ns, key=lambda entry: entry[0])
    if len(poses) == 1:
        return poses[0][1]
    after = min(max(after, 1), len(poses) - 1)
    (start, earlier), (end, later) = poses[after - 1], poses[after]
    share = (stamp_ns - start) / (end - start)
    first, second = np.array(earlier.quaternion), np.array(later.quaternion)
    turn = first + share * ((second if first @ second >= 0 else -second) - first)
    shift = earlier.translation + share * (later.translation - earlier.translation)
    return Transform(rotation_from_quaternion(turn), shift)
