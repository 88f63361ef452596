"""A folder of scenes of the world: which are complete, and their tables as a nuScenes root.

    samples/<channel>/         sensor files
    can_bus/<scene>_ms_imu.json
    scenes/<scene>.json        the scene's part of the tables; it is there when the scene is complete
    v1.0-world/<table>.json    all parts together, in order of the scenes' names
    maps/world.png

Beyond nuScenes v1.0 there are microphones: samples/MICROPHONES/*.wav (16 kHz, one channel for each of
:data:`~mpnp_ros.world.rig.MICROPHONES`), and the table ``sound.json``, which names them by sample together
with the instances whose horn or siren is heard.  They are no sample_data, as nuScenes has no such modality.
"""
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from PIL import Image

from mpnp_ros.cache import new_folder, write_file
from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.tables import TABLES
from mpnp_ros.world.identity import SceneIdentity, token
from mpnp_ros.world.schema import ADDITIONS, MAP_FILE, VERSION, Record, shared_tables

Tables = Mapping[str, list[Record]]


class WorldRoot:
    """One folder.

    settings: what all its scenes are made with; scenes made with others are refused by
    :meth:`is_complete` with DatasetError, as one root holds one kind.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._settings = json.loads(json.dumps(settings))

    def prepare(self) -> None:
        """Make the folder; raises DatasetError where it holds something else."""
        if self.path.exists() and any(self.path.iterdir()) and not (self.path / 'scenes').is_dir():
            raise DatasetError(f'{self.path} exists and holds something else; give a new folder or one that '
                               '`mpnp world generate` has begun')
        (self.path / 'scenes').mkdir(parents=True, exist_ok=True)

    def is_complete(self, identity: SceneIdentity) -> bool:
        """Whether the scene has been written to its end."""
        part = self._part(identity)
        if not part.is_file():
            return False
        made_with = self._read(part)['settings']
        if made_with != self._settings:
            raise DatasetError(f'{part} was made with {_differences(made_with, self._settings)}; '
                               'use the same options or another folder')
        return True

    def add(self, identity: SceneIdentity, tables: Tables) -> None:
        """Write the scene's part of the tables, which makes it complete."""
        part = {'settings': self._settings, 'tables': tables}
        write_file(self._part(identity), json.dumps(part, separators=(',', ':')).encode())

    def merge(self) -> Path:
        """Write the tables of all complete scenes and return their folder."""
        (self.path / MAP_FILE).parent.mkdir(exist_ok=True)
        Image.new('L', (64, 64), 255).save(self.path / MAP_FILE)
        with new_folder(self.path / VERSION) as folder, ExitStack() as files:
            folder.chmod(0o755)
            tables = {name: _Table(files.enter_context((folder / f'{name}.json').open('w', encoding='utf-8')))
                      for name in (*TABLES, *ADDITIONS)}
            for name, records in shared_tables().items():
                tables[name].extend(records)
            logs = []
            for part in self._parts():
                for name, records in part.items():
                    tables[name].extend(records)
                logs += [record['token'] for record in part['log']]
            tables['map'].extend([{'token': token('map'), 'category': 'semantic_prior',
                                   'filename': MAP_FILE, 'log_tokens': logs}])
            for table in tables.values():
                table.close()
        return self.path / VERSION

    def _part(self, identity: SceneIdentity) -> Path:
        return self.path / 'scenes' / f'{identity.name}.json'

    def _parts(self) -> Iterator[Tables]:
        for path in sorted((self.path / 'scenes').glob('*.json')):
            yield self._read(path)['tables']

    def _read(self, part: Path) -> Mapping[str, Any]:
        try:
            return json.loads(part.read_bytes())
        except (OSError, ValueError) as error:
            raise DatasetError(f'{part} cannot be read ({error}); remove it, and the scene is made '
                               'again') from None


class _Table:
    """A JSON list that grows in a file, one record a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._between = '['

    def extend(self, records: list[Record]) -> None:
        for record in records:
            self._stream.write(f'{self._between}\n{json.dumps(record, separators=(",", ":"))}')
            self._between = ','

    def close(self) -> None:
        self._stream.write('\n]\n' if self._between == ',' else '[]\n')


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ', '.join(f'{name} {one.get(name)} (now {other.get(name)})'
                     for name in {**one, **other} if one.get(name) != other.get(name))
