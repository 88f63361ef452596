"""Point clouds of every layout against ``struct``, and fuzzed ones."""
from __future__ import annotations

import array
import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from sensor_msgs.msg import PointCloud2, PointField

from mpnp_ros.conversions.pointclouds import Points, from_points, to_points, to_records
from mpnp_ros.errors import PointCloudError

CODES = {1: 'b', 2: 'B', 3: 'h', 4: 'H', 5: 'i', 6: 'I', 7: 'f', 8: 'd'}
OFTEN_SMALL = st.integers(0, 40) | st.integers(0, 2 ** 32 - 1)


@st.composite
def layouts(draw):
    """Draw fields in any order, with gaps: [(name, offset, datatype)], point_step."""
    other = draw(st.sampled_from(['intensity', 'i', 'reflectivity', 'ring']))
    names = draw(st.permutations(['x', 'y', 'z', other]))
    fields, offset = [], 0
    for name in names:
        datatype = draw(st.sampled_from(sorted(CODES)))
        offset += draw(st.integers(0, 3))
        fields.append((name, offset, datatype))
        offset += struct.calcsize(CODES[datatype])
    return fields, offset + draw(st.integers(0, 5))


@given(layouts(), st.integers(1, 4), st.integers(1, 6), st.integers(0, 7), st.booleans(),
       st.integers(0, 2 ** 32))
@settings(max_examples=150, deadline=None)
def test_any_layout_is_read_as_struct_reads_it(layout, height, width, padding, big_endian, seed):
    fields, point_step = layout
    row_step = width * point_step + padding
    data = np.random.default_rng(seed).integers(0, 256, height * row_step, dtype=np.uint8).tobytes()
    message = PointCloud2(height=height, width=width, point_step=point_step, row_step=row_step,
                          is_bigendian=big_endian, data=array.array('B', data),
                          fields=[PointField(name=n, offset=o, datatype=t, count=1) for n, o, t in fields])
    points = to_points(message)
    order = '>' if big_endian else '<'
    for name, offset, datatype in fields:
        starts = [row * row_step + column * point_step for row in range(height) for column in range(width)]
        expected = [struct.unpack_from(order + CODES[datatype], data, start + offset)[0] for start in starts]
        with np.errstate(all='ignore'):
            expected = np.array(expected).astype(np.float32)
        if name in 'xyz':
            np.testing.assert_array_equal(points.xyz[:, 'xyz'.index(name)], expected)
        elif name != 'ring':
            np.testing.assert_array_equal(points.intensity, expected)
    assert points.xyz.dtype == np.float32
    assert (points.intensity is None) is any(name == 'ring' for name, _, _ in fields)


@given(st.integers(1, 50), st.booleans(), st.integers(0, 2 ** 32))
@settings(max_examples=30, deadline=None)
def test_points_survive_the_way_there_and_back(count, with_intensity, seed):
    rng = np.random.default_rng(seed)
    xyz = rng.normal(size=(count, 3)).astype(np.float32)
    xyz[0, 0] = np.nan
    intensity = rng.random(count, dtype=np.float32) if with_intensity else None
    message = from_points(Points(xyz, intensity), 'lidar_top', 2_000_000_001)
    read = to_points(message)
    np.testing.assert_array_equal(read.xyz, xyz)
    assert read.intensity is None if intensity is None else (read.intensity == intensity).all()
    assert not message.is_dense
    assert (message.header.frame_id, message.header.stamp.nanosec) == ('lidar_top', 1)


def cloud(**changes):
    """Make a right cloud of two points with some fields changed."""
    message = from_points(Points(np.ones((2, 3), np.float32), np.ones(2, np.float32)))
    for field, value in changes.items():
        setattr(message, field, value)
    return message


@pytest.mark.parametrize('changes, words', [
    ({'width': 0, 'row_step': 0, 'data': array.array('B')}, 'empty: 1 rows of 0'),
    ({'height': 0}, 'empty: 0 rows'),
    ({'fields': []}, 'no field x, y, z'),
    ({'fields': [PointField(name='x', offset=0, datatype=7, count=1)]}, "no field y, z; it has .'x'"),
    ({'point_step': 0, 'data': array.array('B', bytes(40))}, 'ends at byte 4 .* point_step is 0'),
    ({'point_step': 10, 'data': array.array('B', bytes(33))}, 'field z ends at byte 12 .* point_step is 10'),
    ({'point_step': 2 ** 31, 'row_step': 0}, '2 points of 2147483648 bytes'),
    ({'width': 2 ** 31, 'row_step': 2 ** 31}, '32 bytes; 1 rows of 2147483648 points of 16 bytes need'),
    ({'width': 3}, '32 bytes; 1 rows of 3 points of 16 bytes need 48'),
    ({'data': array.array('B', bytes(31))}, '31 bytes'),
    ({'height': 2, 'width': 1, 'row_step': 15, 'data': array.array('B', bytes(40))}, 'row_step is 15; 1 p'),
    ({'height': 2, 'width': 1, 'row_step': 30, 'data': array.array('B', bytes(40))}, 'row_step is 30; 1 p'),
    ({'fields': [PointField(name=name, offset=0, datatype=9, count=1) for name in 'xyz']}, 'datatype 9'),
    ({'fields': [PointField(name=name, offset=0, datatype=7, count=3) for name in 'xyz']}, 'count 3'),
    ({'fields': [PointField(name=name, offset=0, datatype=7, count=1) for name in 'xyz']}, 'share bytes'),
    ({'fields': [PointField(name=name, offset=4 * offset, datatype=7, count=1)
                 for offset, name in enumerate('xyzx')]}, '2 fields x, at bytes 0, 12'),
])
def test_a_malformed_cloud_is_refused_by_name(changes, words):
    with pytest.raises(PointCloudError, match=words):
        to_points(cloud(**changes))


