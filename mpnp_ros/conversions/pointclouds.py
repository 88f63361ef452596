"""``sensor_msgs/PointCloud2`` <-> numpy, in any layout and without sensor_msgs_py.

The bytes are viewed as a numpy structured type, so field order, gaps, padded rows and byte order cost
nothing.  A message whose numbers contradict each other is read if the bytes allow only one reading, see
:func:`to_records`.
"""
from __future__ import annotations

import array
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

from mpnp_ros.conversions.messages import from_nanoseconds
from mpnp_ros.errors import PointCloudError

INTENSITY_NAMES = ('reflectivity', 'reflectance', 'intensity', 'intensities', 'i', 'signal')
"""Fields that say how much light comes back, the calibrated ones first; the case of letters is ignored."""
_TYPES = {PointField.INT8: 'i1', PointField.UINT8: 'u1', PointField.INT16: 'i2', PointField.UINT16: 'u2',
          PointField.INT32: 'i4', PointField.UINT32: 'u4', PointField.FLOAT32: 'f4', PointField.FLOAT64: 'f8'}
PROBED = 64  # points that show whether is_bigendian holds
NEAREST, FARTHEST = 1e-6, 1e8  # metres between which coordinates lie, those from the centre of the earth too


@dataclass(frozen=True, eq=False)
class Points:
    """xyz: float32 [N, 3] metres, NaN where a return was lost; intensity: float32 [N], or None."""

    xyz: np.ndarray
    intensity: np.ndarray | None


def to_points(message: PointCloud2) -> Points:
    """Return the points of ``message``, row by row, in its own frame.

    Intensity comes from the first field of :data:`INTENSITY_NAMES` that can be read and is not zero at all
    points, as a calibrated field is where the sensor does not measure it; its unit is that of the field.
    Raises PointCloudError naming what is wrong: no points, fields missing or outside point_step, amount of
    data that does not fit.
    """
    if not message.height or not message.width:
        raise PointCloudError(f'the point cloud is empty: {message.height} rows of {message.width} points')

    def is_readable(name: str) -> bool:
        try:
            field = _field(message, name)
            if field:
                _check(name, field, math.inf)
            return field is not None and _end(field) <= _steps(message)[0]
        except PointCloudError:
            return False

    intensities = [name for name in INTENSITY_NAMES if is_readable(name)]
    records = to_records(message, 'xyz', intensities)
    with np.errstate(over='ignore', invalid='ignore'):  # a float64 beyond float32 becomes infinite
        xyz = np.stack([records[name].astype(np.float32) for name in 'xyz'], axis=1)
        name = next((name for name in intensities if records[name].any()), (*intensities, None)[0])
        return Points(xyz, records[name].astype(np.float32) if name else None)


