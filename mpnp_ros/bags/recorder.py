"""Writes a bag while its messages arrive; what was written before an interruption can be read."""
from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.rosbag2.storage_mcap import McapWriter

from mpnp_ros.bags.messages import message_types
from mpnp_ros.bags.writer import LATCHED_TOPICS, METADATA_VERSION, qos_to_offer
from mpnp_ros.errors import BagError

OVERHEAD = 31
"""Bytes of an MCAP record around the data of a message."""


class BagRecorder:
    """A rosbag2 bag in MCAP that grows by serialised messages.  Thread-safe.

    A bag whose recorder was killed lacks metadata.yaml and what came after the last `flush`; the rest can be
    played.  bytes: written so far.  is_full: whether a message was refused, as there would have been more
    than `max_bytes`.
    """

    def __init__(self, folder: str | Path, max_bytes: int) -> None:
        """folder: must not exist.  Raises BagError if it does or cannot be made."""
        self.folder, self.max_bytes = Path(folder), max_bytes
        self.bytes, self.is_full = 0, False
        self._counts: Counter[str] = Counter()
        self._connections: dict[str, Connection] = {}
        self._types, self._lock, self._closed = message_types(), threading.Lock(), False
        try:
            self._writer = Writer(self.folder, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except WriterError:
            raise BagError(f'{folder} exists already; choose another name for the recording') from None
        except OSError as error:
            raise BagError(f'recording {folder} cannot be made: {error.strerror}; choose another folder'
                           ) from None

    @property
    def counts(self) -> Mapping[str, int]:
        """Return the number of messages of each topic."""
        with self._lock:
            return dict(self._counts)

    def write(self, topic: str, type_name: str, stamp_ns: int, data: bytes) -> bool:
        """Add a message, CDR; return whether there was room.  stamp_ns: log time.

        Raises BagError if the disk is full; what was written stays.
        """
        with self._lock:
            if self.is_full or self._closed:
                return False
            size = len(data) + OVERHEAD
            if self.bytes + size > self.max_bytes:
                self.is_full = True
                return False
            try:
                if topic not in self._connections:
                    self._connections[topic] = self._writer.add_connection(
                        topic, type_name, typestore=self._types,
                        offered_qos_profiles=[qos_to_offer(topic in LATCHED_TOPICS)])
                self._writer.write(self._connections[topic], stamp_ns, data)
            except OSError as error:
                raise self._broken(error) from None
            self._counts[topic] += 1
            self.bytes += size
            return True

    def flush(self) -> None:
        """Write out what has come, so that it outlives this process.  Raises BagError if the disk is full."""
        with self._lock:
            if not self._closed:
                try:
                    self._flush()
                except OSError as error:
                    raise self._broken(error) from None

    def close(self) -> None:
        """Finish the bag.  Raises BagError if the disk is full; what was written stays."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._writer.close()
            except OSError as error:
                raise self._broken(error) from None

    def _flush(self) -> None:
        storage = self._writer.storage
        assert isinstance(storage, McapWriter)  # __init__ has chosen it
        if storage.chunk.msgs:
            storage.close_chunk()
        storage.bio.flush()

    def _broken(self, error: OSError) -> BagError:
        """Close the file without an index, and return the error to raise."""
        self._closed = True
        with suppress(OSError):
            self._writer.abort()
        return BagError(f'recording {self.folder} cannot be continued: {error.strerror or error}; its first '
                        f'{sum(self._counts.values())} messages are kept, as far as they were written. Make '
                        'room, and record on into another folder')
