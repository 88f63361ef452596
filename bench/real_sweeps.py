"""The moments of a drive: every LiDAR sweep with the images nearest to it, in the order of their time."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mpnp_ros.modalities.camera.images import CameraFrame, CameraView
from mpnp_ros.nuscenes.sensor_files import read_image, read_lidar
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.poses import Transform
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading
from mpnp_ros.tokens import SECOND

TOGETHER = round(0.11 * SECOND)
"""How far an image between key frames may be from its sweep."""


@dataclass(frozen=True, eq=False)
class Moment:
    """One sweep.

    ego: pose of the vehicle.  images: with the poses that the cameras had, in the frame of the vehicle at the
    time of the sweep.  cloud: [N, 3] metres in that frame.  key_frame: with true objects; None between them.
    """

    stamp_ns: int
    ego: Transform
    images: CameraFrame
    cloud: np.ndarray
    key_frame: KeyFrame | None


def moments_of(tables: NuScenes, scene: str) -> Iterator[Moment]:
    """Yield the moments of a scene; a key frame without a LiDAR is left out."""
    frames = {frame.lidar.stamp_ns: frame for frame in tables.key_frames(scene) if frame.lidar is not None}
    readings = tables.readings(scene)
    images = [reading for reading in readings if reading.modality == 'camera' and not reading.is_key_frame]
    for sweep in (reading for reading in readings if reading.modality == 'lidar'):
        key_frame, nearest = frames.get(sweep.stamp_ns), {}
        for image in images if key_frame is None else ():
            gap = abs(image.stamp_ns - sweep.stamp_ns)
            best = nearest.get(image.channel)
            if gap < TOGETHER and (best is None or gap < abs(best.stamp_ns - sweep.stamp_ns)):
                nearest[image.channel] = image
        yield moment(sweep, nearest if key_frame is None else key_frame.cameras, key_frame)


def moment(sweep: SensorReading, cameras: dict[str, SensorReading], key_frame: KeyFrame | None) -> Moment:
    """Return the moment of a sweep and its images."""
    cloud = sweep.extrinsics.apply(read_lidar(sweep.path)[:, :3].astype(np.float64))
    views = []
    for name, item in cameras.items():
        there = sweep.ego_pose.inverse() @ item.ego_pose @ item.extrinsics
        views.append(CameraView(name.lower(), read_image(item), item.intrinsics, there.rotation,
                                item.stamp_ns, position=there.translation))
    return Moment(sweep.stamp_ns, sweep.ego_pose, CameraFrame(tuple(views)), cloud, key_frame)


def at_sweep(images: CameraFrame, stamp_ns: int) -> CameraFrame:
    """Return the same images as of one time, which the objects in them have then."""
    return replace(images, views=tuple(replace(view, stamp_ns=stamp_ns) for view in images.views))
