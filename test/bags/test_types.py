from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.bags.messages import MessageFactory, message_types
from mpnp_ros.bags.types import StampShifter
from mpnp_ros.poses import Transform

TYPES = message_types()
FACTORY = MessageFactory(TYPES)
STAMPS = st.integers(1, 2**31 * 10**9 - 1)


def shifted(message: object, offset_ns: int) -> object:
    """Serialise, shift, deserialise."""
    name = message.__msgtype__
    data = StampShifter(TYPES).shift(name, bytes(TYPES.serialize_cdr(message, name)), offset_ns)
    return TYPES.deserialize_cdr(data, name)


def nanoseconds(stamp: object) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


@given(STAMPS, STAMPS)
def test_leading_stamp_moves_and_nothing_else(old: int, new: int) -> None:
    image = FACTORY.new('sensor_msgs/msg/CompressedImage', header=FACTORY.header(old, 'cam'), format='jpeg',
                        data=np.arange(50, dtype=np.uint8))
    result = shifted(image, new - old)
    assert nanoseconds(result.header.stamp) == new
    assert (result.header.frame_id, result.format) == ('cam', 'jpeg')
    assert result.data.tobytes() == image.data.tobytes()


def test_big_endian_message() -> None:
    image = FACTORY.new('sensor_msgs/msg/Image', header=FACTORY.header(7_000_000_001, 'x'))
    data = bytes(TYPES.serialize_cdr(image, 'sensor_msgs/msg/Image', little_endian=False))
    moved = StampShifter(TYPES).shift('sensor_msgs/msg/Image', data, 2_500_000_000)
    assert struct.unpack_from('>iI', moved, 4) == (9, 500_000_001)
    assert moved[12:] == data[12:]


def test_every_nested_stamp_moves() -> None:
    poses = {'a': Transform.about_z(0), 'b': Transform.about_z(1)}
    result = shifted(FACTORY.transforms(10**9, 'map', poses), 10**9)
    assert [nanoseconds(item.header.stamp) for item in result.transforms] == [2 * 10**9] * 2
    tokens = FACTORY.new('mpnp_ros/msg/ModalityTokens', header=FACTORY.header(10**9, 'base_link'),
                         source_stamps=[FACTORY.header(3 * 10**9, '').stamp], modality='camera')
    result = shifted(tokens, -5)
    assert nanoseconds(result.header.stamp) == 10**9 - 5
    assert nanoseconds(result.source_stamps[0]) == 3 * 10**9 - 5
    assert result.modality == 'camera'


def test_unset_stamp_stays_unset() -> None:
    result = shifted(FACTORY.new('sensor_msgs/msg/Imu'), 10**9)
    assert nanoseconds(result.header.stamp) == 0


@pytest.mark.parametrize('name', ['std_msgs/msg/String', 'geometry_msgs/msg/Twist'])
def test_messages_without_stamps_keep_their_bytes(name: str) -> None:
    data = bytes(TYPES.serialize_cdr(FACTORY.new(name), name))
    assert StampShifter(TYPES).shift(name, data, 10**9) is data
