from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.sensor_files import RADAR_DTYPE, read_lidar, read_radar


def radar_file(points: np.ndarray) -> bytes:
    """A radar sweep as nuScenes writes it."""
    sizes = ' '.join(str(RADAR_DTYPE[name].itemsize) for name in RADAR_DTYPE.names)
    header = ('# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\n'
              f'FIELDS {" ".join(RADAR_DTYPE.names)}\nSIZE {sizes}\n'
              f'WIDTH {len(points)}\nHEIGHT 1\nPOINTS {len(points)}\nDATA binary\n')
    return header.encode() + points.tobytes() + b'\n'


def test_radar_fields_come_back(tmp_path: Path) -> None:
    points = np.zeros(3, RADAR_DTYPE)
    points['x'], points['id'], points['vx_comp'] = (1, 2, 3), (7, -8, 9), (.5, -.25, 4)
    (tmp_path / 'a.pcd').write_bytes(radar_file(points))
    assert len(RADAR_DTYPE) == 18
    np.testing.assert_array_equal(read_radar(tmp_path / 'a.pcd'), points)


def test_empty_radar_sweep_has_no_points(tmp_path: Path) -> None:
    nothing = np.zeros(1, RADAR_DTYPE)
    nothing['x'] = np.nan
    (tmp_path / 'a.pcd').write_bytes(radar_file(nothing))
    assert len(read_radar(tmp_path / 'a.pcd')) == 0


@pytest.mark.parametrize(('data', 'words'), [
    (b'', 'is empty'), (b'FIELDS x y\nPOINTS 1\nDATA binary\n12345678', 'not a binary PCD'),
    (radar_file(np.zeros(2, RADAR_DTYPE))[:-20], 'truncated'),
    (radar_file(np.zeros(2, RADAR_DTYPE)).replace(b'SIZE 4 4 4 1', b'SIZE 4 4 4 4'), 'not a binary PCD'),
    (radar_file(np.zeros(2, RADAR_DTYPE)).replace(b'POINTS 2', 'POINTS ²'.encode()), 'not a binary PCD'),
    (b'<!DOCTYPE html>', 'is a web page'),
])
def test_damaged_radar_file_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / 'bad.pcd').write_bytes(data)
    with pytest.raises(DatasetError, match=rf'bad\.pcd.*{words}'):
        read_radar(tmp_path / 'bad.pcd')


def test_lidar_points_come_back(tmp_path: Path) -> None:
    points = np.arange(20, dtype='<f4').reshape(4, 5)
    (tmp_path / 'a.pcd.bin').write_bytes(points.tobytes())
    np.testing.assert_array_equal(read_lidar(tmp_path / 'a.pcd.bin'), points)


def test_lidar_file_missing_or_truncated_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'gone\.pcd\.bin.*download'):
        read_lidar(tmp_path / 'gone.pcd.bin')
    (tmp_path / 'short.pcd.bin').write_bytes(b'123')
    with pytest.raises(DatasetError, match=r'short\.pcd\.bin.*truncated'):
        read_lidar(tmp_path / 'short.pcd.bin')


KITTI = np.round(np.random.default_rng(0).uniform(-40, 40, (500, 4)), 3).astype('<f4')


@pytest.mark.parametrize(('data', 'words'), [
    (KITTI.tobytes(), 'fifth number is no ring.*KITTI'), (b'', 'is empty'),
    (np.full((40, 5), 32.5, '<f4').tobytes(), 'no ring'), (np.full((40, 5), -1, '<f4').tobytes(), 'no ring'),
    (np.full((40, 5), np.nan, '<f4').tobytes(), 'no ring'),
    (np.full((40, 5), 300, '<f4').tobytes(), 'no ring'),
    (np.tile(np.array([1e30, 0, 0, 7, 3], '<f4'), (40, 1)).tobytes(), 'coordinates beyond'),
    (np.random.default_rng(0).normal(size=(40, 5)).tobytes(), 'no ring'), (bytes(4000), 'begins with zeros'),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:00\n', 'git lfs pull'),
    (b'  <html><body>please log in', 'is a web page'),
])
def test_a_lidar_file_of_another_form_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / 'a.pcd.bin').write_bytes(data)
    with pytest.raises(DatasetError, match=rf'a\.pcd\.bin.*{words}'):
        read_lidar(tmp_path / 'a.pcd.bin')
