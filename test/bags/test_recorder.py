"""A bag that grows: bounded, whole after its end, readable after a kill and a full disk."""
from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest
from rosbags.rosbag2 import Reader

from mpnp_ros.bags.messages import message_types
from mpnp_ros.bags.recorder import OVERHEAD, BagRecorder
from mpnp_ros.bags.storage import Bag
from mpnp_ros.errors import BagError

TYPE = 'std_msgs/msg/String'


def text(words: str) -> bytes:
    types = message_types()
    return bytes(types.serialize_cdr(types.types[TYPE](words), TYPE))


def read(folder: Path) -> list[tuple[str, int]]:
    bag = Bag(folder, lambda said: None)
    found = [(message.topic, message.stamp_ns) for message in bag.messages(bag.topics)]
    bag.close()
    return found


def test_what_is_recorded_is_read_by_others_too(tmp_path: Path):
    recorder = BagRecorder(tmp_path / 'bag', 10_000)
    for stamp, topic in ((3, '/answer'), (4, '/tf_static'), (5, '/answer')):
        assert recorder.write(topic, TYPE, stamp, text('a'))
    recorder.close()
    recorder.close()
    assert not recorder.write('/answer', TYPE, 6, text('late'))
    assert recorder.counts == {'/answer': 2, '/tf_static': 1}
    with Reader(tmp_path / 'bag') as reader:
        assert reader.message_count == 3
    assert read(tmp_path / 'bag') == [('/answer', 3), ('/tf_static', 4), ('/answer', 5)]
    with pytest.raises(BagError, match='exists already; choose another name'):
        BagRecorder(tmp_path / 'bag', 10_000)


def test_it_ends_at_its_limit(tmp_path: Path):
    size = len(text('a')) + OVERHEAD
    recorder = BagRecorder(tmp_path / 'bag', 2 * size)
    assert [recorder.write('/answer', TYPE, stamp, text('a')) for stamp in range(4)] == [
        True, True, False, False]
    assert recorder.is_full and recorder.bytes == 2 * size
    recorder.close()
    assert len(read(tmp_path / 'bag')) == 2


def test_a_killed_recorder_loses_only_what_was_not_written_out(tmp_path: Path):
    recorder = BagRecorder(tmp_path / 'bag', 10_000)
    recorder.write('/answer', TYPE, 1, text('a'))
    recorder.flush()
    recorder.flush()
    recorder.write('/answer', TYPE, 2, text('b'))
    recorder.flush()
    recorder.write('/answer', TYPE, 3, text('c'))
    assert not (tmp_path / 'bag' / 'metadata.yaml').exists()
    assert read(tmp_path / 'bag') == [('/answer', 1), ('/answer', 2)]


def test_a_full_disk_keeps_what_was_written(tmp_path: Path):
    class FullDisk(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, 'No space left on device')

    recorder = BagRecorder(tmp_path / 'bag', 10_000)
    recorder.write('/answer', TYPE, 1, text('a'))
    recorder.flush()
    storage = recorder._writer.storage
    whole, storage.bio = storage.bio, FullDisk()
    recorder.write('/answer', TYPE, 2, text('b'))
    with pytest.raises(BagError, match='No space left on device; its first 2 messages are kept'):
        recorder.flush()
    whole.close()
    recorder.close()
    assert read(tmp_path / 'bag') == [('/answer', 1)]


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(BagError, match='cannot be made: Not a directory'):
        BagRecorder(tmp_path / 'file' / 'bag', 1)
