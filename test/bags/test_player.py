from __future__ import annotations

import itertools
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from mpnp_ros.bags.messages import MessageFactory, message_types
from mpnp_ros.bags.playback_clock import PlaybackClock
from mpnp_ros.bags.player import BagMessage, BagPlayer
from mpnp_ros.bags.writer import write_bag
from mpnp_ros.errors import BagError, ConfigurationError
from mpnp_ros.nuscenes.tables import NuScenes

TYPES = message_types()
DAY = 86_400 * 10 ** 9


class FakeTime:
    """Time that passes only in waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self, rate: float = 1.0) -> PlaybackClock:
        return PlaybackClock(rate, monotonic=lambda: self.now, wait=self._wait)

    def _wait(self, _: threading.Condition, seconds: float | None) -> None:
        assert seconds is not None, 'waits for ever'
        self.now += seconds


@pytest.fixture(scope='module')
def bag(small_root: NuScenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two key frames, half a second apart."""
    return write_bag(small_root, tmp_path_factory.mktemp('bags') / 'bag', ['scene-0001'], progress=False)


@pytest.fixture(scope='module')
def single(real_root: NuScenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real key frame: over after 43 ms."""
    return write_bag(real_root, tmp_path_factory.mktemp('bags') / 'single', progress=False)


def stamp_in(message: BagMessage) -> int:
    content = TYPES.deserialize_cdr(message.data, message.type_name)
    for name in ('transforms', 'markers'):
        content = getattr(content, name)[0] if hasattr(content, name) else content
    return content.header.stamp.sec * 10**9 + content.header.stamp.nanosec


@pytest.mark.parametrize('rate', [.5, 1.0, 3.0])
def test_every_message_comes_when_it_is_due(bag: Path, rate: float) -> None:
    time = FakeTime()
    with Reader(bag) as reader:
        expected = [(connection.topic, stamp, bytes(data)) for connection, stamp, data in reader.messages()]
    played = []
    for message in BagPlayer(bag, clock=time.clock(rate)):
        assert time.now * rate == pytest.approx((message.stamp_ns - expected[0][1]) / 1e9, abs=1e-6)
        played.append((message.topic, message.stamp_ns, message.data))
    assert played == expected


def test_topics_say_what_publishers_need(bag: Path) -> None:
    topics = BagPlayer(bag).topics
    assert topics['/tf_static'].latched
    assert not topics['/lidar_top'].latched
    assert topics['/lidar_top'].type_name == 'sensor_msgs/msg/PointCloud2'
    assert topics['/lidar_top'].message_count == 2


def test_some_topics_only(bag: Path) -> None:
    player = BagPlayer(bag, topics=['/lidar_top', '/tf'], clock=FakeTime().clock())
    assert {item.topic for item in player} == set(player.topics) == {'/lidar_top', '/tf'}
    with pytest.raises(BagError, match='no topic /sonar'):
        BagPlayer(bag, topics=['/sonar'])


def test_start_in_the_middle_still_gives_the_latched(bag: Path) -> None:
    time = FakeTime()
    whole = BagPlayer(bag)
    messages = list(BagPlayer(bag, start=.3, clock=time.clock()))
    assert messages[0].topic == '/tf_static'
    assert Counter(item.topic for item in messages)['/lidar_top'] == 1
    assert time.now == pytest.approx(whole.duration - .3)


def test_start_after_the_end_is_refused(bag: Path) -> None:
    with pytest.raises(BagError, match='over before 60 s'):
        BagPlayer(bag, start=60)
    with pytest.raises(ConfigurationError, match='negative'):
        BagPlayer(bag, start=-1)


@pytest.mark.parametrize('restamp', [False, True])
def test_loop_of_a_single_key_frame_has_a_period(single: Path, restamp: bool) -> None:
    time = FakeTime()
    player = BagPlayer(single, loop=True, loop_period=2.0, restamp=restamp, clock=time.clock())
    clouds, moments = [], []
    for message in player:
        assert player.now_ns == pytest.approx(message.stamp_ns, abs=2)
        assert stamp_in(message) == message.stamp_ns
        if message.topic == '/lidar_top':
            clouds.append(message)
            moments.append(time.now)
        if len(clouds) == 4:
            player.stop()
    steps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert steps == pytest.approx([2.0] * 3)
    stamps = [later.stamp_ns - earlier.stamp_ns for earlier, later in itertools.pairwise(clouds)]
    assert stamps == [2 * 10**9 if restamp else 0] * 3
    assert len({item.data[12:] for item in clouds}) == 1


def test_loop_of_a_longer_bag_follows_on_at_once(bag: Path) -> None:
    time = FakeTime()
    player = BagPlayer(bag, loop=True, loop_period=.1, restamp=True, clock=time.clock())
    stamps = []
    for message in player:
        stamps.append(message.stamp_ns)
        if message.topic == '/tf_static' and len(stamps) > 100:
            player.stop()
    assert stamps == sorted(stamps)
    passes = (len(stamps) - 1) // sum(topic.message_count for topic in player.topics.values())
    assert time.now == pytest.approx(passes * (player.duration + .001))


def test_pause_and_rate_reach_the_clock(bag: Path) -> None:
    player = BagPlayer(bag)
    player.set_rate(4)
    player.pause()
    assert (player.rate, player.paused) == (4, True)
    player.resume()
    assert not player.paused
    player.stop()
    assert list(player) == []


@pytest.mark.parametrize(('name', 'content', 'words'), [
    ('gone', None, 'cannot be opened'),
    ('empty', {}, r'cannot be opened.*metadata\.yaml'),
    ('yaml', {'metadata.yaml': '{'}, 'damaged'),
    ('keys', {'metadata.yaml': 'rosbag2_bagfile_information: {version: 9}'}, 'damaged.*key'),
    ('future', {'metadata.yaml': 'rosbag2_bagfile_information: {version: 99}'}, 'version 99'),
])
def test_broken_bags_are_named(tmp_path: Path, name: str, content: dict | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).mkdir()
        for file, text in content.items():
            (tmp_path / name / file).write_text(text)
    with pytest.raises(BagError, match=rf'(?s){name}.*{words}'):
        BagPlayer(tmp_path / name)


def test_a_file_cut_off_before_the_first_message_is_an_error(bag: Path, tmp_path: Path) -> None:
    (tmp_path / 'metadata.yaml').write_text((bag / 'metadata.yaml').read_text())
    data = (bag / 'bag.mcap').read_bytes()
    (tmp_path / 'bag.mcap').write_bytes(data[:int(.02 * len(data))])
    with pytest.raises(BagError, match='damaged'):
        list(BagPlayer(tmp_path, clock=FakeTime().clock()))


def write_foreign(path: Path, storage: StoragePlugin, definition: str, name: str) -> None:
    """A bag with one message of a type that this package does not have, or has otherwise."""
    types = get_typestore(Stores.EMPTY)
    types.register(get_types_from_msg(definition, name))
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connection = writer.add_connection('/odd', name, typestore=types)
        message = types.types[name](value=3)
        writer.write(connection, 10, types.serialize_cdr(message, name))


def test_type_that_only_the_bag_defines_is_played(tmp_path: Path) -> None:
    write_foreign(tmp_path / 'bag', StoragePlugin.MCAP, 'int32 value', 'odd_msgs/msg/Odd')
    messages = list(BagPlayer(tmp_path / 'bag', clock=FakeTime().clock()))
    assert [item.type_name for item in messages] == ['odd_msgs/msg/Odd']


def test_type_with_another_definition_is_refused(tmp_path: Path) -> None:
    write_foreign(tmp_path / 'bag', StoragePlugin.MCAP, 'int32 value', 'mpnp_ros/msg/Answer')
    with pytest.raises(BagError, match=r'/odd: mpnp_ros/msg/Answer was recorded with another definition'):
        BagPlayer(tmp_path / 'bag')


def test_type_that_nothing_defines_is_passed_on_unless_its_stamps_are_to_be_moved(tmp_path: Path) -> None:
    """A node may have its package installed; ``mpnp_ros.nodes.replay`` leaves it out where it has not."""
    write_foreign(tmp_path / 'bag', StoragePlugin.SQLITE3, 'int32 value', 'odd_msgs/msg/Odd')
    with sqlite3.connect(tmp_path / 'bag' / 'bag.db3') as database:
        database.execute('DELETE FROM message_definitions')
    messages = list(BagPlayer(tmp_path / 'bag', clock=FakeTime().clock()))
    assert [item.type_name for item in messages] == ['odd_msgs/msg/Odd']
    with pytest.raises(BagError, match='/odd: odd_msgs/msg/Odd is defined neither'):
        BagPlayer(tmp_path / 'bag', loop=True, restamp=True)


def test_type_that_only_an_installed_package_defines_is_learned(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_foreign(tmp_path / 'bag', StoragePlugin.SQLITE3, 'int32 value', 'odd_msgs/msg/Odd')
    with sqlite3.connect(tmp_path / 'bag' / 'bag.db3') as database:
        database.execute('DELETE FROM message_definitions')
    folder = tmp_path / 'install' / 'share' / 'odd_msgs' / 'msg'
    folder.mkdir(parents=True)
    (folder / 'Odd.msg').write_text('Inner inner')
    (folder / 'Inner.msg').write_text('int32 value')
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path / "install"}')
    player = BagPlayer(tmp_path / 'bag', loop=True, restamp=True, loop_period=.1, clock=FakeTime().clock())
    assert next(iter(player)).topic == '/odd'


Entry = tuple[str, int, str]


def write_texts(path: Path, entries: list[Entry], **connection: object) -> Path:
    """A bag of texts: topic, log time (ns) and text of each, in this order in the file."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Connection] = {}
        for topic, stamp, text in entries:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, 'std_msgs/msg/String', typestore=TYPES,
                                                           **connection)
            data = TYPES.serialize_cdr(TYPES.types['std_msgs/msg/String'](text), 'std_msgs/msg/String')
            writer.write(connections[topic], stamp, data)
    return path


