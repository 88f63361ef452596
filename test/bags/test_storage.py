"""Bags as they come: every storage, every distribution, unfinished, damaged, incomplete, foreign."""
from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import lz4.frame
import pytest
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from mpnp_ros.bags.mcap import zstd
from mpnp_ros.bags.messages import message_types
from mpnp_ros.bags.storage import Bag
from mpnp_ros.bags.topics import Offered, offered_qos, type_in_full
from mpnp_ros.errors import BagError

TYPES = message_types()
TEXT = 'std_msgs/msg/String'
MAGIC = b'\x89MCAP0\r\n'
SCHEMA = 'string data'
LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n'


def cdr(text: str) -> bytes:
    return bytes(TYPES.serialize_cdr(TYPES.types[TEXT](text), TEXT))


def read(path: Path, said: list[str] | None = None, start: int = 0) -> list[str]:
    """The texts of a bag in the order of playing."""
    bag = Bag(path, (said if said is not None else []).append)
    texts = [TYPES.deserialize_cdr(item.data, TEXT).data for item in bag.messages(bag.topics, start)]
    bag.close()
    return texts


def record(kind: int, *parts: bytes) -> bytes:
    body = b''.join(parts)
    return struct.pack('<BQ', kind, len(body)) + body


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack('<I', len(data)) + data


def schema(key: int = 1, name: str = TEXT, encoding: str = 'ros2msg', definition: str = SCHEMA) -> bytes:
    return record(3, struct.pack('<H', key), text(name), text(encoding), text(definition))


def channel(key: int = 1, topic: str = '/text', encoding: str = 'cdr', schema_key: int = 1,
            metadata: Mapping[str, str] | None = None) -> bytes:
    pairs = b''.join(text(name) + text(value) for name, value in (metadata or {}).items())
    return record(4, struct.pack('<HH', key, schema_key), text(topic), text(encoding), text(pairs))


def message(stamp: int, content: str | bytes, key: int = 1) -> bytes:
    data = cdr(content) if isinstance(content, str) else content
    return record(5, struct.pack('<HIQQ', key, 0, stamp, stamp), data)


def chunk(stamps: Iterable[int], *records: bytes, compression: str = '',
          pack: Callable[[bytes], bytes] = bytes) -> bytes:
    data = b''.join(records)
    return record(6, struct.pack('<QQQI', min(stamps), max(stamps), len(data), 0), text(compression),
                  struct.pack('<Q', len(pack(data))), pack(data))


def mcap(*records: bytes, profile: str = 'ros2', finished: bool = True) -> bytes:
    """A file without summary, as small writers make it, or broken off."""
    end = record(15, bytes(4)) + record(2, bytes(20)) + MAGIC if finished else b''
    return MAGIC + record(1, text(profile), text('test')) + b''.join(records) + end


def write(path: Path, storage: StoragePlugin = StoragePlugin.MCAP, count: int = 4, size: int = 0,
          mode: CompressionMode | None = None) -> Path:
    """A bag of the texts 0, 1, ... (each filled up to ``size``) as rosbags writes it."""
    writer = Writer(path, version=8, storage_plugin=storage)
    if mode:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection('/text', TEXT, typestore=TYPES)
        for number in range(count):
            writer.write(connection, number, cdr(f'{number}'.ljust(size)))
    return path


@pytest.mark.parametrize('share', [.5, .8, .999])
def test_an_unfinished_mcap_is_played_as_far_as_it_goes(tmp_path: Path, share: float) -> None:
    data = (write(tmp_path / 'bag', count=40, size=200_000) / 'bag.mcap').read_bytes()
    (tmp_path / 'cut.mcap').write_bytes(data[:int(share * len(data))])
    said: list[str] = []
    texts = [item.strip() for item in read(tmp_path / 'cut.mcap', said)]
    assert texts == [str(number) for number in range(len(texts))]
    assert 40 >= len(texts) >= 40 * share - 7
    assert len(said) == 1 and 'cut.mcap is unfinished' in said[0]
    assert 'mcap recover' in said[0] and 'reindex' not in said[0]


