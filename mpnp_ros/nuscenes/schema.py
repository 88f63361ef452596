"""Records of nuScenes tables: the types of all fields that this package reads, and chains of records.

A record is checked at first use, so a damaged record only affects its users.  Other fields are ignored.
"""
from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from mpnp_ros.errors import DatasetError

Record = dict[str, Any]
Check = Callable[[Any], Any]
"""Returns the converted value; raises ValueError with the expected type."""

LATEST = 2**31 * 10**6
"""Maximum time, microseconds; the seconds of a ROS stamp have 32 bits."""
METADATA_REMEDY = 'correct it, or download the metadata again'


def check_record(table: str, record: Record, where: str) -> Record:
    """The record with converted values.

    where: path of the table.  Raises DatasetError with the record and the invalid field.
    """
    sound = dict(record)
    for name, (check, *default) in FIELDS[table].items():
        if name not in record and not default:
            raise DatasetError(f'record {record["token"]!r} of {where} lacks {name}; {METADATA_REMEDY}')
        try:
            sound[name] = check(record.get(name, *default))
        except ValueError as error:
            value = repr(record.get(name))
            value = value if len(value) <= 80 else f'{value[:77]}...'
            raise DatasetError(f'record {record["token"]!r} of {where}: {name} is {value}, expected {error}; '
                               f'{METADATA_REMEDY}') from None
    return sound


def _whole(least: int, most: float = math.inf) -> Check:
    def check(value: Any) -> int:
        if type(value) not in (int, float) or value != value or not least <= value <= most or value % 1:
            raise ValueError(f'a whole number from {least}{f" to {most}" if most < math.inf else ""}')
        return int(value)
    return check


def _timestamp(value: Any) -> int:
    try:
        return _whole(0, LATEST)(value)
    except ValueError:
        raise ValueError(f'whole microseconds from 0 to {LATEST}') from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError('text')
    return value


def _token(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError('a token')
    return value


def _link(value: Any) -> str:
    if value is None:
        return ''
    if not isinstance(value, str):
        raise ValueError("a token, or '' where there is none")
    return value


def _tokens(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError('a list of tokens')
    return value


def _flag(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError('true or false')
    return bool(value)


def _vector(count: int, least: float = -math.inf) -> Check:
    def check(value: Any) -> list[float]:
        if not isinstance(value, list) or len(value) != count or not all(
                type(number) in (int, float) and math.isfinite(number) and number >= least
                for number in value):
            limit = f', {least:g} or more' if least > -math.inf else ''
            raise ValueError(f'{count} finite numbers{limit}')
        return value
    return check


def _rotation(value: Any) -> list[float]:
    try:
        sound = math.hypot(*_vector(4)(value)) > 1e-6
    except ValueError:
        sound = False
    if not sound:
        raise ValueError('a quaternion w, x, y, z of four finite numbers that are not all zero')
    return value


def _intrinsic(value: Any) -> list[list[float]]:
    try:
        sound = value == [] or isinstance(value, list) and len(value) == 3 and all(map(_vector(3), value))
    except ValueError:
        sound = False
    if not sound:
        raise ValueError('3 x 3 finite numbers of a camera, or [] of another sensor')
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or re.search(r'[/\\\0]', value) or value in ('.', '..'):
        raise ValueError('a name that a folder may have')
    return value


def _filename(value: Any) -> str:
    path = PurePosixPath(value) if isinstance(value, str) else None
    if not path or not path.name or path.is_absolute() or '..' in path.parts or '\0' in value:
        raise ValueError('the path of a file below the root')
    return value


def _visibility(value: Any) -> int:
    if value in (None, ''):
        return 0
    if str(value) not in ('1', '2', '3', '4'):
        raise ValueError("'1' to '4', or '' where it is not annotated")
    return int(value)


FIELDS: Mapping[str, Mapping[str, tuple[Check] | tuple[Check, Any]]] = {
    'attribute': {'name': (_text,)},
    'calibrated_sensor': {'sensor_token': (_token,), 'translation': (_vector(3),), 'rotation': (_rotation,),
                          'camera_intrinsic': (_intrinsic, [])},
    'category': {'name': (_text,)},
    'ego_pose': {'translation': (_vector(3),), 'rotation': (_rotation,)},
    'instance': {'category_token': (_token,)},
    'log': {}, 'map': {}, 'visibility': {},
    'sample': {'timestamp': (_timestamp,), 'scene_token': (_token,), 'next': (_link,)},
    'sample_annotation': {
        'sample_token': (_token,), 'instance_token': (_token,), 'attribute_tokens': (_tokens,),
        'translation': (_vector(3),), 'rotation': (_rotation,), 'size': (_vector(3, 0),), 'prev': (_link,),
        'next': (_link,), 'num_lidar_pts': (_whole(0),), 'num_radar_pts': (_whole(0), 0),
        'visibility_token': (_visibility, '')},
    'sample_data': {
        'sample_token': (_token,), 'ego_pose_token': (_token,), 'calibrated_sensor_token': (_token,),
        'timestamp': (_timestamp,), 'filename': (_filename,), 'is_key_frame': (_flag,),
        'width': (_whole(0), 0), 'height': (_whole(0), 0), 'prev': (_link, '')},
    'scene': {'name': (_name,), 'description': (_text, ''), 'first_sample_token': (_link, '')},
    'sensor': {'channel': (_token,), 'modality': (_text,)},
}
"""Check and default value by table and field."""


def link_records(records: Iterable[Record], field: str) -> dict[str, list[Record]]:
    """Set prev and next of the records that share the value of a field; return the records by value."""
    chains: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        chains[record[field]].append(record)
    for chain in chains.values():
        for earlier, later in zip(chain, chain[1:], strict=False):
            earlier['next'], later['prev'] = later['token'], earlier['token']
    return chains
