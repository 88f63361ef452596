"""A folder of scenes of the world, with their tables as a nuScenes root.

    samples/<channel>/         sensor files
    can_bus/<scene>_ms_imu.json
    scenes/<scene>.json        the scene's part of the tables; exists once the scene is complete
    recipe.json                settings of the scenes
    v1.0-world/<table>.json    all parts together, in order of the scenes' names
    maps/world.png

Beyond nuScenes v1.0 there are microphones: samples/MICROPHONES/*.wav (16 kHz, one channel for each of
:data:`~mpnp_world.sensors.rig.MICROPHONES`), and the table ``sound.json``, which lists them by sample
together with the instances whose horn or siren is audible.  They are not sample_data, because nuScenes has no
such modality.
"""
from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from PIL import Image

from mpnp_ros.errors import DatasetError
from mpnp_ros.files import new_folder, write_file
from mpnp_ros.nuscenes.tables import TABLES
from mpnp_world.dataset.schema import ADDITIONS, MAP_FILE, VERSION, Record, shared_tables
from mpnp_world.scene.identity import SceneIdentity, token

RECIPE_FILE = 'recipe.json'

Tables = Mapping[str, list[Record]]


def prepare(root: Path, recipe: Mapping[str, Any]) -> None:
    """Create the folder and record the recipe; all scenes of a folder have the same recipe.

    Raises DatasetError if it has other contents or scenes of another recipe.
    """
    note = root / RECIPE_FILE
    recipe = json.loads(json.dumps(recipe))
    if note.is_file():
        if different := _differences(_read(note), recipe):
            raise DatasetError(f'the scenes in {root} were made with {different}; use the same options or '
                               'another folder')
        return
    if root.exists() and any(root.iterdir()):
        raise DatasetError(f'{root} exists and contains something else; use a new folder or one that '
                           '`mpnp world generate` has begun')
    root.mkdir(parents=True, exist_ok=True)
    write_file(note, json.dumps(recipe, indent=1).encode())


def part_file(root: Path, identity: SceneIdentity) -> Path:
    """The file of the tables of a scene; it exists once the scene is complete."""
    return root / 'scenes' / f'{identity.name}.json'


def add_part(root: Path, identity: SceneIdentity, tables: Tables) -> None:
    """Write the tables of a scene atomically."""
    path = part_file(root, identity)
    path.parent.mkdir(exist_ok=True)
    write_file(path, json.dumps(tables, separators=(',', ':')).encode())


def merge(root: Path) -> Path:
    """Write the tables of all complete scenes; returns their folder."""
    (root / MAP_FILE).parent.mkdir(exist_ok=True)
    Image.new('L', (64, 64), 255).save(root / MAP_FILE)
    with new_folder(root / VERSION) as folder, ExitStack() as files:
        folder.chmod(0o755)
        tables = {name: files.enter_context(_Table(folder / f'{name}.json'))
                  for name in (*TABLES, *ADDITIONS)}
        for name, records in shared_tables().items():
            tables[name].extend(records)
        logs = []
        for path in sorted((root / 'scenes').glob('*.json')):
            part = _read(path)
            for name, records in part.items():
                tables[name].extend(records)
            logs += [record['token'] for record in part['log']]
        tables['map'].extend([{'token': token('map'), 'category': 'semantic_prior', 'filename': MAP_FILE,
                               'log_tokens': logs}])
    return root / VERSION


class _Table:
    """A JSON list that is written record by record, one per line."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open('w', encoding='utf-8')
        self._between = '['

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.write('\n]\n' if self._between == ',' else '[]\n')
        self._stream.close()

    def extend(self, records: list[Record]) -> None:
        for record in records:
            self._stream.write(f'{self._between}\n{json.dumps(record, separators=(",", ":"))}')
            self._between = ','


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} cannot be read ({error}); remove it and generate '
                           'again') from None


def _differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ', '.join(f'{name} {first.get(name)} (now {other.get(name)})'
                     for name in {**first, **other} if first.get(name) != other.get(name))
