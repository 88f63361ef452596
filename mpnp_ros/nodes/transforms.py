"""How sensors are mounted, from ``/tf_static``.

tf2_ros is not needed for that: mounts do not move, so the newest transform of each frame holds.
"""
from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

if TYPE_CHECKING:
    from rclpy.node import Node

    from mpnp_ros.nodes.diagnostics import Diagnostics

LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)  # one from each publisher


class TransformTree:
    """Fixed poses of frames in their parents; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parents: dict[str, tuple[str, np.ndarray]] = {}

    def add(self, parent: str, child: str, pose: np.ndarray) -> None:
        """Set the pose of ``child`` in ``parent``, homogeneous [4, 4]."""
        with self._lock:
            self._parents[child.lstrip('/')] = (parent.lstrip('/'), pose)

    def lookup(self, target: str, source: str) -> np.ndarray | None:
        """Return the [4, 4] that takes points of ``source`` to ``target``, or None where nothing does."""
        with self._lock:
            to_target, to_source = self._ancestors(target.lstrip('/')), self._ancestors(source.lstrip('/'))
        common = next((frame for frame in to_source if frame in to_target), None)
        return None if common is None else np.linalg.inv(to_target[common]) @ to_source[common]

    def _ancestors(self, frame: str) -> dict[str, np.ndarray]:
        """Poses of ``frame`` in itself and in each of its ancestors, nearest first."""
        poses = {frame: np.eye(4)}
        while frame in self._parents:
            parent, pose = self._parents[frame]
            if parent in poses:  # a cycle: somebody publishes nonsense
                break
            poses[parent] = pose @ poses[frame]
            frame = parent
        return poses


class StaticTransforms:
    """A :class:`TransformTree` that follows ``/tf_static``."""

    def __init__(self, node: Node, diagnostics: Diagnostics) -> None:
        self._node, self._diagnostics = node, diagnostics
        self.tree = TransformTree()
        self._subscription = node.create_subscription(TFMessage, '/tf_static', self._add, LATCHED)

    def lookup(self, target: str, source: str) -> np.ndarray | None:
        """As :meth:`TransformTree.lookup`."""
        return self.tree.lookup(target, source)

    def destroy(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def _add(self, message: TFMessage) -> None:
        for item in message.transforms:
            turn, shift = item.transform.rotation, item.transform.translation
            pose = pose_matrix((turn.w, turn.x, turn.y, turn.z), (shift.x, shift.y, shift.z))
            if pose is None:
                text = f'/tf_static: {item.child_frame_id!r} has no proper rotation and translation; ignored'
                self._diagnostics.warn('bad transforms', text)
            else:
                self.tree.add(item.header.frame_id, item.child_frame_id, pose)


def pose_matrix(quaternion: tuple[float, ...], translation: tuple[float, ...]) -> np.ndarray | None:
    """Return [4, 4] of a quaternion (w, x, y, z) of any length and a translation; None for nonsense."""
    norm = np.linalg.norm(quaternion)
    if not np.isfinite([norm, *translation]).all() or norm < 1e-6:
        return None
    w, x, y, z = np.asarray(quaternion) / norm
    pose = np.eye(4)
    pose[:3, :3] = [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]
    pose[:3, 3] = translation
    return pose
