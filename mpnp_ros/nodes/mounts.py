"""How sensors are mounted: one policy for the encoder nodes of all modalities.

The first frame waits a moment for the transforms.  A mount that stays unknown is a concern as long as it
does, and the node says what it takes instead; one that changes is followed.
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
    """Mounts of the sensors of one node; :meth:`pose` is called by one thread, the others by any."""

    def __init__(self, node: Node, diagnostics: Diagnostics, concerns: Concerns) -> None:
        self._node, self._diagnostics, self._concerns = node, diagnostics, concerns
        self.transforms = Transforms(node, diagnostics)
        self._began: float | None = None
        self._last: dict[str, Placement] = {}
        self._unsettled: set[str] = set()
        self._said: set[str] = set()

    def pose(self, source: str, frame: str, base: str, otherwise: str) -> np.ndarray | None:
        """Return where ``frame`` is in the frame ``base``, homogeneous [4, 4], or None where that is unknown.

        source: name of the sensor.  otherwise: what the node does where it is unknown, such as ``taking them
        as the same``; it is said in the concern.
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
        """Return why the mount is unknown and what to do about it."""
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
        """Return the seconds that the node's first frame may still wait for what is missing."""
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
        """Say once that a mount has changed: each time where it is fixed, else the first time."""
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
