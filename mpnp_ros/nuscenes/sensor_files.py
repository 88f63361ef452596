"""Sensor files of nuScenes: LiDAR sweeps (``.pcd.bin``), radar sweeps (``.pcd``), images (JPEG, PNG), and
the IMU of the CAN bus expansion (JSON).
"""
from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from mpnp_ros.errors import DatasetError
from mpnp_ros.files import mistaken, read_json
from mpnp_ros.nuscenes.schema import LATEST
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading

LIDAR_FIELDS = ('x', 'y', 'z', 'intensity', 'ring')

RADAR_DTYPE = np.dtype([
    ('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('dyn_prop', 'i1'), ('id', '<i2'), ('rcs', '<f4'),
    ('vx', '<f4'), ('vy', '<f4'), ('vx_comp', '<f4'), ('vy_comp', '<f4'), ('is_quality_valid', 'i1'),
    ('ambig_state', 'i1'), ('x_rms', 'i1'), ('y_rms', 'i1'), ('invalid_state', 'i1'), ('pdh0', 'i1'),
    ('vx_rms', 'i1'), ('vy_rms', 'i1'),
])
"""The 18 fields of a nuScenes radar point: metres, metres/second, dB and the sensor's own codes."""

MAX_COORDINATE = 10_000.0
"""Maximum absolute coordinate of a LiDAR point, metres."""
MAX_RINGS = 256

OWN_RADIUS = 1.0
"""Metres from the LiDAR within which stacked sweeps have no points, as these are of the vehicle itself."""

END_OF_JPEG = b'\xff\xd9'

INERTIAL = {'q': 4, 'rotation_rate': 3, 'linear_accel': 3}
"""Fields of a reading of the IMU, and their numbers."""


@dataclass(frozen=True, eq=False)
class InertialFile:
    """Readings of a scene's IMU, in its order.

    stamps_ns: int64 [N].  orientation: [N, 4] (w, x, y, z).  rotation: [N, 3] radians/second.
    acceleration: [N, 3] metres/second^2, with gravity.
    """

    stamps_ns: np.ndarray
    orientation: np.ndarray
    rotation: np.ndarray
    acceleration: np.ndarray


def read_sensor_file(path: Path) -> bytes:
    """Return the content of a sensor file.  Raises DatasetError if it is absent or of another kind."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f'sensor file {path} cannot be read ({error.strerror}); '
            'download the file blobs of this nuScenes version into the same root') from None
    if fault := mistaken(data):
        raise DatasetError(f'sensor file {path} {fault}')
    return data


def read_lidar(path: Path) -> np.ndarray:
    """Return LiDAR points [N, 5] float32: x, y, z (metres, sensor frame), intensity 0..255, ring."""
    data = read_sensor_file(path)
    width = 4 * len(LIDAR_FIELDS)
    if len(data) % width:
        raise DatasetError(f'LiDAR file {path} has {len(data)} bytes, not a multiple of {width}; '
                           'it is truncated: download it again')
    points = np.frombuffer(data, '<f4').reshape(-1, len(LIDAR_FIELDS))
    ring = points[:, 4]
    with np.errstate(invalid='ignore'):
        rings = ((ring >= 0) & (ring < MAX_RINGS) & (ring % 1 == 0)).all()
        near = not (np.abs(points[:, :3]) > MAX_COORDINATE).any()
    if not rings or not near:
        fault = (f'its fifth number is no ring, a whole number from 0 to {MAX_RINGS - 1}' if not rings else
                 f'it has coordinates beyond {MAX_COORDINATE:g} m')
        raise DatasetError(f'LiDAR file {path} does not hold float32 {" ".join(LIDAR_FIELDS)} for each '
                           f'point, as nuScenes does: {fault}; convert it (KITTI has x y z intensity), or '
                           'download it again')
    return points


def stacked_sweeps(frame: KeyFrame, seconds: float) -> np.ndarray:
    """Return the LiDAR points of a key frame and of the sweeps in the ``seconds`` before it.

    The result is [N, 5] float32: x, y, z (metres, ego frame of the key frame, ego motion compensated),
    intensity 0..255 and age (seconds, 0 for the sweep of the key frame), newest sweep first.  Points within
    :data:`OWN_RADIUS` of the sensor, seen from above, are left out: they move with the vehicle.  So are lost
    returns (NaN).  Raises DatasetError if the frame has no LiDAR sweep or a file is missing.
    """
    newest = frame.lidar
    if newest is None:
        raise DatasetError(f'key frame {frame.token} has no LiDAR sweep to stack')
    stack = []
    for reading in (newest, *frame.earlier(newest.channel, seconds)):
        points = read_lidar(reading.path)
        points = points[np.hypot(points[:, 0], points[:, 1]) >= OWN_RADIUS]
        age = np.full(len(points), (newest.stamp_ns - reading.stamp_ns) / 1e9)
        stack.append(np.column_stack((frame.to_base(reading).apply(points[:, :3]), points[:, 3], age)))
    return np.concatenate(stack).astype(np.float32)


def read_radar(path: Path) -> np.ndarray:
    """Return radar points [N] of :data:`RADAR_DTYPE` in the sensor frame.

    nuScenes stores an empty sweep as one point of NaN; it is returned without points.
    """
    data = read_sensor_file(path)
    header, _, body = data.partition(b'DATA binary\n')
    lines = header.decode('ascii', 'replace').splitlines()
    declared = {key: value for key, _, value in (line.partition(' ') for line in lines)}
    fields, points = declared.get('FIELDS', '').split(), declared.get('POINTS', '')
    names = list(RADAR_DTYPE.names or ())
    sizes = [RADAR_DTYPE[name].itemsize for name in names]
    if fields != names or not points.isdecimal() or not points.isascii() or (
            declared.get('SIZE', '').split() not in ([], [str(size) for size in sizes])):
        raise DatasetError(f'radar file {path} is not a binary PCD with the 18 nuScenes radar fields; '
                           'download it again')
    count = int(points)
    if len(body) < count * RADAR_DTYPE.itemsize:
        raise DatasetError(f'radar file {path} is truncated: {len(body)} bytes for {count} points; '
                           'download it again')
    sweep = np.frombuffer(body, RADAR_DTYPE, count)
    return sweep[~np.isnan(sweep['x'])]


def read_image(reading: SensorReading) -> bytes:
    """The unchanged bytes of an image.

    Raises DatasetError if it is absent, neither JPEG nor PNG, truncated, or of another size than in the
    tables.
    """
    path, data = reading.path, read_sensor_file(reading.path)
    try:
        with Image.open(io.BytesIO(data), formats=('JPEG', 'PNG')) as image:
            size = image.size
            if image.format == 'JPEG' and END_OF_JPEG not in data[-64:].rstrip(b'\0'):
                image.load()
    except UnidentifiedImageError:
        raise DatasetError(f'image {path} is neither JPEG nor PNG; download it again') from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f'image {path} is damaged ({error}); download it again') from None
    if reading.size and size != reading.size:
        raise DatasetError(f'image {path} has {size[0]} x {size[1]} pixels, but its sample_data record says '
                           f'{reading.size[0]} x {reading.size[1]}, and so does the calibration; use the '
                           'original file, or change width, height and camera_intrinsic')
    return data


def read_inertial(path: Path) -> InertialFile:
    """Return the readings of a file of the IMU.  Raises DatasetError if it is absent or damaged."""
    again = 'unpack the CAN bus expansion again'

    def nanoseconds(utime: Any) -> int:
        if isinstance(utime, bool) or int(utime) != utime or not 0 <= utime < LATEST:
            raise ValueError
        return int(utime) * 1000

    def numbers(values: Any, count: int) -> list[float]:
        if len(values) != count or not np.isfinite(values).all():
            raise ValueError
        return [float(value) for value in values]

    rows = read_json(path, 'CAN bus file', again, DatasetError)
    try:
        if not isinstance(rows, list):
            raise TypeError
        stamps = np.array([nanoseconds(row['utime']) for row in rows], np.int64)
        columns = [np.array([numbers(row[name], count) for row in rows]).reshape(-1, count)
                   for name, count in INERTIAL.items()]
    except (ValueError, KeyError, TypeError, OverflowError):
        raise DatasetError(f'CAN bus file {path} is damaged: not every row has utime and '
                           f'{", ".join(INERTIAL)} as finite numbers; {again}') from None
    return InertialFile(stamps, *columns)
