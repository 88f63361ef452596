"""The newest sweeps of a LiDAR for the encoder of another sensor: their clusters, and which of these move."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mpnp_ros.conversions.pointclouds import to_points
from mpnp_ros.detection.clusters import Clusters, ClusterTracker, clusters_of
from mpnp_ros.nodes.worker import LatestWorker
from mpnp_ros.poses import Transform

if TYPE_CHECKING:
    from mpnp_ros.nodes.encoder_node import Input

KEPT = 8
"""Sweeps that are kept, of the newest."""


class SweepHistory:
    """The newest sweeps, as clusters in the base frame at the time of each.

    :meth:`add` and :meth:`nearest` may be called from any thread; a thread of its own does the work.
    """

    def __init__(self, name: str, pose: Callable[[int], Transform | None],
                 way: Callable[[int, int], Transform | None],
                 mount: Callable[[Input], np.ndarray | None],
                 superseded: Callable[[Input], None], done: Callable[[Input], None],
                 failed: Callable[[Input, Exception], None]) -> None:
        """pose: time -> pose of the base frame in a frame that does not move, or None.

        way: two times -> map from the base frame at the first to that at the second, or None.
        mount: pose [4, 4] of the LiDAR in the base frame; None: it is not known, and the sweep is left out.
        superseded, done, failed: what became of a message.
        """
        self._pose, self._way, self._mount, self._done = pose, way, mount, done
        self._lock = threading.Lock()
        self._tracker = ClusterTracker()
        self._kept: deque[tuple[int, Clusters]] = deque(maxlen=KEPT)
        self._worker: LatestWorker[Input] = LatestWorker(f'{name} sweeps', self._take, superseded=superseded,
                                                         failed=failed)

    def add(self, item: Input) -> None:
        """Take a PointCloud2; one that waits is replaced."""
        self._worker.submit(item)

    def nearest(self, stamp_ns: int, slop_ns: int) -> Clusters | None:
        """Return the clusters of the sweep nearest to a time; None: there is none.

        They are moved by the way of the robot between both times, where it is known.
        """
        with self._lock:
            near = [(abs(stamp - stamp_ns), stamp, clusters) for stamp, clusters in self._kept]
        gap, stamp, clusters = min(near, key=lambda entry: entry[0], default=(slop_ns + 1, 0, None))
        if gap > slop_ns or clusters is None:
            return None
        moved = self._way(stamp, stamp_ns)
        return clusters if moved is None else clusters.moved(moved)

    def stop(self) -> None:
        """Finish the running sweep and take no more."""
        self._worker.stop()

    def _take(self, item: Input) -> None:
        mount = self._mount(item)
        points = to_points(item.message).xyz.astype(np.float64)
        if mount is not None:
            found = clusters_of(points @ mount[:3, :3].T + mount[:3, 3])
            found = self._tracker.follow(found, item.stamp_ns, self._pose(item.stamp_ns))
            with self._lock:
                if self._kept and item.stamp_ns < self._kept[-1][0]:  # time has begun again
                    self._kept.clear()
                self._kept.append((item.stamp_ns, found))
        self._done(item)
