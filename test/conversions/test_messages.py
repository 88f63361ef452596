"""Tokens survive the way through a message; a message that does not fit together is refused."""
from __future__ import annotations

import array
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from builtin_interfaces.msg import Time
from mpnp_ros.msg import ModalityTokens as TokensMessage
from rclpy.serialization import deserialize_message, serialize_message

from mpnp_ros.conversions.messages import from_message, from_nanoseconds, to_message, to_nanoseconds
from mpnp_ros.errors import TokensError
from mpnp_ros.tokens import ModalityTokens


def make_tokens(count=4, width=3, dtype='float32', seed=0):
    """Make tokens of two sources."""
    rng = np.random.default_rng(seed)
    azimuth = rng.uniform(-np.pi, np.pi, count).astype(np.float32)
    azimuth[0] = np.nan
    stamps = (1_700_000_000_000_000_007, 1_700_000_000_050_000_000)
    return ModalityTokens(
        'camera', 'camera-0123456789ab', rng.normal(size=(count, width)).astype(dtype), azimuth,
        ('cam_front', 'cam_back'), rng.integers(0, 2, count).astype(np.uint16), stamps, stamps[0], 'base')


@given(st.integers(1, 30), st.integers(1, 20), st.sampled_from(['float32', 'float16']), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_tokens_survive_the_wire(count, width, dtype, seed):
    tokens = make_tokens(count, width, dtype, seed)
    message = deserialize_message(serialize_message(to_message(tokens, 0.25, 0.5)), TokensMessage)
    read = from_message(message)
    for name in ('values', 'azimuth', 'source_index'):
        np.testing.assert_array_equal(getattr(read, name), getattr(tokens, name))
        assert getattr(read, name).dtype == getattr(tokens, name).dtype
    for name in ('modality', 'encoder', 'sources', 'source_stamps_ns', 'stamp_ns', 'frame_id'):
        assert getattr(read, name) == getattr(tokens, name)
    assert (message.input_age, message.encode_duration) == (0.25, 0.5)
    assert (read.input_age, read.encode_duration) == (0.25, 0.5)


def test_boxes_survive_the_wire_and_old_messages_have_none():
    boxes = np.arange(16, dtype=np.float32).reshape(4, 4)
    tokens = dataclasses.replace(make_tokens(), boxes=boxes)
    np.testing.assert_array_equal(from_message(to_message(tokens)).boxes, boxes)
    assert from_message(to_message(make_tokens())).boxes.shape == (0, 4)


def test_reading_does_not_copy():
    message = to_message(make_tokens())
    assert np.shares_memory(from_message(message).values, np.frombuffer(message.data, np.uint8))


def test_a_slice_of_a_larger_array_can_be_published():
    tokens = make_tokens(8, 6)
    narrow = ModalityTokens('m', 'e', tokens.values[:, ::2], tokens.azimuth)
    np.testing.assert_array_equal(from_message(to_message(narrow)).values, narrow.values)


@pytest.mark.parametrize('changes, words', [
    ({'modality': ''}, 'modality is empty'),
    ({'boxes': array.array('f', [0.] * 7)}, 'boxes has 7 values'),
    ({'boxes': array.array('f', [0.] * 8)}, r'boxes have shape \[2, 4\]'),
    ({'dtype': 'int8'}, "'int8'; expected one of float32"),
    ({'dtype': 'object'}, "'object'"),
    ({'shape': [12]}, r'shape \[12\]; expected \[P, D\]'),
    ({'shape': [4, 4]}, r'\[4, 4\] of float32 needs 64 bytes; data has 48'),
    ({'shape': [2 ** 32 - 1, 2 ** 32 - 1]}, 'needs 737'),
    ({'shape': [0, 3], 'data': []}, r'shape \[0, 3\]'),
    ({'azimuth': [0.0]}, '4 tokens but azimuth'),
    ({'azimuth': [0.0, 0.0, 0.0, 3.2]}, 'outside'),
    ({'azimuth': [0.0, 0.0, 0.0, np.inf]}, 'outside'),
    ({'source_index': [0]}, '4 tokens but 1 source indices'),
    ({'source_index': [0, 0, 0, 2]}, 'source_index 2 but only 2 sources'),
    ({'source_index': [0, 65535, 65534, 1]}, 'source_index 65534 but only 2 sources'),
    ({'source_stamps': [Time()]}, '2 sources but 1 source_stamps'),
    ({'data': array.array('B', np.full(12, np.nan, np.float32).tobytes())}, 'NaN or Inf'),
])
def test_a_message_that_does_not_fit_together_is_refused(changes, words):
    message = to_message(make_tokens())
    for field, value in changes.items():
        setattr(message, field, value)
    with pytest.raises(TokensError, match=words):
        from_message(message)


@given(st.integers(-2 ** 31 * 10 ** 9, (2 ** 31 - 1) * 10 ** 9))
def test_stamps_and_nanoseconds_are_the_same(nanoseconds):
    stamp = from_nanoseconds(nanoseconds)
    assert to_nanoseconds(stamp) == nanoseconds
    assert 0 <= stamp.nanosec < 10 ** 9
