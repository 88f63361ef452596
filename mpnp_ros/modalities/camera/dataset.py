"""Images of nuScenes key frames."""
from __future__ import annotations

from collections.abc import Iterable

from mpnp_ros.modalities.camera.frames import CameraFrame, CameraView
from mpnp_ros.nuscenes.sensor_files import read_image
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading


def camera_frame(frame: KeyFrame) -> CameraFrame:
    """Return the images of a key frame as JPEG bytes with their calibration."""
    return CameraFrame(tuple(
        CameraView(name.lower(), read_image(item), item.intrinsics, item.extrinsics.rotation, item.stamp_ns,
                   position=item.extrinsics.translation)
        for name, item in frame.cameras.items()))


def readings(frame: KeyFrame) -> Iterable[SensorReading]:
    """Return the files and calibrations that :func:`camera_frame` reads."""
    return frame.cameras.values()
