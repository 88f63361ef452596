"""Opens bags: folders or single files, compressed, split, with or without metadata.

The content comes from the storage files. ``metadata.yaml`` only gives their names, and QoS and type hashes
that they lack. Bags with absent or contradicting metadata can be played.
"""
from __future__ import annotations

import heapq
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from mpnp_ros.bags.mcap import MCAP_MAGIC, McapFile
from mpnp_ros.bags.sqlite import SQLITE_MAGIC, SqliteFile
from mpnp_ros.bags.topics import CDR, ZSTD_MAGIC, Offered, RecordedTopic, offered_qos
from mpnp_ros.errors import BagError
from mpnp_ros.files import GIT_LFS, mistaken

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

StorageFile = McapFile | SqliteFile
LATEST_NS = 2 ** 31 * 10 ** 9
"""First log time that does not fit into a ROS time stamp, nanoseconds."""
_SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')


@dataclass(frozen=True)
class StoredMessage:
    """A serialised message and the time at which it was recorded."""

    stamp_ns: int
    topic: str
    data: bytes


class Bag:
    """The messages of a bag by log time, over all files.

    path: folder or file. report: called once with each message about damaged or skipped content.
    topics: playable topics by name; of several types on one topic, that of most messages.
    left_out: topics that cannot be played, with reasons.
    Raises BagError with file, cause and remedy if nothing can be played.
    """

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self.path = path.parent if path.name == 'metadata.yaml' and path.is_file() else path
        self._report, self._said = report, set[str]()
        self._workshop: TemporaryDirectory[str] | None = None
        self._files: list[StorageFile] = []
        failures = []
        try:
            metadata = _read_metadata(self.path, self._say)
            for file in _storage_files(self.path, metadata, self._say):
                try:
                    self._files.append(_open_file(file, self._say, self._space))
                except BagError as error:
                    failures.append(error)
        except OSError as error:
            raise BagError(f'bag {path} cannot be opened: {error.strerror or error}') from None
        if not self._files:
            raise failures[0]
        for failure in failures:
            self._say(f'{failure}. The rest of the bag is played')
        recorded = [topic for file in self._files for topic in file.topics]
        self.topics, self.left_out = _merge(recorded, metadata)
        if not self.topics:
            raise BagError(f'bag {path} {_why_nothing(self.left_out, self._files)}')
        if not any(file.end_ns for file in self._files) and next(self.messages(self.topics), None) is None:
            raise BagError(f'bag {path} contains no readable messages; record it again')

    @property
    def end_ns(self) -> int:
        """Log time of the last message."""
        return min(max(file.end_ns for file in self._files), LATEST_NS - 1)

    def close(self) -> None:
        """Close all files; do not call it while messages are read."""
        for file in self._files:
            file.close()
        if self._workshop:
            self._workshop.cleanup()

    def messages(self, topics: Collection[str], start: int = 0) -> Iterator[StoredMessage]:
        """Yield the messages of some of :attr:`topics` from log time ``start`` on, by log time."""
        sources = [self._messages_of(number, file, topics, start) for number, file in enumerate(self._files)
                   if file.end_ns >= start]
        for *_, message in heapq.merge(*sources, key=lambda item: item[:2]):
            if message is not None:
                yield message

    def _messages_of(self, number: int, file: StorageFile, topics: Collection[str],
                     start: int) -> Iterator[tuple[int, int, StoredMessage | None]]:
        """Yield (log time, number, message) of a file; a mark without message defers reading of the file."""
        keys = {item.key: item.name for item in file.topics if item.name in topics and item.encoding == CDR
                and item.type_name == self.topics[item.name].type_name}
        if not keys:
            return
        yield max(file.start_ns, start), number, None
        for stamp, key, data in file.messages(keys, start):
            topic = keys[key]
            if not 0 <= stamp < LATEST_NS:
                self._say(f'{file.path}: messages on {topic} have log times that no ROS time can hold '
                          'and are left out; the clock of the recording machine was wrong')
                continue
            if data.startswith(ZSTD_MAGIC):  # compressed by message; CDR never begins with this magic
                try:
                    data = zstd.decompress(data)
                except Exception as error:  # the exceptions of zstd depend on the Python version
                    self._say(f'{file.path}: compressed messages on {topic} are damaged ({error}) and left '
                              'out; copy the file again')
                    continue
            yield stamp, number, StoredMessage(stamp, topic, data)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._report(text)

    def _space(self) -> Path:
        """Return the folder for decompressed files."""
        self._workshop = self._workshop or TemporaryDirectory(prefix='mpnp_bag.')
        return Path(self._workshop.name)