def packed(fields, count, point_step=None):
    """Make a cloud of ``count`` points as a driver lays it out, and the values it should be read as.

    fields: [(name, offset, numpy type)].
    """
    rng = np.random.default_rng(0)
    kinds = [np.dtype(kind) for _, _, kind in fields]
    ends = [offset + kind.itemsize for (_, offset, _), kind in zip(fields, kinds, strict=True)]
    step = point_step or max(ends)
    records = np.zeros(count, np.dtype({'names': [name for name, _, _ in fields], 'formats': kinds,
                                        'offsets': [offset for _, offset, _ in fields], 'itemsize': step}))
    for name, _, kind in fields:
        values = rng.uniform(-50, 50, count) if name in ('x', 'y', 'z') else rng.uniform(1, 250, count)
        records[name] = values.astype(kind)
    numbers = {'i1': 1, 'u1': 2, 'i2': 3, 'u2': 4, 'i4': 5, 'u4': 6, 'f4': 7, 'f8': 8}
    message = PointCloud2(height=1, width=count, point_step=step, row_step=count * step,
                          data=array.array('B', records.tobytes()),
                          fields=[PointField(name=name, offset=offset, datatype=numbers[kind], count=1)
                                  for name, offset, kind in fields])
    return message, records


XYZ = [('x', 0, 'f4'), ('y', 4, 'f4'), ('z', 8, 'f4')]
DRIVERS = {
    'velodyne': ([*XYZ, ('intensity', 12, 'f4'), ('ring', 16, 'u2'), ('time', 18, 'f4')], 22, 'intensity'),
    'ouster': ([*XYZ, ('intensity', 16, 'f4'), ('t', 20, 'u4'), ('reflectivity', 24, 'u2'),
                ('ring', 26, 'u2'), ('ambient', 28, 'u2'), ('range', 32, 'u4')], 48, 'reflectivity'),
    'ouster native': ([*XYZ, ('t', 12, 'u4'), ('ring', 16, 'u2'), ('range', 20, 'u4'), ('signal', 24, 'u2'),
                       ('reflectivity', 26, 'u1'), ('near_ir', 28, 'u2')], 32, 'reflectivity'),
    'livox': ([*XYZ, ('intensity', 12, 'f4'), ('tag', 16, 'u1'), ('line', 17, 'u1'), ('timestamp', 18, 'f8')],
              26, 'intensity'),
    'hesai': ([*XYZ, ('intensity', 12, 'f4'), ('ring', 16, 'u2'), ('timestamp', 18, 'f8')], 26, 'intensity'),
    'robosense': ([*XYZ, ('intensity', 12, 'f4'), ('ring', 16, 'u2'), ('timestamp', 24, 'f8')], 32,
                  'intensity'),
    'realsense': ([*XYZ, ('rgb', 16, 'f4')], 20, None),
    'depthai': ([*XYZ, ('rgb', 12, 'u4')], 16, None),
    'gazebo': ([*XYZ, ('intensity', 16, 'f4'), ('ring', 24, 'u2')], 32, 'intensity'),
    'carla': ([*XYZ, ('intensity', 12, 'f4')], 16, 'intensity'),
    'unitree': ([*XYZ, ('intensity', 16, 'f4'), ('ring', 20, 'u2'), ('time', 24, 'f4')], 32, 'intensity'),
    'sick': ([*XYZ, ('i', 12, 'f4')], 16, 'i'),
    'capital letters': ([('X', 0, 'f4'), ('Y', 4, 'f4'), ('Z', 8, 'f4'), ('Intensity', 12, 'u1')], 13,
                        'Intensity'),
    'double precision': ([('x', 0, 'f8'), ('y', 8, 'f8'), ('z', 16, 'f8'), ('intensity', 24, 'u1')], 25,
                         'intensity'),
    'any order': ([('ring', 0, 'u1'), ('intensity', 1, 'u2'), ('z', 3, 'f4'), ('x', 7, 'f4'),
                   ('y', 11, 'f8')], 19, 'intensity'),
}


