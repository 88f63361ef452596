"""Reads MCAP files, also unfinished files, files without index, damaged chunks and unknown topics.

The reader of rosbags rejects such files. This reader walks the records from the start, independently of the
index at the end, and decompresses chunks on demand.
"""
from __future__ import annotations

import heapq
import struct
import sys
from binascii import crc32
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import lz4.frame

from mpnp_ros.bags.topics import RecordedTopic, offered_qos, type_in_full
from mpnp_ros.errors import BagError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MCAP_MAGIC = b'\x89MCAP0\r\n'
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 1, 2, 3, 4, 5, 6
CHUNK_INDEX, STATISTICS = 8, 11
_PREFIX = struct.Struct('<BQ')
_MESSAGE = struct.Struct('<HIQQ')
_CHUNK = struct.Struct('<QQQI')
_FOOTER_SIZE = 9 + 20 + len(MCAP_MAGIC)
_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    '': bytes, 'lz4': lz4.frame.decompress, 'zstd': zstd.decompress}


@dataclass(frozen=True)
class _Chunk:
    """A chunk.  offset: of its record, bytes; start, end: log times of its messages."""

    offset: int
    start: int
    end: int


class McapFile:
    """One MCAP file, open until :meth:`close`.

    topics: one for each channel. start_ns, end_ns: first and last log time. report: called with a message
    about each damage.  Raises BagError if nothing of the file can be read.
    """

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self.path = path
        self._report = report
        self._file: BinaryIO = path.open('rb')
        self._size = path.stat().st_size
        self.profile = ''
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._channels: dict[int, RecordedTopic] = {}
        self._chunks: dict[int, _Chunk] = {}
        self._loose: list[tuple[int, int, int, int]] = []
        self._held: dict[int, set[int]] = {}
        self._statistics: tuple[int, dict[int, int]] | None = None
        try:
            self._walk_file()
            if self._statistics is None or len(self._channels) < self._statistics[0]:
                self._scan_chunks()
        except BaseException:
            self.close()
            raise
        counts: Mapping[int, int] = self._statistics[1] if self._statistics else {}
        self.topics = tuple(replace(topic, count=counts.get(key, 0)) for key, topic in self._channels.items())
        chunks = [chunk for chunk in self._chunks.values() if chunk.start or chunk.end]
        times = [stamp for stamp, *_ in self._loose]
        self._loose.sort(key=lambda item: (item[0], item[2]))
        self.start_ns = min([chunk.start for chunk in chunks] + times, default=0)
        self.end_ns = max([chunk.end for chunk in chunks] + times, default=0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self, keys: Collection[int], start: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """Yield log time, key and bytes of messages of some topics from ``start`` on, by log time."""
        sources = [self._chunk_messages(chunk, keys, start) for chunk in self._chunks.values()
                   if chunk.end >= start and not self._held.get(chunk.offset, set(keys)).isdisjoint(keys)]
        sources.append((stamp, offset, key, self._read(offset, size))  # messages outside of chunks
                       for stamp, key, offset, size in self._loose if key in keys and stamp >= start)
        for stamp, _, key, data in heapq.merge(*sources, key=lambda item: item[:2]):
            if data is not None:
                yield stamp, key, data

    def _walk_file(self) -> None:
        """Read the top-level records up to the footer or the first damage."""
        self._file.seek(len(MCAP_MAGIC))
        offset = len(MCAP_MAGIC)
        while True:
            prefix = self._read(offset, _PREFIX.size)
            if len(prefix) < _PREFIX.size:
                return self._unfinished(offset)
            kind, length = _PREFIX.unpack(prefix)
            if kind == FOOTER:
                return None
            following = offset + _PREFIX.size + length
            if kind == 0 or following > self._size:
                return self._unfinished(offset)
            self._take(kind, offset, length)
            offset = following

    def _unfinished(self, offset: int) -> None:
        """Report that the records end at ``offset``; use the index at the end if it is valid."""
        if self._resume_from_index(offset):
            self._report(f'{self.path} is damaged at byte {offset}; the messages in the damaged part are '
                         f'left out. Copy the file again, or try `mcap recover {self.path} -o NEW.mcap`')
        elif not (self._chunks or self._loose):
            raise BagError(f'bag {self.path} is damaged or was never finished: it breaks off at byte '
                           f'{offset}, before the first message; copy it again, or record it again')
        else:
            self._report(f'{self.path} is unfinished: it breaks off at byte {offset}, where the recorder was '
                         'ended or the copy broke off; it is played up to that point. '
                         f'`mcap recover {self.path} -o NEW.mcap` makes a whole file of it')

    def _resume_from_index(self, offset: int) -> bool:
        """Read the index behind a damage; return whether there is one."""
        end = self._read(self._size - _FOOTER_SIZE, _FOOTER_SIZE)
        if self._size < _FOOTER_SIZE or end[0] != FOOTER or not end.endswith(MCAP_MAGIC):
            return False
        (position,) = struct.unpack_from('<Q', end, 9)
        if not offset < position < self._size:
            return False
        while position < self._size - _FOOTER_SIZE:
            kind, length = _PREFIX.unpack(self._read(position, _PREFIX.size))
            if kind == CHUNK_INDEX:
                start, finish, chunk = struct.unpack('<QQQ', self._read(position + _PREFIX.size, 24))
                if chunk > offset:
                    self._chunks[chunk] = _Chunk(chunk, start, finish)
            self._take(kind, position, length)
            position += _PREFIX.size + length
        return True

    def _take(self, kind: int, offset: int, length: int) -> None:
        """Store the content of a top-level record; report it if it cannot be read."""
        body = offset + _PREFIX.size
        try:
            if kind == HEADER:
                self.profile = _text(self._read(body, length), 0)[0]
            elif kind in (SCHEMA, CHANNEL):
                self._learn(kind, self._read(body, length))
            elif kind == MESSAGE:
                key, _, stamp, _ = _MESSAGE.unpack(self._read(body, _MESSAGE.size))
                self._loose.append((stamp, key, body + _MESSAGE.size, length - _MESSAGE.size))
            elif kind == CHUNK:
                start, end, _, _ = _CHUNK.unpack(self._read(body, _CHUNK.size))
                self._chunks[offset] = _Chunk(offset, start, end)
            elif kind == CHUNK_INDEX:
                data = self._read(body, length)
                size = struct.unpack_from('<I', data, 32)[0]
                if held := {key for key, _ in struct.iter_unpack('<HQ', data[36:36 + size])}:
                    self._held[struct.unpack_from('<Q', data, 16)[0]] = held
            elif kind == STATISTICS:
                data = self._read(body, length)
                channels = struct.unpack_from('<QHI', data)[2]
                pairs = struct.iter_unpack('<HQ', data[46:46 + struct.unpack_from('<I', data, 42)[0]])
                self._statistics = (channels, dict(pairs))
        except (struct.error, ValueError) as error:
            self._report(f'{self.path}: the record at byte {offset} is damaged ({error}) and left out; '
                         'copy the file again')

    def _learn(self, kind: int, data: bytes) -> None:
        """Store a schema or a channel."""
        key = struct.unpack_from('<H', data)[0]
        if kind == SCHEMA:
            name, position = _text(data, 2)
            encoding, position = _text(data, position)
            size = struct.unpack_from('<I', data, position)[0]
            text = data[position + 4:position + 4 + size].decode('utf-8', 'replace')  # protobuf's is binary
            self._schemas[key] = (name, encoding, text)
            return
        schema = struct.unpack_from('<H', data, 2)[0]
        topic, position = _text(data, 4)
        encoding, position = _text(data, position)
        end = position + 4 + struct.unpack_from('<I', data, position)[0]
        position, extra = position + 4, {}
        while position < min(end, len(data)):
            name, position = _text(data, position)
            extra[name], position = _text(data, position)
        type_name, form, text = self._schemas.get(schema, ('', '', ''))
        form = 'ros2idl' if form == 'omgidl' else form
        self._channels[key] = RecordedTopic(
            key, topic, type_in_full(type_name), encoding, form, text, extra.get('topic_type_hash', ''),
            offered_qos(extra.get('offered_qos_profiles', '')))

    def _scan_chunks(self) -> None:
        """Find the channels and count the messages of a file without summary."""
        counts = Counter(key for _, key, *_ in self._loose)
        for offset, chunk in list(self._chunks.items()):
            stamps = []
            for kind, body in self._records(chunk):
                try:
                    if kind in (SCHEMA, CHANNEL):
                        self._learn(kind, body)
                    elif kind == MESSAGE:
                        key, _, stamp, _ = _MESSAGE.unpack_from(body)
                        counts[key] += 1
                        stamps.append(stamp)
                except (struct.error, ValueError) as error:
                    self._report(f'{self.path}: a record in the chunk at byte {offset} is damaged ({error}) '
                                 'and left out; copy the file again')
            self._chunks[offset] = replace(chunk, start=min(stamps, default=0), end=max(stamps, default=0))
        self._statistics = (len(self._channels), counts)

    def _chunk_messages(self, chunk: _Chunk, keys: Collection[int],
                        start: int) -> Iterator[tuple[int, int, int, bytes | None]]:
        """Yield (log time, place, key, bytes) in order.

        A mark without bytes leads, so that merging does not decompress the chunk before its time has come.
        """
        yield max(chunk.start, start), -1, 0, None
        found = []
        for place, (kind, body) in enumerate(self._records(chunk)):
            if kind == MESSAGE and len(body) >= _MESSAGE.size:
                key, _, stamp, _ = _MESSAGE.unpack_from(body)
                if key in keys and stamp >= start:
                    found.append((stamp, chunk.offset + place, key, body[_MESSAGE.size:]))
        found.sort(key=lambda item: item[:2])
        yield from found

    def _records(self, chunk: _Chunk) -> Iterator[tuple[int, bytes]]:
        """Yield the records of a chunk up to the first damage, which is reported."""
        try:
            data = self._unpack(chunk)
            position = 0
            while position < len(data):
                kind, length = _PREFIX.unpack_from(data, position)
                position += _PREFIX.size
                if position + length > len(data):
                    raise ValueError('a record in it is cut off')
                yield kind, data[position:position + length]
                position += length
        except GeneratorExit:
            raise
        except Exception as error:  # decompressors raise various exceptions
            self._report(f'{self.path}: the chunk at byte {chunk.offset} is damaged ({error}) and left out; '
                         f'copy the file again, or try `mcap recover {self.path} -o NEW.mcap`')

    def _unpack(self, chunk: _Chunk) -> bytes:
        """Return the decompressed records of a chunk.  Raises ValueError, or what the decompressor raises."""
        kind, length = _PREFIX.unpack(self._read(chunk.offset, _PREFIX.size))
        if kind != CHUNK:
            raise ValueError('no chunk begins there')
        record = self._read(chunk.offset + _PREFIX.size, length)
        _, _, size, crc = _CHUNK.unpack_from(record)
        compression, position = _text(record, _CHUNK.size)
        packed = record[position + 8:position + 8 + struct.unpack_from('<Q', record, position)[0]]
        if compression not in _DECOMPRESS:
            raise ValueError(f'unknown compression {compression!r}')
        data = _DECOMPRESS[compression](packed)
        if len(data) != size or (crc and crc32(data) != crc):
            raise ValueError('its checksum is wrong')
        return data

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(max(0, offset))
        return self._file.read(min(size, self._size))


def _text(data: bytes, position: int) -> tuple[str, int]:
    """Return a length-prefixed string and the position after it."""
    end = position + 4 + struct.unpack_from('<I', data, position)[0]
    if end > len(data):
        raise ValueError('a text in it is cut off')
    return data[position + 4:end].decode('utf-8', 'replace'), end
