"""Poses of frames from ``/tf_static`` and, as long as that has none, from ``/tf``; mountings of sensors.

tf2_ros is not needed: sensors are mounted rigidly or turn slowly, so the newest transform of each frame
holds.
"""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np
from tf2_msgs.msg import TFMessage

from mpnp_ros.endpoints import LATCHED, SENSOR_DATA, qos_profile

if TYPE_CHECKING:
    from geometry_msgs.msg import TransformStamped
    from rclpy.node import Node
    from rclpy.subscription import Subscription

    from mpnp_ros.nodes.diagnostics import Concerns, Diagnostics

FIXED, MOVING = '/tf_static', '/tf'
DEPTH = 100
"""Messages that are kept of each publisher."""
SHIFT, TURN = 0.05, np.radians(2.0)
"""Metres and radians beyond which two poses clearly differ."""
LATCHED_WITHIN, MOVING_WITHIN = 0.5, 1.2
"""Seconds that the first frame waits for /tf_static, and for both."""
NAMED = 6
"""Frames that a text lists."""


@dataclass(frozen=True, eq=False)
class FramePlacement:
    """Pose of one frame in another.

    pose: homogeneous [4, 4].  fixed: all of it is from ``/tf_static``.  disputes: contradictions about the
    frames on the way, in words.
    """

    pose: np.ndarray
    fixed: bool = True
    disputes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Edge:
    parent: str
    pose: np.ndarray
    fixed: bool