@pytest.mark.parametrize('name', DRIVERS)
@pytest.mark.parametrize('rows', ['as it says', 'row_step 0', 'row_step of all rows', 'organised'])
def test_what_drivers_send_is_read_with_the_calibrated_intensity(name, rows):
    fields, step, intensity = DRIVERS[name]
    message, records = packed(fields, 60, point_step=step)
    if rows == 'organised':
        message.height, message.width, message.row_step = 4, 15, 15 * step
    elif rows != 'as it says':
        message.height, message.width = 3, 20
        message.row_step = 0 if rows == 'row_step 0' else 60 * step
    points = to_points(message)
    for field in (name for name, _, _ in fields if name.lower() in 'xyz'):
        column = points.xyz[:, 'xyz'.index(field.lower())]
        np.testing.assert_array_equal(column, records[field].astype(np.float32))
    if intensity is None:
        assert points.intensity is None
    else:
        np.testing.assert_array_equal(points.intensity, records[intensity].astype(np.float32))


@pytest.mark.parametrize('changes', [
    {'row_step': 0}, {'row_step': 7}, {'row_step': 16}, {'row_step': 33}, {'row_step': 2 ** 31},
    {'point_step': 0}, {'point_step': 12}, {'point_step': 32}, {'is_bigendian': True},
], ids=str)
def test_one_wrong_number_is_not_taken_where_the_bytes_tell(changes):
    message, records = packed([*XYZ, ('intensity', 12, 'f4')], 40)
    for field, value in changes.items():
        setattr(message, field, value)
    points = to_points(message)
    np.testing.assert_array_equal(points.xyz, np.stack([records[name] for name in 'xyz'], axis=1))
    np.testing.assert_array_equal(points.intensity, records['intensity'])


def test_data_that_go_on_or_end_at_the_last_field_are_read():
    message, records = packed([*XYZ, ('intensity', 12, 'f4')], 6, point_step=20)
    message.height, message.width, message.row_step = 2, 3, 60
    data = message.data.tobytes()
    for changed in (data + bytes(7), data[:-4]):
        message.data = array.array('B', changed)
        np.testing.assert_array_equal(to_points(message).intensity, records['intensity'])
    message.row_step = 64
    message.data = array.array('B', data[:60] + bytes(4) + data[60:])  # the last row is not padded
    np.testing.assert_array_equal(to_points(message).intensity, records['intensity'])
    message.data = array.array('B', data[:-5])
    with pytest.raises(PointCloudError, match='115 bytes; 2 rows of 3 points of 20 bytes need 120'):
        to_points(message)


def test_big_endian_points_stay_so_where_all_are_lost_or_far():
    for values in (np.full((40, 3), np.nan), np.full((40, 3), 4e6)):
        message = cloud(width=40, point_step=12, row_step=480, is_bigendian=True,
                        data=array.array('B', values.astype('>f4').tobytes()))
        message.fields = message.fields[:3]
        np.testing.assert_array_equal(to_points(message).xyz, values.astype(np.float32))


def test_an_intensity_that_is_not_measured_or_cannot_be_read_gives_way_to_another():
    fields = [*XYZ, ('intensity', 12, 'f4'), ('reflectivity', 16, 'u2')]
    message, records = packed(fields, 30)
    np.testing.assert_array_equal(to_points(message).intensity, records['reflectivity'])
    message.fields[4].count = 2
    np.testing.assert_array_equal(to_points(message).intensity, records['intensity'])
    message, records = packed(fields, 30)
    dark = records.copy()
    dark['reflectivity'] = 0
    message.data = array.array('B', dark.tobytes())
    np.testing.assert_array_equal(to_points(message).intensity, records['intensity'])
    message.fields = [*message.fields[:3], PointField(name='intensity', offset=12, datatype=7, count=9)]
    assert to_points(message).intensity is None


def test_records_have_what_is_wanted_and_what_is_there_of_the_optional():
    records = to_records(cloud(), ['x', 'z'], ['intensity', 'ring'])
    assert records.dtype.names == ('x', 'z', 'intensity') and records.shape == (2,)
    empty = to_records(cloud(width=0, row_step=0, data=array.array('B')), 'xyz', ['intensity'])
    assert empty.dtype.names == ('x', 'y', 'z', 'intensity') and not len(empty)
    with pytest.raises(PointCloudError, match='no field rcs'):
        to_records(cloud(), ['x', 'rcs'])


@given(st.lists(st.tuples(st.sampled_from(['x', 'y', 'z', 'i', '']), OFTEN_SMALL, st.integers(0, 10),
                          st.integers(0, 2)), max_size=6),
       OFTEN_SMALL, OFTEN_SMALL, OFTEN_SMALL, OFTEN_SMALL, st.integers(0, 400))
@settings(max_examples=400, deadline=None)
def test_any_cloud_is_converted_or_refused(fields, height, width, point_step, row_step, size):
    message = PointCloud2(height=height, width=width, point_step=point_step, row_step=row_step,
                          data=array.array('B', bytes(size)),
                          fields=[PointField(name=n, offset=o, datatype=t, count=c) for n, o, t, c in fields])
    for convert in (lambda cloud: to_points(cloud).xyz, lambda cloud: to_records(cloud, 'xy', 'zi')):
        with contextlib.suppress(PointCloudError):
            assert len(convert(message)) == height * width
