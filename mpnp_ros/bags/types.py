"""Compares the message types of a bag with installed ones."""
from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import TypesysError, get_types_from_idl, get_types_from_msg
from rosbags.typesys.store import Typestore

from mpnp_ros.bags.topics import RecordedTopic

_PARSERS = {'ros2msg': get_types_from_msg, 'ros2idl': lambda text, _: get_types_from_idl(text)}
_OCTET = {'byte', 'char', 'octet'}
_PLACEHOLDER = 'structure_needs_at_least_one_member'
OTHER_DEFINITION = '{} was recorded with another definition of this type; record or convert the bag anew'


def learn_type(types: Typestore, topic: RecordedTopic) -> str:
    """Add the type of ``topic`` to ``types``, from the bag or from an installed package.

    Returns the reason not to publish its messages, or empty text. Messages of undefined types are published
    as bytes.
    """
    name = topic.type_name
    if not name:
        return 'the bag does not say of what type it is'
    if name.split('/')[1:2] != ['msg']:
        return f'{name} is not a message but a part of a service or action'
    found = _defined_in(topic)
    if name in types.fielddefs:
        same = _same_layout(name, types.fielddefs, found) if name in found else (
            not topic.digest.startswith('RIHS01_') or topic.digest == _hash(types, name))
        return '' if same else OTHER_DEFINITION.format(name)
    if name not in found:
        found = _installed(name, types.fielddefs)
    if name in found:
        with contextlib.suppress(TypesysError):  # the type stays unknown
            types.register({key: fields for key, fields in found.items() if key not in types.fielddefs})
    return ''


def _hash(types: Typestore, name: str) -> str:
    try:
        return types.hash_rihs01(name)
    except (TypesysError, KeyError):  # a type in it is unknown
        return ''


def _defined_in(topic: RecordedTopic) -> Mapping[str, Any]:
    parse = _PARSERS.get(topic.definition_format)
    try:
        return parse(topic.definition, topic.type_name) if parse and topic.definition else {}
    except Exception:  # parsers raise various exceptions; the bag then does not define the type
        return {}


def _installed(name: str, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definitions of a type and its field types from installed packages."""
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
        except Exception:  # as above
            return {}
        pending += [inner for _, kind in found[current][1] if (inner := _inner(kind)) and inner not in known
                    and inner not in found]
    return found


def _inner(kind: Any) -> str:
    node, detail = kind
    if node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        node, detail = detail[0]
    return detail if node == Nodetype.NAME else ''


def _same_layout(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two definitions have the same fields in the same order, recursively; bounds are ignored."""
    if name not in ours or name not in theirs:
        return True
    fields, others = ([(field, kind) for field, kind in definitions[name][1] if field != _PLACEHOLDER]
                      for definitions in (ours, theirs))
    return len(fields) == len(others) and all(
        field == other and _plain(kind) == _plain(other_kind)
        and _same_layout(_inner(kind), ours, theirs)
        for (field, kind), (other, other_kind) in zip(fields, others, strict=True))


def _plain(kind: Any) -> tuple[Any, ...]:
    node, detail = kind
    if node == Nodetype.BASE:
        return ('uint8' if detail[0] in _OCTET else detail[0],)
    if node == Nodetype.NAME:
        return (detail,)
    return (*_plain(detail[0]), detail[1] if node == Nodetype.ARRAY else 'sequence')
