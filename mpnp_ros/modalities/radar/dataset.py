"""Radar scans of nuScenes key frames."""
from __future__ import annotations

from collections.abc import Iterable

from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.radar.frames import RadarFrame, radar_scan
from mpnp_ros.nuscenes.sensor_files import read_radar
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading


def radar_frame(frame: KeyFrame) -> RadarFrame:
    """Return the radar scans of a key frame with their mountings.  Raises DatasetError if it has none."""
    if not frame.radars:
        raise DatasetError(f'key frame {frame.token} has no radar scan; train without the radar')
    return RadarFrame(tuple(
        radar_scan(read_radar(item.path), name.lower(), item.stamp_ns, item.extrinsics.rotation,
                   item.extrinsics.translation) for name, item in frame.radars.items()))


def readings(frame: KeyFrame) -> Iterable[SensorReading]:
    """Return the files and calibrations that :func:`radar_frame` reads."""
    return frame.radars.values()
