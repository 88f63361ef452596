"""Message types of ROS 2 Jazzy and of this package, without ROS."""
from __future__ import annotations

import os
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from mpnp_ros.errors import BagError

PACKAGE = 'mpnp_ros'


def message_types() -> Typestore:
    """A new store of the types of ROS 2 Jazzy and of ``mpnp_ros/msg``, to (de)serialise messages (CDR)."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for definition in sorted(definitions_folder().glob('*.msg')):
        store.register(get_types_from_msg(definition.read_text('utf-8'), f'{PACKAGE}/msg/{definition.stem}'))
    return store


def definitions_folder() -> Path:
    """The folder of this package's ``.msg`` files: installed, or of the checkout."""
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    candidates = [Path(prefix, 'share', PACKAGE, 'msg') for prefix in prefixes if prefix]
    candidates.append(Path(__file__).resolve().parents[2] / 'msg')
    for folder in candidates:
        if any(folder.glob('*.msg')):
            return folder
    raise BagError(f'the message definitions of {PACKAGE} are not installed: no *.msg in '
                   f'{", ".join(map(str, candidates))}; source the workspace that {PACKAGE} was built in')
