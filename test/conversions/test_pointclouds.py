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
    ({'point_step': 0}, 'ends at byte 4 of a point, but point_step is 0'),
    ({'point_step': 10}, 'field z ends at byte 12 of a point, but point_step is 10'),
    ({'point_step': 2 ** 31}, '2 points of 2147483648 bytes'),
    ({'row_step': 31}, 'row_step is 31; 2 points of 16 bytes need 32'),
    ({'row_step': 33}, '32 bytes; row_step 33 x 1 rows are 33'),
    ({'width': 2 ** 31, 'row_step': 2 ** 31}, 'row_step is'),
    ({'data': array.array('B', bytes(31))}, '31 bytes'),
    ({'fields': [PointField(name=name, offset=0, datatype=9, count=1) for name in 'xyz']}, 'datatype 9'),
    ({'fields': [PointField(name=name, offset=0, datatype=7, count=3) for name in 'xyz']}, 'count 3'),
])
def test_a_malformed_cloud_is_refused_by_name(changes, words):
    with pytest.raises(PointCloudError, match=words):
        to_points(cloud(**changes))


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