def texts(messages: Iterable[BagMessage]) -> list[str]:
    return [TYPES.deserialize_cdr(item.data, item.type_name).data for item in messages]


@pytest.mark.parametrize('first', [0, 10 * DAY], ids=['recorded before /clock', 'a week before'])
def test_a_hole_in_the_log_times_is_said_and_skipped(tmp_path: Path, first: int) -> None:
    said: list[str] = []
    time = FakeTime()
    later = 19_000 * DAY
    path = write_texts(tmp_path / 'bag', [('/a', first, 'early'), ('/b', later, 'one'),
                                          ('/a', later + 10 ** 9, 'two'), ('/a', later + 3 * DAY, 'three')])
    player = BagPlayer(path, clock=time.clock(), report=said.append)
    for message in player:
        assert player.now_ns == pytest.approx(message.stamp_ns, abs=10)
    assert time.now == pytest.approx(1)
    assert [text.partition('no messages for ')[2].split(' after')[0] for text in said] == [
        '19000 days' if not first else '18990 days', '3 days']


def test_a_gap_that_is_not_too_long_is_waited_for(tmp_path: Path) -> None:
    path = write_texts(tmp_path / 'bag', [('/a', 0, 'one'), ('/a', DAY, 'two')])
    for longest, seconds in ((0, 86400), (86400, 86400), (86399, 0)):
        time = FakeTime()
        assert texts(BagPlayer(path, clock=time.clock(), longest_gap=longest)) == ['one', 'two']
        assert time.now == pytest.approx(seconds)


