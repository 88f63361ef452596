from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.sensor_files import (
    OWN_RADIUS,
    RADAR_DTYPE,
    read_lidar,
    read_radar,
    stacked_sweeps,
)
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.poses import rotation_about_z
from mpnp_ros.questions.key_frame import AnnotatedObject

DRIVE = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'pandaset_002'


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


def test_stacked_sweeps_are_in_the_base_frame_of_the_newest(small_root: NuScenes, tmp_path: Path) -> None:
    before, frame = small_root.key_frames('scene-0001')
    points = read_lidar(frame.lidar.path)
    alone = stacked_sweeps(frame, 0.)
    far = points[np.hypot(*points.T[:2]) >= OWN_RADIUS]
    np.testing.assert_allclose(alone[:, :3], frame.lidar.extrinsics.apply(far[:, :3]), atol=1e-4)
    np.testing.assert_array_equal(alone[:, 3], far[:, 3])
    assert alone.dtype == np.float32 and not alone[:, 4].any()
    both = stacked_sweeps(frame, .5)
    np.testing.assert_array_equal(both[:len(alone)], alone)
    assert set(both[len(alone):, 4].tolist()) == {np.float32(.5)}
    old = frame.ego_pose.inverse() @ before.ego_pose
    np.testing.assert_allclose(both[len(alone):, :3], old.apply(stacked_sweeps(before, 0.)[:, :3]), atol=1e-3)
    lost = np.float32([[np.nan] * 3 + [0, 0], [.3, .3, 0, 9, 0], [5, 0, 0, 9, 0]])
    (tmp_path / 'a.pcd.bin').write_bytes(lost.tobytes())
    few = replace(frame, lidar=replace(frame.lidar, path=tmp_path / 'a.pcd.bin'))
    assert len(stacked_sweeps(few, 0.)) == 1
    with pytest.raises(DatasetError, match='has no LiDAR sweep to stack'):
        stacked_sweeps(replace(frame, lidar=None), .5)


def test_what_stands_coincides_in_stacked_sweeps_of_a_real_drive() -> None:
    """The car drives 1 to 3 m within the sweeps; parked cars stay, and without its motion they would not."""
    if not DRIVE.is_dir():
        pytest.skip('the real drive is not here: its size keeps it out of the repository')
    frame = list(NuScenes(DRIVE).key_frames('pandaset-002'))[12]
    points = stacked_sweeps(frame, .6)
    now, old = points[points[:, 4] == 0, :3], points[points[:, 4] > 0, :3]
    unmoved = np.concatenate([frame.lidar.extrinsics.apply(read_lidar(reading.path)[:, :3])
                              for reading in frame.earlier('LIDAR_TOP', .6)])
    standing = [item for item in frame.objects if item.distance < 30 and item.num_lidar_pts >= 30
                and item.attribute in ('parked', 'stopped')]
    gaps, without = [], []
    for item in standing:
        nearest = cKDTree(now[around(item, now)])
        gaps += nearest.query(old[around(item, old)])[0].tolist()
        without += nearest.query(unmoved[around(item, unmoved)])[0].tolist()
    assert len(standing) > 5 and len(gaps) > 3000
    assert np.median(gaps) < .1 and np.quantile(gaps, .9) < .35
    assert np.median(without) > .25 and np.quantile(without, .9) > .8


def around(item: AnnotatedObject, points: np.ndarray) -> np.ndarray:
    """Which points lie in a box or up to a metre beside it, and not on the ground."""
    local = (points - item.centre) @ rotation_about_z(item.yaw)
    return (np.abs(local) <= np.array(item.size) / 2 + (1, 1, -.3)).all(1)
