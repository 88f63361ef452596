"""Shifts time stamps in serialised messages (CDR), for bags played in a loop."""
from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

HEADER, TIME = 'std_msgs/msg/Header', 'builtin_interfaces/msg/Time'
_LEADING_STAMP_OFFSET = 4


class StampShifter:
    """Adds an offset to every time stamp of a message.

    If the only stamp is in a leading header, its eight bytes are patched. Other messages are deserialised and
    serialised again. A stamp of zero means "not set" and stays zero.
    """

    def __init__(self, types: Typestore) -> None:
        self._types = types
        self._stamp_count = lru_cache(maxsize=None)(self._count_stamps)

    def shift(self, type_name: str, data: bytes, offset_ns: int) -> bytes:
        """``data`` with all stamps shifted by ``offset_ns``."""
        stamps = self._stamp_count(type_name)
        if offset_ns == 0 or stamps == 0:
            return data
        if stamps == 1 and self._leads_with_header(type_name):
            return _shift_leading_stamp(data, offset_ns)
        message = self._types.deserialize_cdr(data, type_name)
        self._shift_all(message, offset_ns)
        return bytes(self._types.serialize_cdr(message, type_name))

    def _leads_with_header(self, type_name: str) -> bool:
        fields = self._types.fielddefs[type_name][1]
        return bool(fields) and fields[0][1] == (Nodetype.NAME, HEADER)

    def _count_stamps(self, type_name: str) -> int:
        """The number of stamps of a type, recursively; a sequence counts as one element."""
        if type_name == TIME:
            return 1
        return sum(self._stamp_count(name) for _, kind in self._types.fielddefs[type_name][1]
                   if (name := _message_type(kind)))

    def _shift_all(self, message: Any, offset_ns: int) -> None:
        if message.__msgtype__ == TIME:
            shifted = _shifted(message.sec, message.nanosec, offset_ns)
            # rosbags messages are frozen; this one is a private copy
            object.__setattr__(message, 'sec', shifted[0])
            object.__setattr__(message, 'nanosec', shifted[1])
            return
        for name, kind in self._types.fielddefs[message.__msgtype__][1]:
            if _message_type(kind):
                value = getattr(message, name)
                for item in value if isinstance(value, (list, np.ndarray)) else [value]:
                    self._shift_all(item, offset_ns)


def _message_type(kind: Any) -> str | None:
    """Name of the message type of a field or of its elements; None for plain values."""
    node, detail = kind
    if node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        node, detail = detail[0]
    return detail if node == Nodetype.NAME else None


def _shift_leading_stamp(data: bytes, offset_ns: int) -> bytes:
    layout = struct.Struct('<iI' if data[1] & 1 else '>iI')
    patched = bytearray(data)
    stamp = _shifted(*layout.unpack_from(data, _LEADING_STAMP_OFFSET), offset_ns)
    layout.pack_into(patched, _LEADING_STAMP_OFFSET, *stamp)
    return bytes(patched)


def _shifted(seconds: int, nanoseconds: int, offset_ns: int) -> tuple[int, int]:
    if seconds == nanoseconds == 0:
        return 0, 0
    return divmod(seconds * 10**9 + nanoseconds + offset_ns, 10**9)