def _storage_files(path: Path, metadata: Mapping[str, Any], say: Callable[[str], None]) -> list[Path]:
    """Return the storage files of a bag in order.  Raises BagError for none or those of several bags."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise BagError(f'bag {path} cannot be opened: no such file or folder')
    present = sorted((file for file in path.iterdir() if file.name.endswith(_SUFFIXES)), key=_in_order)
    named = [path / re.split(r'[/\\]', str(name))[-1] for name in metadata.get('relative_file_paths') or ()]
    missing = [file for file in named if not file.exists()]
    found = [file for file in named if file.exists()]
    others = [file for file in present if file not in named]
    if named and found and missing:
        say(f'bag {path} lacks {_names(missing)}, which its metadata.yaml names; the rest is played. Copy '
            'the missing part into the folder')
        return found
    if found:
        return found
    if missing and not others:
        raise BagError(f'bag {path} lacks {_names(missing)}, which its metadata.yaml names; copy the file '
                       'into the folder')
    if missing:
        say(f'bag {path} lacks {_names(missing)}, which its metadata.yaml names; {_names(others)} is played')
    if not present:
        raise BagError(f'bag {path} {_what_folder(path, metadata)}')
    if len({re.sub(r'_\d+(?=\.)', '', file.name) for file in present}) > 1:
        raise BagError(f'bag {path}: the folder holds several bags; name one of {_names(present)}')
    if not metadata:
        say(f'bag {path} has no metadata.yaml; {_names(present)} is played without it')
    return present


def _what_folder(path: Path, metadata: Mapping[str, Any]) -> str:
    """Return the fault of a folder without storage files, with a remedy."""
    if metadata:
        version = metadata.get('version', 'unknown')
        return f'is damaged: its metadata.yaml (version {version}) names no storage file under the key ' \
               'relative_file_paths, and none is there; copy its .mcap or .db3 files there'
    inner = sorted(item for item in path.iterdir() if item.is_dir() and (
        (item / 'metadata.yaml').exists() or any(file.name.endswith(_SUFFIXES) for file in item.iterdir())))
    if inner:
        return f'is a folder that holds the bags {_names(inner)}; name one: {inner[0]}'
    if any(path.glob('v1.0-*/scene.json')):
        return 'is a nuScenes root; convert it first: `mpnp convert ROOT BAG`'
    if any(path.glob('*.bag')):
        return 'holds ROS 1 bags; convert one first: `rosbags-convert --src X.bag --dst BAG`'
    return 'cannot be opened: the folder has neither metadata.yaml nor .mcap or .db3 files; give a bag'


def _open_file(path: Path, report: Callable[[str], None], space: Callable[[], Path]) -> StorageFile:
    """Open a storage file by its magic bytes, whatever its name is."""
    with path.open('rb') as file:
        head = file.read(64)
    if head.startswith(MCAP_MAGIC):
        return McapFile(path, report)
    if head.startswith(SQLITE_MAGIC):
        return SqliteFile(path, report)
    if head.startswith(ZSTD_MAGIC):
        plain = space() / path.stem
        try:
            with zstd.open(path, 'rb') as packed, plain.open('wb') as unpacked:
                shutil.copyfileobj(packed, unpacked)
        except OSError:
            raise
        except Exception as error:
            if not plain.stat().st_size:
                raise BagError(f'bag {path} is damaged: {error}; copy it again') from None
            report(f'{path} breaks off ({error}); it is played up to that point. Copy the file again')
        return _open_file(plain, report, space)
    if head.startswith(b'#ROSBAG V'):
        raise BagError(f'bag {path} is a ROS 1 bag; convert it first:  '
                       f'`rosbags-convert --src {path} --dst BAG`')
    if head.startswith(GIT_LFS):
        raise BagError(f'bag {path} {mistaken(head)}')
    if not head:
        raise BagError(f'bag {path} is damaged: the file is empty; copy it again')
    if head.lstrip()[:1] == b'<':
        raise BagError(f'bag {path} is a web page, not a bag; download the file itself')
    raise BagError(f'bag {path} is damaged or not a bag: it begins like neither an MCAP nor a SQLite file; '
                   'copy it again, or give another file')


def _read_metadata(path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the content of metadata.yaml; empty if absent, without topics if unreadable."""
    file = path / 'metadata.yaml'
    if not file.is_file():
        return {}
    text = file.read_text('utf-8', 'replace')
    try:
        content = yaml.safe_load(text)['rosbag2_bagfile_information']
        return {**content}
    except (yaml.YAMLError, TypeError, KeyError):
        pointer = text.encode().startswith(GIT_LFS)
        say(f'{file} {mistaken(text.encode())}' if pointer else
            f'{file} is damaged and not used; `ros2 bag reindex` writes it anew')
        return {'damaged': True}


