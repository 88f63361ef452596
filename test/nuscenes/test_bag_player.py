from __future__ import annotations

import itertools
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from mpnp_ros.errors import BagError, ConfigurationError
from mpnp_ros.nuscenes.bag_player import BagMessage, BagPlayer
from mpnp_ros.nuscenes.bag_writer import write_bag
from mpnp_ros.nuscenes.playback_clock import PlaybackClock
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.nuscenes.typestore import message_types

TYPES = message_types()


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


@pytest.mark.parametrize('share', [.02, .5, .999])
def test_truncated_storage_is_an_error_not_a_crash(bag: Path, tmp_path: Path, share: float) -> None:
    (tmp_path / 'metadata.yaml').write_text((bag / 'metadata.yaml').read_text())
    data = (bag / 'bag.mcap').read_bytes()
    (tmp_path / 'bag.mcap').write_bytes(data[:int(share * len(data))])
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
    with pytest.raises(BagError, match=r'mpnp_ros/msg/Answer on /odd was recorded with another definition'):
        BagPlayer(tmp_path / 'bag')


def test_type_that_nobody_defines_is_refused(tmp_path: Path) -> None:
    write_foreign(tmp_path / 'bag', StoragePlugin.SQLITE3, 'int32 value', 'odd_msgs/msg/Odd')
    with sqlite3.connect(tmp_path / 'bag' / 'bag.db3') as database:
        database.execute('DELETE FROM message_definitions')
    with pytest.raises(BagError, match='unknown type odd_msgs/msg/Odd on /odd'):
        BagPlayer(tmp_path / 'bag')
