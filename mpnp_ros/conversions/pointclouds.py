"""``sensor_msgs/PointCloud2`` <-> numpy, in any layout and without sensor_msgs_py.

The bytes are read through one numpy structured type, so that field order, gaps, padded rows and byte
order cost nothing.
"""
from __future__ import annotations

import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

from mpnp_ros.conversions.time import from_nanoseconds
from mpnp_ros.errors import PointCloudError

INTENSITY_NAMES = ('intensity', 'i', 'reflectivity')
_TYPES = {PointField.INT8: 'i1', PointField.UINT8: 'u1', PointField.INT16: 'i2', PointField.UINT16: 'u2',
          PointField.INT32: 'i4', PointField.UINT32: 'u4', PointField.FLOAT32: 'f4', PointField.FLOAT64: 'f8'}


@dataclass(frozen=True, eq=False)
class Points:
    """xyz: float32 [N, 3] metres, NaN where a return was lost; intensity: float32 [N], or None."""

    xyz: np.ndarray
    intensity: np.ndarray | None


def to_points(message: PointCloud2) -> Points:
    """Return the points of ``message``, row by row, in its own frame.

    Intensity comes from the first field named in :data:`INTENSITY_NAMES`.
    Raises PointCloudError naming what is wrong: no points, fields missing or outside point_step,
    row_step or amount of data that do not fit.
    """
    if not message.height or not message.width:
        raise PointCloudError(f'the point cloud is empty: {message.height} rows of {message.width} points')
    names = {field.name for field in message.fields}
    intensity = next((name for name in INTENSITY_NAMES if name in names), None)
    records = to_records(message, 'xyz', [intensity] if intensity else [])
    with np.errstate(over='ignore', invalid='ignore'):  # a float64 beyond float32 becomes infinite
        xyz = np.stack([records[name].astype(np.float32) for name in 'xyz'], axis=1)
        return Points(xyz, records[intensity].astype(np.float32) if intensity else None)


def to_records(message: PointCloud2, wanted: Iterable[str], optional: Iterable[str] = ()) -> np.ndarray:
    """Return some fields of the points of ``message``, row by row: structured [N], as they are stored.

    wanted: fields that must be there; optional: those that may.  N may be 0.
    Raises PointCloudError as :func:`to_points`.
    """
    _check_size(message)
    names = {field.name for field in message.fields}
    if missing := [name for name in wanted if name not in names]:
        raise PointCloudError(f'the point cloud has no field {", ".join(missing)}; it has {sorted(names)}')
    fields = [*wanted, *(name for name in optional if name in names)]
    if not message.height or not message.width:
        return np.zeros(0, [(name, np.float32) for name in fields])
    return np.ndarray((message.height, message.width), _structure(message, fields), message.data,
                      strides=(message.row_step, message.point_step)).ravel()


def from_points(points: Points, frame_id: str = '', stamp_ns: int = 0) -> PointCloud2:
    """Return ``points`` as an unordered cloud of float32 x, y, z and, where there is one, intensity."""
    names = ['x', 'y', 'z', *([] if points.intensity is None else ['intensity'])]
    columns = points.xyz if points.intensity is None else np.column_stack([points.xyz, points.intensity])
    data = np.ascontiguousarray(columns, '<f4')
    message = PointCloud2(height=1, width=len(data), point_step=4 * len(names), row_step=data.nbytes,
                          is_dense=bool(np.isfinite(data).all()))
    message.header.stamp, message.header.frame_id = from_nanoseconds(stamp_ns), frame_id
    message.fields = [PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
                      for index, name in enumerate(names)]
    message.data = array.array('B', data.tobytes())
    return message


def _check_size(message: PointCloud2) -> None:
    height, width, row_step = message.height, message.width, message.row_step
    if row_step < width * message.point_step:
        raise PointCloudError(f'row_step is {row_step}; {width} points of {message.point_step} bytes need '
                              f'{width * message.point_step}')
    if len(message.data) != row_step * height:
        raise PointCloudError(f'the point cloud has {len(message.data)} bytes; row_step {row_step} x '
                              f'{height} rows are {row_step * height}')


def _structure(message: PointCloud2, wanted: list[str]) -> np.dtype:
    order = '>' if message.is_bigendian else '<'
    formats, offsets = [], []
    for name in wanted:
        field = next(field for field in message.fields if field.name == name)
        if field.datatype not in _TYPES or field.count > 1:
            raise PointCloudError(f'field {name} has datatype {field.datatype} and count {field.count}; '
                                  f'expected one number of datatype {min(_TYPES)} to {max(_TYPES)}')
        kind = np.dtype(order + _TYPES[field.datatype])
        if field.offset + kind.itemsize > message.point_step:
            raise PointCloudError(f'field {name} ends at byte {field.offset + kind.itemsize} of a point, but '
                                  f'point_step is {message.point_step}')
        formats.append(kind)
        offsets.append(field.offset)
    return np.dtype({'names': wanted, 'formats': formats, 'offsets': offsets, 'itemsize': message.point_step})
