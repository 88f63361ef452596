"""Bags written here are read by ROS 2's own rosbag2, where it is installed."""
from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from rosbags.rosbag2 import Reader

from mpnp_ros.bags.writer import write_bag
from mpnp_ros.nuscenes.tables import NuScenes

rosbag2_py = pytest.importorskip('rosbag2_py', reason='rosbag2 is not installed: there are no wheels of it')


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_rosbag2_reads_every_message(small_root: NuScenes, tmp_path: Path, storage: str):
    path = write_bag(small_root, tmp_path / 'bag', storage=storage, progress=False)
    with Reader(path) as written:
        wanted = Counter(connection.topic for connection, _, _ in written.messages())
    reader = rosbag2_py.SequentialReader()
    reader.open(rosbag2_py.StorageOptions(uri=str(path), storage_id=storage),
                rosbag2_py.ConverterOptions('cdr', 'cdr'))
    found: Counter[str] = Counter()
    while reader.has_next():
        topic, _data, _stamp = reader.read_next()
        found[topic] += 1
    assert found == wanted
