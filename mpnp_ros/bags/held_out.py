"""From which stamp on links have not seen a recording: a file of their store.

{"held_out_from_ns": {"drive": 1557539926400000000}}
"""
from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mpnp_ros.errors import LinksError
from mpnp_ros.files import write_file

RECORDING = 'recording.json'


def held_out_from(store: str | Path) -> Mapping[str, int]:
    """Return the stamp, nanoseconds, from which on no links of a store have seen a recording, by its name.

    Recordings that are not named were not trained on.  Raises LinksError for a file that cannot be read.
    """
    path = Path(store) / RECORDING
    try:
        begins = json.loads(path.read_bytes())['held_out_from_ns']
        return {str(name): int(begin) for name, begin in begins.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LinksError(f'{path} cannot be read ({error}); train the links again') from None


def note_held_out(store: str | Path, begins: Mapping[str, int]) -> None:
    """Note further recordings in a store; of two stamps of one recording the later one counts."""
    known = held_out_from(store)
    merged = {name: max(known.get(name, 0), begins.get(name, 0)) for name in known.keys() | begins.keys()}
    if merged != known:
        write_file(Path(store) / RECORDING, json.dumps({'held_out_from_ns': merged}).encode())