def test_time_runs_on_over_skipped_gaps_in_a_loop(tmp_path: Path) -> None:
    path = write_texts(tmp_path / 'bag', [('/a', 0, 'one'), ('/b', 10 ** 9, 'two'), ('/a', DAY, 'three')])
    for restamp in (True, False):
        time = FakeTime()
        player = BagPlayer(path, loop=True, loop_period=3, restamp=restamp, clock=time.clock())
        stamps = []
        for message in player:
            assert player.now_ns == pytest.approx(message.stamp_ns, abs=10)
            stamps.append(message.stamp_ns)
            if len(stamps) == 6:
                player.stop()
        assert time.now == pytest.approx(4)
        assert (stamps == sorted(stamps)) is restamp
        assert stamps[3] == (DAY + 2 * 10 ** 9 if restamp else 0)


def test_messages_are_played_by_log_time_whatever_their_order_in_the_file(tmp_path: Path) -> None:
    path = write_texts(tmp_path / 'bag', [('/a', 3, 'c'), ('/b', 1, 'a'), ('/a', 2, 'b'), ('/a', 2, 'b')])
    assert texts(BagPlayer(path, clock=FakeTime().clock())) == ['a', 'b', 'b', 'c']


def test_what_never_changes_is_latched_and_comes_first_whatever_the_bag_says(tmp_path: Path) -> None:
    """Bags of rosbags-convert and of mcap tools say nothing of QoS."""
    start = 10 ** 18
    path = write_texts(tmp_path / 'bag', [
        ('/image', start, 'first'), ('/tf_static', start + 1, 'lidar'), ('/image', start + 2, 'x'),
        ('/tf_static', start + 3, 'camera'), ('/tf_static', start + 4, 'lidar'),
        ('/arm/robot_description', start + 5, 'urdf'), ('/image', start + 5, 'y')])
    player = BagPlayer(path, clock=FakeTime().clock())
    assert {topic.name for topic in player.topics.values() if topic.latched} == {
        '/tf_static', '/arm/robot_description'}
    assert texts(player.opening) == ['camera', 'lidar', 'urdf']
    assert texts(player) == ['camera', 'lidar', 'urdf', 'first', 'x', 'y']


