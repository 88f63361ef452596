"""Reads SQLite files of rosbag2 of all distributions, and the intact parts of damaged ones."""
from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from mpnp_ros.bags.topics import CDR, RecordedTopic, offered_qos, type_in_full
from mpnp_ros.errors import BagError

SQLITE_MAGIC = b'SQLite format 3\0'
_FAILURES = (sqlite3.Error, UnicodeDecodeError, TypeError, ValueError)
"""Exceptions of damaged files; sqlite3 may even fail to decode its error messages."""
REMEDY = 'copy the file again, or let `sqlite3 FILE .recover` make a new one'


class SqliteFile:
    """One database of rosbag2, open until :meth:`close`.

    topics, start_ns, end_ns and report: as in :class:`~mpnp_ros.bags.mcap.McapFile`.
    Raises BagError if nothing of the file can be read.
    """

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self.path = path
        self._report = report
        self._database = _open(path, report)
        try:
            self.topics = tuple(self._read_topics())
        except BagError:
            self.close()
            raise
        except _FAILURES as error:
            self.close()
            raise BagError(f'bag {path} is damaged: {error}; {REMEDY}') from None
        try:
            low, high = self._database.execute(
                'SELECT MIN(timestamp), MAX(timestamp) FROM messages').fetchone()
        except _FAILURES:  # messages() reports it and yields the readable ones
            low, high = 0, 2 ** 62
        self.start_ns, self.end_ns = low or 0, high or 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def messages(self, keys: Collection[int], start: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """Yield log time, key and bytes of messages of some topics from ``start`` on, by log time."""
        damaged = False
        for number, key, stamp in self._rows(keys, start):
            try:
                (data,) = self._database.execute('SELECT data FROM messages WHERE rowid = ?',
                                                 (number,)).fetchone()
                message = bytes(memoryview(data))
            except _FAILURES as error:
                if not damaged:
                    self._report(f'{self.path}: message {number} is damaged ({error}) and left out, as are '
                                 f'others like it; {REMEDY}')
                damaged = True
            else:
                yield stamp, key, message

    def _rows(self, keys: Collection[int], start: int) -> Iterator[tuple[int, int, int]]:
        """Yield number, key and log time of messages by log time; in file order if the index is damaged."""
        chosen = f'topic_id IN ({",".join(str(int(key)) for key in keys)}) AND timestamp >= {int(start)}'
        sound, given = True, False
        for table, order in (('messages', 'timestamp, rowid'), ('messages NOT INDEXED', 'rowid')):
            try:
                for row in self._database.execute(f'SELECT rowid, topic_id, timestamp FROM {table} '
                                                  f'WHERE {chosen} ORDER BY {order}'):
                    if all(isinstance(value, int) for value in row):
                        given = True
                        yield row
            except _FAILURES as error:
                sound, failure = False, error
            if sound or given:
                break
        if not sound:
            self._report(f'{self.path} is damaged ({failure}); played up to that point. To get the rest, '
                         f'{REMEDY}')

    def _read_topics(self) -> Iterator[RecordedTopic]:
        tables = {name for (name,) in self._database.execute('SELECT name FROM sqlite_master')}
        if not {'topics', 'messages'} <= tables:
            raise BagError(f'bag {self.path} is a database, but not one of rosbag2: it lacks the tables '
                           'topics and messages; give a bag')
        definitions = {}
        if 'message_definitions' in tables:  # from Iron on
            definitions = {type_in_full(str(name)): (str(form), str(text)) for name, form, text in
                           self._database.execute('SELECT topic_type, encoding, encoded_message_definition '
                                                  'FROM message_definitions')}
        columns = {row[1] for row in self._database.execute('PRAGMA table_info(topics)')}
        wanted = ('id', 'name', 'type', 'serialization_format', 'offered_qos_profiles',
                  'type_description_hash')
        query = ', '.join(name if name in columns else "''" for name in wanted)
        try:
            counts = dict(self._database.execute('SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id'))
        except _FAILURES:
            counts = {}
        for key, name, kind, encoding, qos, digest in self._database.execute(f'SELECT {query} FROM topics'):
            if not (isinstance(name, str) and isinstance(kind, str)):
                self._report(f'{self.path}: the record of topic {key} is damaged and left out; {REMEDY}')
                continue
            form, text = definitions.get(type_in_full(kind), ('', ''))
            yield RecordedTopic(key, name, type_in_full(kind), encoding or CDR, form, text, digest or '',
                                offered_qos(qos or ''), counts.get(key, 0))


def _open(path: Path, report: Callable[[str], None]) -> sqlite3.Connection:
    """Open a database with its journal; without it if that fails, for example on a read-only disk."""
    for option in ('mode=ro', 'immutable=1'):
        database = sqlite3.connect(f'file:{quote(str(path.absolute()))}?{option}', uri=True,
                                   check_same_thread=False)
        database.text_factory = lambda data: data.decode('utf-8', 'replace')
        try:
            database.execute('SELECT name FROM sqlite_master').fetchall()
        except sqlite3.OperationalError as error:
            failure = error
            database.close()
        except _FAILURES as error:
            database.close()
            raise BagError(f'bag {path} is damaged: {error}; {REMEDY}') from None
        else:
            left = path.with_name(f'{path.name}-wal')
            if option != 'mode=ro' and left.exists() and left.stat().st_size:
                report(f'{path}: the messages in {left.name}, which a killed recorder left, are not read; '
                       'copy both files to a folder that may be written')
            return database
    raise BagError(f'bag {path} cannot be opened: {failure}; check that it may be read')