def _merge(recorded: Collection[RecordedTopic], metadata: Mapping[str, Any],
           ) -> tuple[dict[str, RecordedTopic], dict[str, str]]:
    """Return the playable topics by name, and the reasons of skipped ones."""
    listed: dict[object, tuple[Offered, str]] = {}  # QoS and type hash of topics in metadata.yaml
    for entry in metadata.get('topics_with_message_count') or ():
        topic = entry.get('topic_metadata') if isinstance(entry, dict) else None
        if isinstance(topic, dict):
            listed[topic.get('name')] = (offered_qos(topic.get('offered_qos_profiles') or ''),
                                         str(topic.get('type_description_hash') or ''))
    topics: dict[str, RecordedTopic] = {}
    left_out: dict[str, str] = {}
    by_type: dict[str, dict[str, RecordedTopic]] = {}
    for item in recorded:
        if item.encoding != CDR:
            left_out[item.name] = f'its messages are not of ROS 2 (cdr) but {item.encoding or "unknown"}'
            continue
        types = by_type.setdefault(item.name, {})
        known = types.get(item.type_name)
        types[item.type_name] = item if known is None else replace(
            known, count=known.count + item.count, offered=known.offered | item.offered,
            definition=known.definition or item.definition, digest=known.digest or item.digest,
            definition_format=known.definition_format or item.definition_format)
    for name, types in by_type.items():
        chosen = max(types.values(), key=lambda item: item.count)
        offered, digest = listed.get(name, (Offered(), ''))
        topics[name] = replace(chosen, offered=chosen.offered | offered if not chosen.offered.known
                               else chosen.offered, digest=chosen.digest or digest)
        if others := sorted(set(types) - {chosen.type_name}):
            left_out[name] = f'messages of the type {", ".join(others)} are left out: a topic has one ' \
                             f'type, here {chosen.type_name}'
        else:
            left_out.pop(name, None)
    return topics, left_out


def _why_nothing(left_out: Mapping[str, str], files: Collection[StorageFile]) -> str:
    encodings = {topic.encoding for file in files for topic in file.topics}
    profiles = {file.profile for file in files if isinstance(file, McapFile)}
    if 'ros1' in encodings | profiles:
        return 'holds ROS 1 messages; convert the .bag that it was made from: ' \
               '`rosbags-convert --src X.bag --dst BAG`'
    if left_out:
        return f'is sound, but holds no ROS 2 messages: they are {", ".join(sorted(encodings))}. Use a bag ' \
               'that ROS 2 or rosbags-convert has written; nuScenes becomes one by `mpnp convert ROOT BAG`'
    return 'holds no messages and no topics; record it again'


def _in_order(file: Path) -> tuple[str, int]:
    """Return a sort key by which ``bag_2`` comes before ``bag_10``."""
    match = re.match(r'(.*?)(?:_(\d+))?\.', file.name)
    return (match[1], int(match[2] or 0)) if match else (file.name, 0)


def _names(paths: Collection[Path]) -> str:
    names = [path.name for path in paths]
    return ', '.join(names if len(names) <= 8 else [*names[:7], f'and {len(names) - 7} more'])