@pytest.mark.parametrize(('count', 'latched'), [(1, True), (2, False)])
def test_a_calibration_that_was_recorded_once_is_latched(tmp_path: Path, count: int, latched: bool) -> None:
    kind = 'sensor_msgs/msg/CameraInfo'
    message = TYPES.serialize_cdr(MessageFactory(TYPES).new(kind), kind)
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection('/camera/camera_info', kind, typestore=TYPES)
        for number in range(count):
            writer.write(connection, number, message)
    assert BagPlayer(tmp_path / 'bag').topics['/camera/camera_info'].latched is latched


def test_all_static_transforms_come_where_playback_starts_in_the_middle(tmp_path: Path) -> None:
    """Each publisher of /tf_static has its own transforms; the last message alone is not enough."""
    path = write_texts(tmp_path / 'bag', [
        ('/tf_static', 0, 'lidar'), ('/tf_static', 1, 'camera'), ('/image', 2, 'early'),
        ('/image', 10 * 10 ** 9, 'late')])
    assert texts(BagPlayer(path, start=9, clock=FakeTime().clock())) == ['lidar', 'camera', 'late']


def test_recorded_qos_is_followed(tmp_path: Path) -> None:
    forever = QosTime(0, 0)
    profile = Qos(QosHistory.KEEP_LAST, 5, QosReliability.BEST_EFFORT, QosDurability.VOLATILE, forever,
                  forever, QosLiveliness.AUTOMATIC, forever, False)
    path = write_texts(tmp_path / 'bag', [('/scan', 0, 'a'), ('/tf_static', 0, 'b')],
                       offered_qos_profiles=[profile])
    topics = BagPlayer(path).topics
    assert (topics['/scan'].latched, topics['/scan'].best_effort) == (False, True)
    assert (topics['/tf_static'].latched, topics['/tf_static'].best_effort) == (True, False)


def test_topics_may_be_excluded_and_named_by_wildcards(tmp_path: Path) -> None:
    path = write_texts(tmp_path / 'bag', [
        ('/camera/image', 0, 'a'), ('/camera/info', 1, 'b'), ('/scan', 2, 'c')])
    said: list[str] = []
    assert set(BagPlayer(path, topics=['camera/*']).topics) == {'/camera/image', '/camera/info'}
    assert set(BagPlayer(path, topics=['/camera/*'], exclude=['*/info']).topics) == {'/camera/image'}
    assert set(BagPlayer(path, exclude=['/scan', '/sonar'], report=said.append).topics) == {
        '/camera/image', '/camera/info'}
    assert said == [f'bag {path} has no topic /sonar to exclude']
    with pytest.raises(BagError, match='All topics are excluded'):
        BagPlayer(path, exclude=['*'])


