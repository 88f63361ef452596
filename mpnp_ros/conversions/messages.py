"""Time stamps <-> integer nanoseconds, and tokens <-> ``mpnp_ros/msg/ModalityTokens``.

The bytes of tokens are copied once on the way out (into an ``array.array``, which rclpy publishes without
looking at the items) and not at all on the way in.
"""
from __future__ import annotations

import array
import math
import sys
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time

from mpnp_ros.errors import TokensError
from mpnp_ros.msg import ModalityTokens as TokensMessage
from mpnp_ros.tokens import DTYPES, NO_SOURCE, SECOND, ModalityTokens

_SLACK = 1e-4  # float32 rounding of pi


def to_nanoseconds(stamp: Time) -> int:
    """Return the nanoseconds of ``stamp``."""
    return stamp.sec * SECOND + stamp.nanosec


def from_nanoseconds(nanoseconds: int) -> Time:
    """Return the stamp of ``nanoseconds``; a negative one has a negative sec, and nanosec >= 0."""
    sec, nanosec = divmod(nanoseconds, SECOND)
    return Time(sec=sec, nanosec=nanosec)


def to_message(tokens: ModalityTokens, input_age: float = 0., encode_duration: float = 0.) -> TokensMessage:
    """Return ``tokens`` as a message; ages and durations in seconds, as the message defines them."""
    message = TokensMessage(modality=tokens.modality, encoder=tokens.encoder, dtype=tokens.values.dtype.name)
    message.header.stamp = from_nanoseconds(tokens.stamp_ns)
    message.header.frame_id = tokens.frame_id
    message.shape = array.array('I', tokens.values.shape)
    values = tokens.values
    if sys.byteorder != 'little':
        values = values.astype(values.dtype.newbyteorder('<'))
    message.data = _packed('B', values)
    message.azimuth = _packed('f', tokens.azimuth.astype(np.float32, copy=False))
    message.sources = list(tokens.sources)
    message.source_index = _packed('H', tokens.source_index.astype(np.uint16, copy=False))
    message.source_stamps = [from_nanoseconds(stamp) for stamp in tokens.source_stamps_ns]
    message.input_age = float(input_age)
    message.encode_duration = float(encode_duration)
    message.quality, message.concerns = float(tokens.quality), list(tokens.concerns)
    message.distance = _packed('f', tokens.distance.astype(np.float32, copy=False))
    message.known, message.looked = tokens.known.tolist(), tokens.looked.tolist()
    message.max_distance = float(tokens.max_distance)
    message.boxes = _packed('f', tokens.boxes.astype(np.float32, copy=False))
    return message


def from_message(message: TokensMessage) -> ModalityTokens:
    """Return the tokens of ``message``; their arrays are views of its bytes.

    Raises TokensError, naming modality and field, for an inconsistent message.
    """
    name, shape = f'{message.modality or "(unnamed)"} tokens', tuple(message.shape)
    if not (math.isnan(message.quality) or 0 <= message.quality <= 1):
        raise TokensError(f'{name}: quality is {message.quality}; expected 0 to 1, or NaN')
    if not message.modality:
        raise TokensError(f'{name}: the modality is empty; the encoder must name it')
    if message.dtype not in DTYPES:
        raise TokensError(f'{name} are {message.dtype!r}; expected one of {", ".join(DTYPES)}')
    if len(shape) != 2:
        raise TokensError(f'{name} have shape {list(shape)}; expected [P, D]')
    dtype = np.dtype(message.dtype).newbyteorder('<')
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(message.data):
        raise TokensError(f'{name}: shape {list(shape)} of {message.dtype} needs {needed} bytes; '
                          f'data has {len(message.data)}')
    azimuth = np.frombuffer(message.azimuth, np.float32)
    if (np.abs(azimuth) > math.pi + _SLACK).any():  # NaN, a token without a direction, compares as False
        raise TokensError(f'{name}: an azimuth is outside (-pi, pi] rad')
    sources, source_index = len(message.sources), np.frombuffer(message.source_index, np.uint16)
    if len(message.source_stamps) not in (0, sources):
        raise TokensError(f'{name}: {sources} sources but {len(message.source_stamps)} source_stamps')
    used = source_index[source_index != NO_SOURCE]
    if used.size and used.max() >= sources:
        raise TokensError(f'{name}: source_index {used.max()} but only {sources} sources')
    if len(message.boxes) % 4:
        raise TokensError(f'{name}: boxes has {len(message.boxes)} values; expected four for each token')
    return ModalityTokens(
        message.modality, message.encoder, np.frombuffer(message.data, dtype).reshape(shape), azimuth,
        tuple(message.sources), source_index, tuple(map(to_nanoseconds, message.source_stamps)),
        to_nanoseconds(message.header.stamp), message.header.frame_id, message.quality,
        tuple(message.concerns), message.input_age, message.encode_duration,
        np.frombuffer(message.distance, np.float32), np.array(message.known, bool),
        np.array(message.looked, bool), message.max_distance,
        np.frombuffer(message.boxes, np.float32).reshape(-1, 4))


def _packed(code: str, values: np.ndarray) -> array.array[Any]:
    packed = array.array(code)
    packed.frombytes(np.ascontiguousarray(values).data.cast('B') if values.size else b'')
    return packed