def to_records(message: PointCloud2, wanted: Iterable[str], optional: Iterable[str] = ()) -> np.ndarray:
    """Return some fields of the points of ``message``, row by row: structured [N], as they are stored.

    wanted: names of required fields, of any case; optional: names of further ones.  N may be 0.
    These contradictions, which drivers send, are accepted: a wrong row_step where the rows follow each other;
    data that go on behind the last row, or end at the last field of the last point; a wrong point_step where
    the points are as long as their fields; a wrong is_bigendian where only the other byte order gives
    coordinates.
    Raises PointCloudError as :func:`to_points`.
    """
    wanted, optional = list(wanted), list(optional)
    fields = {name: field for name in [*wanted, *optional] if (field := _field(message, name))}
    if missing := [name for name in wanted if name not in fields]:
        raise PointCloudError(f'the point cloud has no field {", ".join(missing)}; '
                              f'it has {sorted(field.name for field in message.fields)}')
    if not message.height or not message.width:
        return np.zeros(0, [(name, np.float32) for name in fields])
    point_step, row_step = _steps(message)
    for name, field in fields.items():
        _check(name, field, point_step)
    coordinates = sorted((name for name in wanted if name in 'xyz'), key=lambda name: fields[name].offset)
    for name, after in zip(coordinates, coordinates[1:], strict=False):
        if _end(fields[name]) > fields[after].offset:  # as where a driver leaves all offsets zero
            raise PointCloudError(f'fields {name} and {after} of the point cloud share bytes: they begin at '
                                  f'{fields[name].offset} and {fields[after].offset}; set the offsets')
    records = _view(message, fields, '>' if message.is_bigendian else '<', point_step, row_step)
    if not _plausible(records):
        swapped = _view(message, fields, '<' if message.is_bigendian else '>', point_step, row_step)
        records = swapped if _plausible(swapped, share=0.99, least=PROBED // 4) else records
    return records.ravel()


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


def _steps(message: PointCloud2) -> tuple[int, int]:
    """Return bytes from point to point and from row to row; PointCloudError if they are ambiguous."""
    height, width, size = message.height, message.width, len(message.data)
    count, point_step, row_step = height * width, message.point_step, message.row_step
    extent = max((_end(field) for field in message.fields), default=0)
    if size == count * extent and (point_step < extent or row_step == width * extent):
        return extent, width * extent
    least = (count - 1) * point_step + min(extent, point_step)
    if size < least:
        raise PointCloudError(f'the point cloud has {size} bytes; {height} rows of {width} points of '
                              f'{point_step} bytes need {count * point_step}')
    if height == 1 or size in (least, count * point_step):
        return point_step, width * point_step
    end = (height - 1) * row_step + (width - 1) * point_step + min(extent, point_step)
    if row_step < width * point_step or size < end:
        raise PointCloudError(f'row_step is {row_step}; {width} points of {point_step} bytes need '
                              f'{width * point_step}, and {height} rows of the {size} bytes that there are '
                              f'have {size / height:g}')
    return point_step, row_step


def _end(field: PointField) -> int:
    """Return the byte of a point at which a field ends; 0 for an unknown type."""
    size = np.dtype(_TYPES[field.datatype]).itemsize if field.datatype in _TYPES else 0
    return field.offset + size * max(1, field.count) if size else 0


def _field(message: PointCloud2, name: str) -> PointField | None:
    """Return the field of this name, otherwise of another case; PointCloudError for two different ones."""
    same: Callable[[str], bool]
    for same in (lambda other: other == name, lambda other: other.lower() == name):
        found = [field for field in message.fields if same(field.name)]
        if len({(field.offset, field.datatype, field.count) for field in found}) > 1:
            raise PointCloudError(f'the point cloud has {len(found)} fields {name}, at bytes '
                                  f'{", ".join(str(field.offset) for field in found)} of a point; '
                                  'name the others differently')
        if found:
            return found[0]
    return None


def _check(name: str, field: PointField, point_step: float) -> None:
    if field.datatype not in _TYPES or field.count > 1:
        raise PointCloudError(f'field {name} has datatype {field.datatype} and count {field.count}; '
                              f'expected one number of datatype {min(_TYPES)} to {max(_TYPES)}')
    if _end(field) > point_step:
        raise PointCloudError(f'field {name} ends at byte {_end(field)} of a point, but point_step is '
                              f'{point_step}')


def _view(message: PointCloud2, fields: dict[str, PointField], order: str, point_step: int,
          row_step: int) -> np.ndarray:
    """Return fields of all points, structured [height, width], without a copy."""
    formats = [np.dtype(order + _TYPES[field.datatype]) for field in fields.values()]
    kind = np.dtype({'names': list(fields), 'formats': formats,
                     'offsets': [field.offset for field in fields.values()]})
    return np.ndarray((message.height, message.width), kind, message.data, strides=(row_step, point_step))


def _plausible(records: np.ndarray, share: float = 0.5, least: int = 0) -> bool:
    """Return whether at least ``share`` of some coordinates, and ``least`` numbers, can be metres.

    Without finite floating-point coordinates, return whether ``least`` is 0.
    """
    rows, columns = records.shape
    places = np.linspace(0, rows * columns - 1, min(rows * columns, PROBED)).astype(np.int64)
    probed = records[places // columns, places % columns]
    names = [name for name in 'xyz' if name in probed.dtype.names and probed.dtype[name].kind == 'f']
    with np.errstate(over='ignore', invalid='ignore'):
        values = np.abs(np.concatenate([probed[name].astype(np.float64) for name in names] or [[]]))
    values = values[np.isfinite(values)]
    if not len(values):
        return not least
    sound = (values == 0) | ((values > NEAREST) & (values < FARTHEST))
    return len(values) >= least and bool(sound.mean() >= share)