def test_one_bad_topic_does_not_cost_the_bag(tmp_path: Path) -> None:
    """Other definition, not a message, bytes that do not decode: each is named with its type."""
    types = get_typestore(Stores.EMPTY)
    types.register(get_types_from_msg('int32 value', 'mpnp_ros/msg/Answer'))
    types.register(get_types_from_msg('string data', 'std_msgs/msg/String'))
    types.register(get_types_from_msg('int32 value', 'odd_msgs/msg/Add_Event'))
    said: list[str] = []
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        for topic, kind, data in (
                ('/answer', 'mpnp_ros/msg/Answer', b'\0\1\0\0\3\0\0\0'),
                ('/cut', 'std_msgs/msg/String', b'\0\1\0\0\xff\0\0\0a'),
                ('/event', 'odd_msgs/msg/Add_Event', b'\0\1\0\0\3\0\0\0'),
                ('/text', 'std_msgs/msg/String', b'\0\1\0\0\2\0\0\0a\0')):
            writer.write(writer.add_connection(topic, kind, typestore=types), 10, data)
            writer.write(writer.connections[-1], 20, data)
    with sqlite3.connect(tmp_path / 'bag' / 'bag.db3') as database:
        database.execute("UPDATE topics SET type = 'odd_msgs/srv/Add_Event' WHERE name = '/event'")
    player = BagPlayer(tmp_path / 'bag', clock=FakeTime().clock(), report=said.append)
    assert texts(player) == ['a', 'a']
    assert said == [f'{name} skipped: {reason}' for name, reason in player.left_out.items()]
    assert {name: reason.split()[0] for name, reason in player.left_out.items()} == {
        '/answer': 'mpnp_ros/msg/Answer', '/event': 'odd_msgs/srv/Add_Event', '/cut': 'its'}
    assert 'does not decode as std_msgs/msg/String' in player.left_out['/cut']


@pytest.mark.parametrize(('seconds', 'words'), [(-30, '30 s before'), (10 ** 7, '116 days after'), (1, '')])
def test_stamps_that_are_not_the_log_times_are_said_once(tmp_path: Path, seconds: int, words: str) -> None:
    header, temperature = 'std_msgs/msg/Header', 'sensor_msgs/msg/Temperature'
    stamp = TYPES.types['builtin_interfaces/msg/Time'](1000 + seconds, 0)
    message = TYPES.types[temperature](TYPES.types[header](stamp, 'base'), 20., 0.)
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic in ('/one', '/two'):
            connection = writer.add_connection(topic, temperature, typestore=TYPES)
            for number in range(2):
                writer.write(connection, 1000 * 10 ** 9 + number, TYPES.serialize_cdr(message, temperature))
    said: list[str] = []
    assert len(list(BagPlayer(tmp_path / 'bag', clock=FakeTime().clock(), report=said.append))) == 4
    assert len(said) == (1 if words else 0) and words in ''.join(said)


def test_what_cannot_be_decoded_here_but_perhaps_by_others_is_passed_on(tmp_path: Path) -> None:
    """Types with wstring, and encapsulations of XTypes, are unknown to the library that looks at them."""
    types = get_typestore(Stores.EMPTY)
    types.register(get_types_from_msg('int32 value', 'odd_msgs/msg/Wide'))
    types.register(get_types_from_msg('string data', 'std_msgs/msg/String'))
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        for topic, kind, data in (('/wide', 'odd_msgs/msg/Wide', b'\0\1\0\0\1\0\0\0a\0\0\0'),
                                  ('/new', 'std_msgs/msg/String', b'\0\7\0\0\2\0\0\0a\0')):
            writer.write(writer.add_connection(topic, kind, typestore=types), 10, data)
    with sqlite3.connect(tmp_path / 'bag' / 'bag.db3') as database:
        database.execute("UPDATE message_definitions SET encoding = 'ros2msg', encoded_message_definition = "
                         "'wstring data' WHERE topic_type = 'odd_msgs/msg/Wide'")
    said: list[str] = []
    player = BagPlayer(tmp_path / 'bag', loop=True, restamp=True, loop_period=.1, clock=FakeTime().clock(),
                       report=said.append)
    topics = []
    for message in player:
        topics.append(message.topic)
        if len(topics) == 3:
            player.stop()
    assert topics == ['/wide', '/new', '/new'], 'its stamps cannot be moved in the second pass'
    assert len(said) == 1 and '/wide: messages skipped' in said[0]