class TransformTree:
    """Poses of frames in their parents, the newest of each; every method may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._edges: dict[str, _Edge] = {}
        self._disputes: dict[str, str] = {}

    def add(self, parent: str, child: str, pose: np.ndarray, fixed: bool = True) -> str:
        """Set the pose of ``child`` in ``parent``, homogeneous [4, 4]; return how it contradicts the last.

        fixed: announced as constant.  For moving frames only the parent can contradict.
        """
        parent, child = parent.lstrip('/'), child.lstrip('/')
        with self._changed:
            before = self._edges.get(child)
            self._edges[child] = _Edge(parent, pose, fixed)
            self._changed.notify_all()
        if before is None:
            return ''
        if before.parent != parent:
            return f'frame {child!r} is announced as part of {before.parent!r} and of {parent!r}'
        words = difference(before.pose, pose) if fixed or before.fixed else ''
        return f'frame {child!r} is announced at two places of {parent!r}, {words}' if words else ''

    def dispute(self, child: str, text: str) -> None:
        """Keep a contradiction about ``child``, in words, for all placements that depend on it."""
        with self._changed:
            self._disputes[child.lstrip('/')] = text

    def place(self, target: str, source: str) -> FramePlacement | None:
        """Return the pose of ``source`` in ``target``, or None if nothing connects them."""
        target, source = target.lstrip('/'), source.lstrip('/')
        with self._changed:
            to_target, to_source = self._ancestors(target), self._ancestors(source)
            common = next((frame for frame in to_source if frame in to_target), None)
            if common is None:
                return None
            path = [frame for poses in (to_source, to_target)
                    for frame in takewhile(lambda frame: frame != common, poses)]
            fixed = all(self._edges[frame].fixed for frame in path)
            disputes = tuple(self._disputes[frame] for frame in path if frame in self._disputes)
        return FramePlacement(np.linalg.inv(to_target[common]) @ to_source[common], fixed, disputes)

    def lookup(self, target: str, source: str) -> np.ndarray | None:
        """Return the [4, 4] that takes points of ``source`` to ``target``, or None."""
        placement = self.place(target, source)
        return None if placement is None else placement.pose

    def wait(self, target: str, source: str, seconds: float) -> FramePlacement | None:
        """As :meth:`place`, but wait up to ``seconds`` for missing transforms."""
        with self._changed:
            self._changed.wait_for(lambda: self.place(target, source), max(0., seconds))
            return self.place(target, source)

    def frames(self) -> tuple[str, ...]:
        """Return the names of all frames, in order."""
        with self._changed:
            return tuple(sorted({*self._edges, *(edge.parent for edge in self._edges.values())}))

    def _ancestors(self, frame: str) -> dict[str, np.ndarray]:
        """Return the poses of ``frame`` in itself and in each of its ancestors, nearest first."""
        poses = {frame: np.eye(4)}
        while frame in self._edges:
            edge = self._edges[frame]
            if edge.parent in poses:  # a cycle
                break
            poses[edge.parent] = edge.pose @ poses[frame]
            frame = edge.parent
        return poses


class Transforms:
    """A :class:`TransformTree` that follows ``/tf_static``, and ``/tf`` on request."""

    def __init__(self, node: Node, diagnostics: Diagnostics) -> None:
        self._node, self._diagnostics = node, diagnostics
        self.tree = TransformTree()
        self._publishers: dict[str, frozenset[tuple[int, ...]]] = {}
        self._fixed = node.create_subscription(TFMessage, FIXED, self._add_fixed, qos_profile(LATCHED, DEPTH))
        self._moving: Subscription | None = None

    def follow(self, moving: bool) -> None:
        """Subscribe to ``/tf``, or unsubscribe: it can have hundreds of messages a second."""
        if moving and self._moving is None:
            self._moving = self._node.create_subscription(TFMessage, MOVING, self._add_moving,
                                                          qos_profile(SENSOR_DATA, DEPTH))
        elif not moving and self._moving is not None:
            self._node.destroy_subscription(self._moving)
            self._moving = None

    def destroy(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._fixed)
        self.follow(False)

    def _add_fixed(self, message: TFMessage) -> None:
        """Add latched transforms; a dispute is a contradiction between publishers.

        ROS does not tell who sent a message.  So a frame counts as mounted anew, not disputed, if there is
        only one publisher, or if one of the previous publishers has gone.
        """
        infos = self._node.get_publishers_info_by_topic(self._fixed.topic_name)
        present = frozenset(tuple(info.endpoint_gid) for info in infos)
        for item in message.transforms:
            contradiction, child = self._add(item, True), item.child_frame_id.lstrip('/')
            replaced = self._publishers.get(child, frozenset()) - present
            if contradiction and len(present) > 1 and not replaced:
                names = sorted({f'{info.node_namespace.rstrip("/")}/{info.node_name}' for info in infos})
                text = (f'{contradiction}; taking the newest; {len(present)} publishers are on '
                        f'{self._fixed.topic_name} ({", ".join(names)}); give every robot its own: '
                        '-r /tf:=tf -r /tf_static:=tf_static')
                self.tree.dispute(child, text)
                self._diagnostics.warn('disputed frames', text)
            self._publishers[child] = present

    def _add_moving(self, message: TFMessage) -> None:
        for item in message.transforms:
            contradiction = self._add(item, False)
            if contradiction:
                self.tree.dispute(item.child_frame_id, f'{contradiction}; announce it once')

    def _add(self, item: TransformStamped, fixed: bool) -> str:
        turn, shift = item.transform.rotation, item.transform.translation
        pose = pose_matrix((turn.w, turn.x, turn.y, turn.z), (shift.x, shift.y, shift.z))
        if pose is None:
            topic = FIXED if fixed else MOVING
            text = f'{topic}: {item.child_frame_id!r} has no proper rotation and translation; ignored'
            self._diagnostics.warn('bad transforms', text)
            return ''
        return self.tree.add(item.header.frame_id, item.child_frame_id, pose, fixed)


def difference(before: np.ndarray, after: np.ndarray) -> str:
    """Return how two poses [4, 4] clearly differ, in words; empty if they are about equal."""
    shift = float(np.linalg.norm(after[:3, 3] - before[:3, 3]))
    cosine = (np.trace(before[:3, :3].T @ after[:3, :3]) - 1) / 2
    turn = float(np.arccos(np.clip(cosine, -1, 1)))
    return f'{shift:.2f} m and {np.degrees(turn):.0f} degrees apart' if shift > SHIFT or turn > TURN else ''


def pose_matrix(quaternion: tuple[float, ...], translation: tuple[float, ...]) -> np.ndarray | None:
    """Return [4, 4] of a quaternion (w, x, y, z) of any length and a translation; None for invalid ones."""
    norm = float(np.linalg.norm(quaternion))
    if not np.isfinite([norm, *translation]).all() or norm < 1e-6:
        return None
    w, x, y, z = np.asarray(quaternion) / norm
    pose = np.eye(4)
    pose[:3, :3] = [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]
    pose[:3, 3] = translation
    return pose


class Mounts:
    """Mountings of the sensors of one node; every method may be called from any thread.

    The first frame waits a moment for the transforms.  An unknown mounting is a concern while it lasts, and
    the node states its assumption.  A changed mounting is followed.
    """

    def __init__(self, node: Node, diagnostics: Diagnostics, concerns: Concerns) -> None:
        self._node, self._diagnostics, self._concerns = node, diagnostics, concerns
        self.transforms = Transforms(node, diagnostics)
        self._began: float | None = None
        self._placing = threading.Lock()
        self._last: dict[str, FramePlacement] = {}
        self._unsettled: set[str] = set()
        self._said: set[str] = set()

    def pose(self, source: str, frame: str, base: str, otherwise: str) -> np.ndarray | None:
        """Return the pose of ``frame`` in the frame ``base``, homogeneous [4, 4], or None if it is unknown.

        source: name of the sensor.  otherwise: the assumption of the node for an unknown pose, such as
        ``taking them as the same``; it is part of the concern.
        """
        with self._placing:
            return self._pose(source, frame, base, otherwise)

    def _pose(self, source: str, frame: str, base: str, otherwise: str) -> np.ndarray | None:
        placement = self._place(source, frame, base)
        if placement is None:
            self._concerns.set(f'{source} mount', f'{source}: {self.unknown(frame, base)}; {otherwise}')
            self._concerns.set(f'{source} disputed', '')
            return None
        self._concerns.set(f'{source} mount', '')
        disputes = '; '.join(placement.disputes)
        self._concerns.set(f'{source} disputed', f'{source}: {disputes}' if disputes else '')
        last = self._last.setdefault(source, placement)
        if change := difference(last.pose, placement.pose):
            self._last[source] = placement
            if placement.fixed:
                self._diagnostics.warn(f'{source} moved',
                                       f'{source}: its mount has changed, {change}; taking the new one')
            elif source not in self._said:  # a moving mount is logged once
                self._said.add(source)
                self._node.get_logger().info(f'{source}: its mount moves; taking the newest transform')
        return placement.pose

    def unknown(self, frame: str, base: str) -> str:
        """Return why the mounting is unknown and how to provide it."""
        if not frame.strip('/'):
            return 'header.frame_id is empty; set it in the driver and publish the transform of that frame'
        frames, apart = self.transforms.tree.frames(), f'frame {frame!r} is not connected to {base!r}'
        if not frames:
            return f'{apart}, and no transform has come; publish it'
        more = f' and {len(frames) - NAMED} more' if len(frames) > NAMED else ''
        known = f'known: {", ".join(frames[:NAMED])}{more}'
        if base.lstrip('/') not in frames:
            return f'{apart}, which no transform names ({known}); publish it, or set base_frame'
        return f'{apart} ({known}); publish its transform'

    def patience(self) -> float:
        """Return the remaining seconds for which the first frame may wait."""
        if self._began is None:
            self._began = time.monotonic()
        return max(0., self._began + MOVING_WITHIN - time.monotonic())

    def destroy(self) -> None:
        """Unsubscribe."""
        self.transforms.destroy()

    def _place(self, source: str, frame: str, base: str) -> FramePlacement | None:
        tree = self.transforms.tree
        if not frame.strip('/'):
            return None
        placement = tree.place(base, frame)
        if placement is None and (left := self.patience()) > 0:
            placement = tree.wait(base, frame, left - (MOVING_WITHIN - LATCHED_WITHIN))
        if placement is None:
            self.transforms.follow(True)
            placement = tree.wait(base, frame, self.patience())
        if placement is None or not placement.fixed:
            self._unsettled.add(source)
        else:
            self._unsettled.discard(source)
            if not self._unsettled:
                self.transforms.follow(False)
        return placement
