from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.geometry import Transform, box_corners, rotation_about_z
from mpnp_ros.nuscenes.key_frame import KeyFrame
from mpnp_ros.nuscenes.pointclouds import read_lidar
from mpnp_ros.nuscenes.tables import TABLES, NuScenes


def test_real_key_frame(real_root: NuScenes, real_frame: KeyFrame) -> None:
    assert [scene['name'] for scene in real_root.scenes] == ['scene-0061']
    assert not real_frame.is_night
    assert real_frame.stamp_ns == 1532402927647951000
    assert len(real_frame.cameras) == 6
    assert len(real_frame.objects) == 68
    assert all(len(real_root.table(name)) for name in TABLES)


def test_cameras_look_where_their_names_say(real_frame: KeyFrame) -> None:
    expected = {'CAM_FRONT': 0, 'CAM_FRONT_LEFT': 55, 'CAM_BACK_LEFT': 110, 'CAM_BACK': 180,
                'CAM_BACK_RIGHT': -110, 'CAM_FRONT_RIGHT': -55}
    for channel, degrees in expected.items():
        camera = real_frame.cameras[channel]
        ahead = camera.extrinsics.rotation @ (0, 0, 1)
        difference = math.degrees(math.atan2(ahead[1], ahead[0])) - degrees
        assert abs((difference + 180) % 360 - 180) < 5, channel
        assert camera.intrinsics.shape == (3, 3)
        assert Image.open(camera.path).size == camera.size == (1600, 900)


def test_lidar_points_fill_the_annotated_boxes(real_frame: KeyFrame) -> None:
    """Ties extrinsics, ego pose, box axes and units together: the counts are those of the annotators."""
    points = real_frame.lidar.extrinsics.apply(read_lidar(real_frame.lidar.path)[:, :3])
    for item in real_frame.objects:
        local = (points - item.centre) @ rotation_about_z(item.yaw)
        inside = (np.abs(local) <= np.array(item.size) / 2).all(1).sum()
        assert abs(inside - item.num_lidar_pts) <= 2 + .05 * item.num_lidar_pts, item


def test_parked_truck_ahead_is_where_it_is(real_frame: KeyFrame) -> None:
    truck = next(item for item in real_frame.objects if item.attribute == 'parked')
    assert truck.category == 'truck'
    assert truck.centre[:2] == pytest.approx((16.2, 4.5), abs=.1)
    assert truck.size == (10.201, 2.877, 3.595)
    assert truck.velocity is None


def test_turning_the_vehicle_moves_nothing_in_the_world(real_frame: KeyFrame) -> None:
    turned = real_frame.turned(.7).turned(-1.9)
    assert turned.turn == pytest.approx(-1.2)
    for before, after in zip(real_frame.objects, turned.objects, strict=True):
        corners = [frame.ego_pose.apply(box_corners(item.centre, item.size, item.yaw))
                   for frame, item in ((real_frame, before), (turned, after))]
        np.testing.assert_allclose(*corners, atol=1e-8)
    for channel, camera in real_frame.cameras.items():
        poses = [item.ego_pose @ item.extrinsics for item in (camera, turned.cameras[channel])]
        np.testing.assert_allclose(poses[0].translation, poses[1].translation, atol=1e-8)
        np.testing.assert_allclose(poses[0].rotation, poses[1].rotation, atol=1e-8)


def test_turning_left_moves_what_is_ahead_to_the_right(real_frame: KeyFrame) -> None:
    ahead = max(real_frame.objects, key=lambda item: item.centre[0])
    number = real_frame.objects.index(ahead)
    assert real_frame.turned(math.pi / 2).objects[number].centre[1] == pytest.approx(-ahead.centre[0])


def test_velocities_come_from_neighbouring_key_frames(small_root: NuScenes) -> None:
    frame = next(small_root.key_frames('scene-0001'))
    speeds = {}
    for item in frame.objects:
        if item.velocity is not None:
            speeds.setdefault((item.category, item.attribute), []).append(math.hypot(*item.velocity))
            if item.attribute == 'moving' and item.category in ('car', 'bus'):
                heading = math.atan2(item.velocity[1], item.velocity[0])
                assert math.cos(heading - item.yaw) == pytest.approx(1, abs=1e-3)
    assert max(speeds['car', 'parked']) < 1e-6
    assert min(speeds['car', 'moving']) > 2


def test_readings_are_in_time_order(small_root: NuScenes) -> None:
    readings = small_root.readings('scene-0002')
    assert len(readings) == 14
    assert [item.stamp_ns for item in readings] == sorted(item.stamp_ns for item in readings)
    assert next(small_root.key_frames('scene-0002')).is_night


def test_pose_of_the_frame_is_that_of_the_lidar(small_root: NuScenes) -> None:
    for frame in small_root.key_frames('scene-0001'):
        assert isinstance(frame.ego_pose, Transform)
        np.testing.assert_array_equal(frame.ego_pose.translation, frame.lidar.ego_pose.translation)


@pytest.fixture
def copied_tables(small_root: NuScenes, tmp_path: Path) -> Path:
    """A root with the tables of the stand-in but none of its files."""
    shutil.copytree(small_root.root / 'v1.0-mini', tmp_path / 'v1.0-mini')
    return tmp_path


def test_not_a_root(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='not a nuScenes root'):
        NuScenes(tmp_path)


def test_version_must_be_chosen_where_there_are_two(copied_tables: Path) -> None:
    shutil.copytree(copied_tables / 'v1.0-mini', copied_tables / 'v1.0-trainval')
    with pytest.raises(DatasetError, match=r'v1\.0-mini, v1\.0-trainval'):
        NuScenes(copied_tables)
    assert len(NuScenes(copied_tables, 'v1.0-trainval').scenes) == 2
    with pytest.raises(DatasetError, match=r'no folder v1\.0-test; it has: v1\.0-mini'):
        NuScenes(copied_tables, 'v1.0-test')


def test_missing_table_is_named_when_it_is_needed(copied_tables: Path) -> None:
    (copied_tables / 'v1.0-mini' / 'sample_data.json').unlink()
    root = NuScenes(copied_tables)
    assert root.scene('scene-0001')['nbr_samples'] == 2
    with pytest.raises(DatasetError, match=r'sample_data\.json.*unpack the metadata'):
        next(root.key_frames('scene-0001'))


@pytest.mark.parametrize('content', ['[{', '{}', '[1]', '[{"name": 1}]'])
def test_damaged_table_is_named(copied_tables: Path, content: str) -> None:
    (copied_tables / 'v1.0-mini' / 'sensor.json').write_text(content)
    with pytest.raises(DatasetError, match=r'sensor\.json'):
        next(NuScenes(copied_tables).key_frames('scene-0001'))


def test_dangling_token_is_named(copied_tables: Path) -> None:
    path = copied_tables / 'v1.0-mini' / 'ego_pose.json'
    path.write_text(json.dumps(json.loads(path.read_text())[:1]))
    with pytest.raises(DatasetError, match='table ego_pose .* has no record'):
        list(NuScenes(copied_tables).key_frames('scene-0001'))


def test_unknown_scene_lists_the_known_ones(small_root: NuScenes) -> None:
    with pytest.raises(DatasetError, match="no scene 'scene-0061'; it has 2: scene-0001, scene-0002"):
        list(small_root.key_frames('scene-0061'))
