"""Writes nuScenes scenes as a rosbag2 bag that ``ros2 bag play`` and :class:`BagPlayer` can play."""
from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys.store import Typestore
from tqdm import tqdm

from mpnp_ros.errors import BagError
from mpnp_ros.nuscenes.bag_messages import MessageFactory, message_types
from mpnp_ros.nuscenes.questions import scene_questions
from mpnp_ros.nuscenes.scene_recording import LATCHED_TOPICS, Entry, Questions, SceneRecording
from mpnp_ros.nuscenes.tables import NuScenes, Record

METADATA_VERSION = 8
"""Newest version of metadata.yaml that Humble can read; from 9 on QoS is in words."""

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}


def write_bag(root: NuScenes, output: str | Path, scenes: Sequence[str] | None = None,
              questions: Questions | None = scene_questions, storage: str = 'mcap',
              overwrite: bool = False, progress: bool = True, samples: Collection[str] | None = None,
              partial: bool = False) -> Path:
    """Write scenes, sweeps included, to the bag folder ``output`` and return its path.

    scenes: names or tokens, all if None; questions: returns the labelled questions of a key frame, None: no
    questions; storage: ``mcap`` or ``sqlite3``; samples: tokens of the key frames to write without sweeps,
    None: all, with sweeps; partial: skip absent sensor files.  The folder appears only when it is complete.
    Raises BagError if ``output`` exists or cannot be written, DatasetError if ``root`` lacks files.
    """
    output = Path(output)
    records = _chosen(root, scenes, samples)
    if not records:
        raise BagError(f'nothing to write to {output}: no scene is chosen, or none with the chosen samples')
    if storage not in STORAGES:
        raise BagError(f'unknown bag storage {storage!r}; use one of: {", ".join(STORAGES)}')
    _check_free(output, overwrite)
    types = message_types()
    factory = MessageFactory(types)
    recordings = (SceneRecording(root, record, factory, questions, samples, partial)
                  for record in sorted(records, key=lambda record: _start(root, record)))
    with _complete_or_absent(output) as folder, Writer(
            folder, version=METADATA_VERSION, storage_plugin=STORAGES[storage]) as writer:
        _write(writer, types, recordings, tqdm(desc=f'writing {output.name}', unit='msg', total=0,
                                               disable=not progress))
    return output


def _chosen(root: NuScenes, scenes: Sequence[str] | None, samples: Collection[str] | None) -> list[Record]:
    records = root.scenes if scenes is None else [root.scene(name) for name in scenes]
    if samples is None:
        return list(records)
    wanted = {root.get('sample', token)['scene_token'] for token in samples}
    return [record for record in records if record['token'] in wanted]


def _start(root: NuScenes, scene: Record) -> int:
    return root.get('sample', scene['first_sample_token'])['timestamp']


def _write(writer: Writer, types: Typestore, recordings: Iterable[SceneRecording], bar: tqdm) -> None:
    connections: dict[str, Connection] = {}
    with bar:
        for recording in recordings:
            entries = recording.entries()
            bar.total += len(entries)
            for entry in entries:
                if entry.topic not in connections:
                    connections[entry.topic] = _connect(writer, types, entry)
                data = types.serialize_cdr(entry.make(), entry.type_name)
                writer.write(connections[entry.topic], entry.stamp_ns, data)
                bar.update()


def _connect(writer: Writer, types: Typestore, entry: Entry) -> Connection:
    return writer.add_connection(entry.topic, entry.type_name, typestore=types,
                                 offered_qos_profiles=[_offered_qos(entry.topic in LATCHED_TOPICS)])


def _offered_qos(latched: bool) -> Qos:
    """The QoS to offer: reliable; transient local if latched."""
    unset = QosTime(0, 0)
    return Qos(
        history=QosHistory.KEEP_LAST, depth=1 if latched else 10, reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=unset, lifespan=unset, liveliness=QosLiveliness.AUTOMATIC, liveliness_lease_duration=unset,
        avoid_ros_namespace_conventions=False)


def _check_free(output: Path, overwrite: bool) -> None:
    try:
        if not output.exists():
            return
    except OSError as error:
        raise BagError(f'bag {output} cannot be written: {error.strerror}; choose another name') from None
    if not overwrite:
        raise BagError(f'{output} exists already; choose another name, or replace it with --overwrite')
    if not (output / 'metadata.yaml').is_file():
        raise BagError(f'{output} exists and is not a bag, so it is not overwritten; choose another name')


@contextmanager
def _complete_or_absent(output: Path) -> Iterator[Path]:
    """A temporary folder beside ``output``, moved there on success, otherwise removed."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f'.{output.name}.', dir=output.parent) as workshop:
            folder = Path(workshop, output.name)
            yield folder
            if output.exists():
                output.rename(Path(workshop, 'replaced'))
            folder.rename(output)
    except (OSError, WriterError, sqlite3.Error) as error:
        raise BagError(f'bag {output} cannot be written: {error}') from error