def test_a_damaged_chunk_is_left_out_and_named(tmp_path: Path) -> None:
    file = write(tmp_path / 'bag', count=40, size=200_000, mode=CompressionMode.STORAGE) / 'bag.mcap'
    data = bytearray(file.read_bytes())
    second = _chunk_offsets(data)[1]
    data[second + 70:second + 90] = bytes(20)
    file.write_bytes(data)
    said: list[str] = []
    texts = [int(item) for item in read(tmp_path / 'bag', said)]
    assert 20 < len(texts) < 40 and texts == sorted(texts) and {0, 39} <= set(texts)
    assert len(said) == 1 and f'the chunk at byte {second} is damaged' in said[0]
    assert str(file) in said[0] and 'mcap recover' in said[0]


def _chunk_offsets(data: bytes) -> list[int]:
    offset, found = len(MAGIC), []
    while data[offset] != 2:
        kind, length = struct.unpack_from('<BQ', data, offset)
        found += [offset] if kind == 6 else []
        offset += 9 + length
    return found


def test_after_damage_between_chunks_the_index_leads_on(tmp_path: Path) -> None:
    file = write(tmp_path / 'bag', count=40, size=200_000) / 'bag.mcap'
    data = bytearray(file.read_bytes())
    second = _chunk_offsets(data)[1]
    data[second:second + 9] = bytes(9)
    file.write_bytes(data)
    said: list[str] = []
    texts = [int(item) for item in read(tmp_path / 'bag', said)]
    assert 20 < len(texts) < 40 and {0, 39} <= set(texts)
    assert len(said) == 1 and f'damaged at byte {second}' in said[0]


@pytest.mark.parametrize(('compression', 'pack'), [
    ('', bytes), ('lz4', lz4.frame.compress), ('zstd', zstd.compress)])
def test_an_mcap_without_summary_and_in_any_order_is_played(
        tmp_path: Path, compression: str, pack: Callable[[bytes], bytes]) -> None:
    later = chunk([5, 7], schema(), channel(), message(7, 'd'), message(5, 'c'), compression=compression,
                  pack=pack)
    earlier = chunk([2], message(2, 'a'), compression=compression, pack=pack)
    (tmp_path / 'x.mcap').write_bytes(mcap(later, earlier, message(3, 'b')))
    said: list[str] = []
    assert read(tmp_path / 'x.mcap', said) == ['a', 'b', 'c', 'd']
    assert read(tmp_path / 'x.mcap', start=3) == ['b', 'c', 'd']
    assert said == []


def test_foreign_topics_in_an_mcap_are_left_out(tmp_path: Path) -> None:
    """Of an encoding, or with a schema, that is not one of ROS 2."""
    (tmp_path / 'x.mcap').write_bytes(mcap(
        schema(), channel(), schema(2, 'Pose', 'protobuf', '\x01'), channel(2, '/pose', 'protobuf', 2),
        schema(3, 'Log', 'jsonschema', '{}'), channel(3, '/log', 'json', 3), channel(4, '/raw', schema_key=0),
        message(1, 'a'), message(2, b'\x08', 2), message(3, b'{}', 3), profile=''))
    bag = Bag(tmp_path / 'x.mcap', lambda said: None)
    assert set(bag.topics) == {'/text', '/raw'}
    assert bag.left_out == {'/pose': 'its messages are not of ROS 2 (cdr) but protobuf',
                            '/log': 'its messages are not of ROS 2 (cdr) but json'}
    assert read(tmp_path / 'x.mcap') == ['a']


