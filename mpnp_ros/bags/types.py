"""Message types of a bag: those that can be published here, and the time stamps in their messages."""
from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import TypesysError, get_types_from_idl, get_types_from_msg
from rosbags.typesys.store import Typestore

from mpnp_ros.bags.topics import RecordedTopic

_PARSERS: Mapping[str, Callable[[str, str], Mapping[str, Any]]] = {
    'ros2msg': get_types_from_msg, 'ros2idl': lambda text, _: get_types_from_idl(text)}
_OCTET = {'byte', 'char', 'octet'}
_PLACEHOLDER = 'structure_needs_at_least_one_member'
OTHER_DEFINITION = '{} was recorded with another definition of this type; record or convert the bag anew'
HEADER, TIME = 'std_msgs/msg/Header', 'builtin_interfaces/msg/Time'
_LEADING_STAMP_OFFSET = 4


def learn_type(types: Typestore, topic: RecordedTopic) -> str:
    """Add the type of a topic to ``types``, from the bag or from an installed package.

    Returns the reason not to publish its messages; empty if they can be published. Messages of undefined
    types are published as bytes.
    """
    name = topic.type_name
    if not name:
        return 'the bag does not say of what type it is'
    if name.split('/')[1:2] != ['msg']:
        return f'{name} is not a message but a part of a service or action'
    found = recorded_types(topic)
    if name in types.fielddefs:
        if name in found:
            same = (_same_layout(name, types.fielddefs, found)
                    or is_older(name, types.fielddefs, found))
        elif topic.digest.startswith('RIHS01_'):
            try:
                same = topic.digest == types.hash_rihs01(name)
            except (TypesysError, KeyError):  # a type in it is unknown
                same = False
        else:
            same = True
        return '' if same else OTHER_DEFINITION.format(name)
    if name not in found:
        found = _installed(name, types.fielddefs)
    if name in found:
        with contextlib.suppress(TypesysError):  # the type stays unknown
            types.register({key: fields for key, fields in found.items() if key not in types.fielddefs})
    return ''


def recorded_types(topic: RecordedTopic) -> Mapping[str, Any]:
    """Return the type of a topic and those of its fields as the bag defines them; empty where it does not."""
    parse = _PARSERS.get(topic.definition_format)
    if parse and topic.definition:
        with contextlib.suppress(Exception):  # parsers raise various; the bag then does not define the type
            return parse(topic.definition, topic.type_name)
    return {}


def is_older(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Return whether a type has further fields here, all of them behind those of the other definition.

    That holds for the types of fields too.
    """
    return name in ours and _begins_as(name, ours, theirs) and not _same_layout(name, ours, theirs)


def _begins_as(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    if name not in ours or name not in theirs:
        return True
    fields, others = ours[name][1], theirs[name][1]
    return len(fields) >= len(others) > 0 and all(
        field == other and _plain(kind) == _plain(other_kind)
        and _begins_as(_message_type(kind), ours, theirs)
        for (field, kind), (other, other_kind) in zip(fields, others, strict=False))


def _installed(name: str, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definitions of a type and of its fields from installed packages; empty if one is missing."""
    found: dict[str, Any] = {}
    pending = [name]
    while pending:
        package, _, short = (current := pending.pop()).split('/')
        files = (Path(prefix, 'share', package, 'msg', f'{short}.msg')
                 for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if prefix)
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            return {}
        try:
            found.update(get_types_from_msg(file.read_text('utf-8'), current))
        except Exception:  # as in learn_type
            return {}
        pending += [inner for _, kind in found[current][1]
                    if (inner := _message_type(kind)) and inner not in known and inner not in found]
    return found


def _message_type(kind: Any) -> str:
    """Return the message type of a field or of its elements; empty for plain values."""
    node, detail = kind
    if node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        node, detail = detail[0]
    return detail if node == Nodetype.NAME else ''


def _same_layout(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Return whether two definitions have the same fields in the same order; bounds are ignored."""
    if name not in ours or name not in theirs:
        return True
    fields, others = ([(field, kind) for field, kind in definitions[name][1] if field != _PLACEHOLDER]
                      for definitions in (ours, theirs))
    return len(fields) == len(others) and all(
        field == other and _plain(kind) == _plain(other_kind)
        and _same_layout(_message_type(kind), ours, theirs)
        for (field, kind), (other, other_kind) in zip(fields, others, strict=True))


def _plain(kind: Any) -> tuple[Any, ...]:
    node, detail = kind
    if node == Nodetype.BASE:
        return ('uint8' if detail[0] in _OCTET else detail[0],)
    if node == Nodetype.NAME:
        return (detail,)
    return (*_plain(detail[0]), detail[1] if node == Nodetype.ARRAY else 'sequence')


class StampShifter:
    """Adds an offset to every time stamp of a serialised message (CDR), for bags played in a loop.

    If the only stamp is in a leading header, its eight bytes are patched. Other messages are deserialised and
    serialised again. A stamp of zero means "not set" and stays zero.
    """

    def __init__(self, types: Typestore) -> None:
        self._types = types
        self._stamp_count = lru_cache(maxsize=None)(self._count_stamps)

    def shift(self, type_name: str, data: bytes, offset_ns: int) -> bytes:
        """Return ``data`` with all stamps shifted by ``offset_ns``."""
        stamps = self._stamp_count(type_name)
        if offset_ns == 0 or stamps == 0:
            return data
        if stamps == 1 and self._types.fielddefs[type_name][1][0][1] == (Nodetype.NAME, HEADER):
            layout = struct.Struct('<iI' if data[1] & 1 else '>iI')
            seconds, nanoseconds = layout.unpack_from(data, _LEADING_STAMP_OFFSET)
            patched = bytearray(data)
            layout.pack_into(patched, _LEADING_STAMP_OFFSET, *_shifted(seconds, nanoseconds, offset_ns))
            return bytes(patched)
        message = self._types.deserialize_cdr(data, type_name)
        self._shift_all(message, offset_ns)
        return bytes(self._types.serialize_cdr(message, type_name))

    def _count_stamps(self, type_name: str) -> int:
        """Return the number of stamps in a type and its fields; a sequence counts as one element."""
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


def _shifted(seconds: int, nanoseconds: int, offset_ns: int) -> tuple[int, int]:
    if seconds == nanoseconds == 0:
        return 0, 0
    return divmod(seconds * 10**9 + nanoseconds + offset_ns, 10**9)
