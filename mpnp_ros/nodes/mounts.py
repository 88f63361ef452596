"""Mounting of the sensors: one policy for the encoder nodes of all modalities.

The first frame waits a moment for the transforms.  An unknown mounting is a concern while it lasts, and the
node states its assumption.  A changed mounting is followed.
"""
from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from mpnp_ros.nodes.transforms import Placement, Transforms, difference

if TYPE_CHECKING:
    from rclpy.node import Node

    from mpnp_ros.nodes.concerns import Concerns
    from mpnp_ros.nodes.diagnostics import Diagnostics

LATCHED_WITHIN, MOVING_WITHIN = 0.5, 1.2  # s of the first frame's patience, for /tf_static and then /tf
NAMED = 6


class Mounts:
    """Mountings of the sensors of one node; :meth:`pose` is called by one thread, the others by any."""

    def __init__(self, node: Node, diagnostics: Diagnostics, concerns: Concerns) -> None:
        self._node, self._diagnostics, self._concerns = node, diagnostics, concerns
        self.transforms = Transforms(node, diagnostics)
        self._began: float | None = None
        self._last: dict[str, Placement] = {}
        self._unsettled: set[str] = set()
        self._said: set[str] = set()

    def pose(self, source: str, frame: str, base: str, otherwise: str) -> np.ndarray | None:
        """Return the pose of ``frame`` in the frame ``base``, homogeneous [4, 4], or None if it is unknown.

        source: name of the sensor.  otherwise: the assumption of the node for an unknown pose, such as
        ``taking them as the same``; it is part of the concern.
        """
        placement = self._place(source, frame, base)
        if placement is None:
            self._concerns.set(f'{source} mount', f'{source}: {self.unknown(frame, base)}; {otherwise}')
            self._concerns.set(f'{source} disputed', '')
            return None
        self._concerns.set(f'{source} mount', '')
        disputes = '; '.join(placement.disputes)
        self._concerns.set(f'{source} disputed', f'{source}: {disputes}' if disputes else '')
        self._follow(source, placement)
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

    def _place(self, source: str, frame: str, base: str) -> Placement | None:
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

    def _follow(self, source: str, placement: Placement) -> None:
        """Log a changed mounting: every change of a fixed one, otherwise the first."""
        last = self._last.setdefault(source, placement)
        words = difference(last.pose, placement.pose)
        if not words:
            return
        self._last[source] = placement
        if placement.fixed:
            self._diagnostics.warn(f'{source} moved', f'{source}: its mount has changed, {words}; taking the '
                                                      'new one')
        elif source not in self._said:
            self._said.add(source)
            self._node.get_logger().info(f'{source}: its mount moves; taking the newest transform')