@pytest.mark.parametrize(('name', 'content', 'words'), [
    ('a.mcap', mcap(schema(1, 'P', 'protobuf'), channel(encoding='protobuf'), message(1, b'x'), profile=''),
     'is sound, but holds no ROS 2 messages: they are protobuf.*mpnp convert'),
    ('a.mcap', mcap(schema(1, 'std_msgs/String', 'ros1msg'), channel(encoding='ros1'), message(1, b'x'),
                    profile='ros1'), 'holds ROS 1 messages.*rosbags-convert --src X.bag --dst BAG'),
    ('a.bag', b'#ROSBAG V2.0\n', 'is a ROS 1 bag; convert.*`rosbags-convert --src .*a.bag --dst BAG'),
    ('a.mcap', LFS.encode(), 'is a Git LFS pointer.*git lfs pull'),
    ('a.db3', LFS.encode(), 'is a Git LFS pointer.*git lfs pull'),
    ('a.mcap', b'', 'the file is empty'),
    ('a.db3', b'<!DOCTYPE html><html>', 'is a web page'),
    ('a.mcap', b'\0' * 100, 'damaged or not a bag'),
    ('a.mcap', MAGIC, 'breaks off at byte 8'),
    ('a.mcap', mcap(schema(), channel()), 'contains no readable messages'),
    ('a.mcap', mcap(), 'holds no messages and no topics'),
])
def test_what_cannot_be_played_is_called_what_it_is(tmp_path: Path, name: str, content: bytes,
                                                    words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BagError, match=f'(?s){name}.*{words}') as raised:
        read(tmp_path / name)
    assert 'reindex' not in str(raised.value)


def test_folders_that_are_no_bags_are_called_what_they_are(tmp_path: Path) -> None:
    (tmp_path / 'many').mkdir()
    for name in ('scene-0061', 'scene-0103'):
        write(tmp_path / 'many' / name)
    with pytest.raises(BagError, match='holds the bags scene-0061, scene-0103; name one: .*many/scene-0061'):
        read(tmp_path / 'many')
    (tmp_path / 'root' / 'v1.0-mini').mkdir(parents=True)
    (tmp_path / 'root' / 'v1.0-mini' / 'scene.json').touch()
    with pytest.raises(BagError, match='is a nuScenes root; convert it first: `mpnp convert'):
        read(tmp_path / 'root')
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'x.bag').touch()
    with pytest.raises(BagError, match='holds ROS 1 bags.*rosbags-convert'):
        read(tmp_path / 'old')
    (tmp_path / 'flat').mkdir()
    for name in ('morning', 'evening'):
        shutil.copy(tmp_path / 'many' / 'scene-0061' / 'scene-0061.mcap', tmp_path / 'flat' / f'{name}.mcap')
    with pytest.raises(BagError, match='holds several bags; name one of evening.mcap, morning.mcap'):
        read(tmp_path / 'flat')


def test_metadata_is_not_needed(tmp_path: Path) -> None:
    """Nor does it decide: absent, damaged, with other names, times, types and QoS than the storage has."""
    bag = write(tmp_path / 'bag')
    said: list[str] = []
    metadata = yaml.safe_load((bag / 'metadata.yaml').read_text())
    information = metadata['rosbag2_bagfile_information']
    information.update(version=99, starting_time={'nanoseconds_since_epoch': 10 ** 18}, message_count=0)
    information['topics_with_message_count'][0]['topic_metadata'].update(
        offered_qos_profiles='- {durability: 1}', type='std_msgs/msg/Empty')
    (bag / 'metadata.yaml').write_text(yaml.safe_dump(metadata))
    assert read(bag, said) == read(bag / 'metadata.yaml', said) == ['0', '1', '2', '3']
    assert said == []
    assert Bag(bag, said.append).topics['/text'].offered.latched
    (bag / 'bag.mcap').rename(bag / 'renamed.mcap')
    assert len(read(bag, said)) == 4 and 'lacks bag.mcap' in said[-1] and 'renamed.mcap is played' in said[-1]
    (bag / 'metadata.yaml').write_text('{')
    assert len(read(bag, said)) == 4 and 'metadata.yaml is damaged and not used' in said[-1]
    (bag / 'metadata.yaml').unlink()
    assert len(read(bag, said)) == 4 and 'has no metadata.yaml' in said[-1]


