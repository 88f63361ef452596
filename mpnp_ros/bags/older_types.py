"""Messages that were recorded before fields were added at the end of their types."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from mpnp_ros.bags.messages import MessageFactory
from mpnp_ros.bags.topics import RecordedTopic
from mpnp_ros.bags.types import is_older, recorded_types


def completed(types: Typestore, topic: RecordedTopic) -> Callable[[bytes], bytes] | None:
    """Return a function that brings messages of a topic (CDR) to their types in ``types``.

    Fields that were not recorded are zero or empty.  None where the types are the same, or differ otherwise.
    """
    found, name = recorded_types(topic), topic.type_name
    if name not in found or not is_older(name, types.fielddefs, found):
        return None
    store, factory = get_typestore(Stores.EMPTY), MessageFactory(types)
    store.register({**_parts(name, types.fielddefs), **found})

    def complete(data: bytes) -> bytes:
        message = _with_all_fields(store.deserialize_cdr(data, name), name, types.fielddefs, factory)
        return bytes(types.serialize_cdr(message, name))

    return complete


def _parts(name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a type and the types of its fields, which the definition in a bag may leave out."""
    parts = {name: known[name]}
    for _, (node, detail) in known[name][1]:
        node, detail = detail[0] if node in (Nodetype.ARRAY, Nodetype.SEQUENCE) else (node, detail)
        if node == Nodetype.NAME:
            parts |= _parts(detail, known)
    return parts


def _with_all_fields(message: Any, name: str, known: Mapping[str, Any], factory: MessageFactory) -> Any:
    fields = {}
    for field, (node, detail) in known[name][1]:
        if not hasattr(message, field):
            continue
        value = getattr(message, field)
        if node == Nodetype.NAME:
            value = _with_all_fields(value, detail, known, factory)
        elif node in (Nodetype.ARRAY, Nodetype.SEQUENCE) and detail[0][0] == Nodetype.NAME:
            value = [_with_all_fields(item, detail[0][1], known, factory) for item in value]
        fields[field] = value
    return factory.new(name, **fields)
