"""The moments of a real drive: each LiDAR sweep with the images nearest to it, in the order of their time."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from mpnp_ros.modalities.camera.images import CameraFrame
from mpnp_ros.modalities.camera.registration import camera_view
from mpnp_ros.nuscenes.sensor_files import read_lidar
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.poses import Transform
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading
from mpnp_ros.tokens import SECOND

TOGETHER = round(0.11 * SECOND)
"""How far an image between key frames may be from its sweep."""


@dataclass(frozen=True, eq=False)
class SensorMoment:
    """One sweep, or a key frame without one.

    ego: pose of the vehicle.  images: with the places that the cameras had, in the frame of the vehicle at
    the time of the sweep; possibly none.  cloud: [N, 3] metres in that frame; None: there is no LiDAR.
    key_frame: with true objects; None between them.
    """

    stamp_ns: int
    ego: Transform
    images: CameraFrame
    cloud: np.ndarray | None
    key_frame: KeyFrame | None


def moments_of(tables: NuScenes, scene: str) -> Iterator[SensorMoment]:
    """Yield the moments of a scene, one by one: images are large."""
    frames = list(tables.key_frames(scene))
    of_sweep = {frame.lidar.stamp_ns: frame for frame in frames if frame.lidar is not None}
    readings = tables.readings(scene)
    images = [reading for reading in readings if reading.modality == 'camera' and not reading.is_key_frame]
    order: list[tuple[int, SensorReading | KeyFrame]] = [
        (reading.stamp_ns, reading) for reading in readings if reading.modality == 'lidar']
    order += [(frame.stamp_ns, frame) for frame in frames if frame.lidar is None]
    for stamp_ns, item in sorted(order, key=lambda entry: entry[0]):
        frame = item if isinstance(item, KeyFrame) else of_sweep.get(stamp_ns)
        if frame is not None:
            yield moment_of(frame)
        elif isinstance(item, SensorReading):
            near: dict[str, SensorReading] = {}
            for image in images:
                gap, best = abs(image.stamp_ns - stamp_ns), near.get(image.channel)
                if gap < TOGETHER and (best is None or gap < abs(best.stamp_ns - stamp_ns)):
                    near[image.channel] = image
            yield SensorMoment(stamp_ns, item.ego_pose, _images(near, item.ego_pose, stamp_ns), _cloud(item),
                              None)


def moment_of(frame: KeyFrame) -> SensorMoment:
    """Return the moment of a key frame."""
    stamp_ns = frame.lidar.stamp_ns if frame.lidar else frame.stamp_ns
    return SensorMoment(stamp_ns, frame.ego_pose, _images(frame.cameras, frame.ego_pose, stamp_ns),
                  _cloud(frame.lidar) if frame.lidar else None, frame)


def _images(cameras: Mapping[str, SensorReading], ego: Transform, stamp_ns: int) -> CameraFrame:
    """Return images with the places of their cameras at their own times, stamped with one time."""
    return CameraFrame(tuple(
        replace(camera_view(name, item).moved(ego.inverse() @ item.ego_pose), stamp_ns=stamp_ns)
        for name, item in cameras.items()))


def _cloud(sweep: SensorReading) -> np.ndarray:
    return sweep.extrinsics.apply(read_lidar(sweep.path)[:, :3].astype(np.float64))