def split(path: Path, parts: int) -> Path:
    """A bag of some parts of four texts each, named in the order 0, 1, ..., 10."""
    path.mkdir()
    names = [f'{path.name}_{number}.mcap' for number in range(parts)]
    for number, name in enumerate(names):
        (path / name).write_bytes(mcap(schema(), channel(), *(
            message(10 * number + step, f'{number}.{step}') for step in range(2))))
    (path / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': {
        'version': 5, 'storage_identifier': 'mcap', 'relative_file_paths': [f'{path.name}/{item}'
                                                                            for item in names]}}))
    return path


def test_a_split_bag_is_played_without_what_is_missing(tmp_path: Path) -> None:
    bag = split(tmp_path / 'bag', 11)
    whole = [f'{number}.{step}' for number in range(11) for step in range(2)]
    said: list[str] = []
    assert read(bag, said) == whole and said == []
    (bag / 'bag_1.mcap').unlink()
    (bag / 'bag_2.mcap').write_text(LFS)
    assert read(bag, said) == [item for item in whole if item.split('.')[0] not in '12']
    assert len(said) == 2 and 'lacks bag_1.mcap' in said[0] and 'bag_2.mcap is a Git LFS pointer' in said[1]
    for file in bag.glob('*.mcap'):
        file.unlink()
    with pytest.raises(BagError, match=r'lacks bag_0.mcap, .*and 4 more.*copy the file into the folder'):
        read(bag)


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_bags_with_and_without_metadata(tmp_path: Path, storage: StoragePlugin,
                                                   mode: CompressionMode) -> None:
    bag = write(tmp_path / 'bag', storage, mode=mode)
    assert read(bag) == ['0', '1', '2', '3']
    (bag / 'metadata.yaml').unlink()
    assert read(bag) == ['0', '1', '2', '3']
    assert read(next(bag.iterdir())) == ['0', '1', '2', '3']


def database(path: Path, topics: str, values: str, extra: str = '') -> Path:
    """A database of rosbag2 with one topic and the texts a, b."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            f'CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, {topics});'
            'CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT '
            f'NULL, data BLOB NOT NULL); INSERT INTO topics VALUES(1, "/text", {values}); {extra}')
        connection.executemany('INSERT INTO messages(topic_id, timestamp, data) VALUES(1, ?, ?)',
                               [(9, cdr('b')), (5, cdr('a'))])
    connection.close()
    return path


BASE = 'type TEXT NOT NULL, serialization_format TEXT NOT NULL'
QOS = f'{BASE}, offered_qos_profiles TEXT NOT NULL'
LATCHED_QOS = '- history: 3\n  depth: 0\n  reliability: 1\n  durability: 1'


@pytest.mark.parametrize(('topics', 'values', 'extra', 'latched'), [
    (BASE, '"std_msgs/String", "cdr"', '', False),
    (QOS, f'"std_msgs/msg/String", "cdr", "{LATCHED_QOS}"', '', True),
    (f'{QOS}, type_description_hash TEXT NOT NULL', f'"std_msgs/msg/String", "cdr", "{LATCHED_QOS}", ""',
     'CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);'
     'INSERT INTO schema VALUES(4, "iron");'
     'CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT, encoding TEXT,'
     'encoded_message_definition TEXT, type_description_hash TEXT);'
     'INSERT INTO message_definitions VALUES(1, "std_msgs/msg/String", "unknown", "", "");', True),
    (f'{QOS}, type_description_hash TEXT', '"std_msgs/msg/String", "cdr", "{", "nonsense"', '', False),
], ids=['crystal', 'foxy', 'iron with an unknown definition', 'odd'])
def test_databases_of_every_distribution(tmp_path: Path, topics: str, values: str, extra: str,
                                         latched: bool) -> None:
    path = database(tmp_path / 'x.db3', topics, values, extra)
    assert read(path) == ['a', 'b']
    topic = Bag(path, lambda said: None).topics['/text']
    assert (topic.type_name, topic.offered.latched, topic.count) == (TEXT, latched, 2)


def test_what_a_killed_recorder_left_beside_the_database_is_played(tmp_path: Path) -> None:
    path = database(tmp_path / 'x.db3', BASE, '"std_msgs/msg/String", "cdr"')
    writing = sqlite3.connect(path)
    writing.execute('PRAGMA journal_mode=WAL')
    writing.execute('INSERT INTO messages(topic_id, timestamp, data) VALUES(1, 10, ?)', (cdr('c'),))
    writing.commit()
    for file in tmp_path.glob('x.db3*'):
        shutil.copy(file, tmp_path / file.name.replace('x', 'killed'))
    writing.close()
    assert (tmp_path / 'killed.db3-wal').stat().st_size
    assert read(tmp_path / 'killed.db3') == ['a', 'b', 'c']


def test_a_damaged_database_gives_what_can_be_read(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', StoragePlugin.SQLITE3, count=50, size=20_000)
    file = bag / 'bag.db3'
    data = file.read_bytes()
    file.write_bytes(data[:len(data) // 2])
    said: list[str] = []
    try:
        texts = [int(item) for item in read(bag, said)]
    except BagError as error:
        said.append(str(error))
        texts = []
    assert texts == list(range(len(texts)))
    assert str(file) in ''.join(said) and 'sqlite3 FILE .recover' in ''.join(said)
    file.write_bytes(data)
    with sqlite3.connect(file) as connection:
        connection.execute('UPDATE messages SET data = 7 WHERE id = 3')
    connection.close()
    assert [int(item) for item in read(bag, said)] == [number for number in range(50) if number != 2]
    assert 'message 3 is damaged' in said[-1]
    file.write_bytes(b'SQLite format 3\0' + bytes(5000))
    with pytest.raises(BagError, match=r'bag\.db3 is damaged'):
        read(bag)


def test_another_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / 'x.db3') as connection:
        connection.execute('CREATE TABLE songs(id INTEGER)')
    with pytest.raises(BagError, match='is a database, but not one of rosbag2'):
        read(tmp_path / 'x.db3')


def test_log_times_that_no_clock_can_show_are_left_out(tmp_path: Path) -> None:
    (tmp_path / 'x.mcap').write_bytes(mcap(schema(), channel(), message(5, 'a'), message(2 ** 64 - 1, 'b')))
    said: list[str] = []
    assert read(tmp_path / 'x.mcap', said) == ['a']
    assert len(said) == 1 and 'messages on /text have log times that no ROS time can hold' in said[0]


def test_of_two_types_on_one_topic_that_of_most_messages_is_played(tmp_path: Path) -> None:
    (tmp_path / 'x.mcap').write_bytes(mcap(
        schema(), channel(), schema(2, 'std_msgs/msg/Empty', definition=''), channel(2, schema_key=2),
        channel(3), message(1, 'a'), message(2, b'\0\1\0\0\0', 2), message(3, 'b', 3)))
    assert read(tmp_path / 'x.mcap') == ['a', 'b']
    bag = Bag(tmp_path / 'x.mcap', lambda said: None)
    assert 'std_msgs/msg/Empty are left out' in bag.left_out['/text']


@pytest.mark.parametrize(('profiles', 'expected'), [
    ('', Offered()), ('{', Offered()), ('[]', Offered()), ('7', Offered()), (None, Offered()),
    ('- {history: 1, reliability: 1, durability: 1}', Offered(True, True, False)),
    ('- {reliability: 2, durability: 2}', Offered(True, False, True)),
    ('- {reliability: best_effort, durability: volatile}\n- {reliability: reliable}', Offered(True)),
    ([{'reliability': 'reliable', 'durability': 'transient_local'}], Offered(True, True)),
    ([{'durability': 'RMW_QOS_POLICY_DURABILITY_TRANSIENT_LOCAL'}], Offered(True, True)),
    ([{'durability': 77, 'reliability': 'best_available'}], Offered(True)),
    ('- durability: 1\n  deadline: {sec: 9223372036, nsec: 854775807}', Offered(True, True)),
])
def test_every_spelling_of_qos(profiles: object, expected: Offered) -> None:
    assert offered_qos(profiles) == expected


def test_every_spelling_of_a_type() -> None:
    assert {type_in_full(name) for name in (
        'std_msgs/String', TEXT, 'std_msgs::msg::dds_::String_')} == {TEXT}
