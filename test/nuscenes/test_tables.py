from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.sensor_files import read_lidar
from mpnp_ros.nuscenes.tables import TABLES, NuScenes
from mpnp_ros.poses import Transform, box_corners, rotation_about_z
from mpnp_ros.questions.generator import scene_questions
from mpnp_ros.questions.key_frame import KeyFrame


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


def change_table(root: Path, table: str, change: Callable[[list], object]) -> None:
    """Change the records of a table in place."""
    path = root / 'v1.0-mini' / f'{table}.json'
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def read_all(root: Path) -> list:
    """Everything of the tables that is ever used."""
    tables = NuScenes(root)
    return [(list(tables.key_frames(scene)), tables.readings(scene)) for scene in tables.scenes]


NUMBERS = [None, 'text', [1, 2], ['1', '2', '3'], [1, 2, None], [float('nan')] * 3, [1, 2, float('inf')],
           {'x': 1}, [True, 2, 3]]


@pytest.mark.parametrize(('table', 'field', 'values'), [
    ('ego_pose', 'translation', NUMBERS), ('calibrated_sensor', 'translation', NUMBERS),
    ('sample_annotation', 'translation', NUMBERS), ('sample_annotation', 'size', [*NUMBERS, [1, -1, 1]]),
    ('ego_pose', 'rotation', [[0, 0, 0, 0], [1, 0, 0], [float('nan'), 0, 0, 1], None]),
    ('calibrated_sensor', 'rotation', [[0, 0, 0, 0], 'w']), ('sample_annotation', 'rotation', [[0, 0, 0, 0]]),
    ('calibrated_sensor', 'camera_intrinsic', [[[1, 2, 3]], None, [[1, 2, 3]] * 2 + [[0, 0, None]], 'K',
                                               [[float('nan'), 0, 0]] * 3]),
    ('sample', 'timestamp', ['1600000000000000', 1600000000.5, None, float('nan'), -1, 1600000000000000000,
                             True, [1]]),
    ('sample_data', 'timestamp', [1532402927.647951, 'soon']), ('sample_data', 'is_key_frame', ['yes', None]),
    ('sample_data', 'filename', ['../../secret', '/etc/passwd', '', None, 'samples/../../x', 7]),
    ('sample_data', 'width', [0.5, 'wide', None, -1]), ('sample_data', 'sample_token', [None, 7, '']),
    ('sample_annotation', 'num_lidar_pts', [None, 'many', 1.5, -1]),
    ('sample_annotation', 'attribute_tokens', [None, 'token', [7]]),
    ('sample_annotation', 'visibility_token', ['v0-40', 9, []]), ('sample_annotation', 'next', [7, []]),
    ('scene', 'name', ['../up', '', None, 'a/b', '..']), ('scene', 'description', [None, 7]),
    ('sensor', 'channel', [None, '', 7]), ('category', 'name', [None]), ('attribute', 'name', [7]),
], ids=lambda value: value if isinstance(value, str) else '')
def test_a_value_of_another_kind_is_named_with_record_and_field(copied_tables: Path, table: str, field: str,
                                                                values: list) -> None:
    original = (copied_tables / 'v1.0-mini' / f'{table}.json').read_text()
    for value in values:
        (copied_tables / 'v1.0-mini' / f'{table}.json').write_text(original)
        change_table(copied_tables, table, lambda records, value=value: [
            record.update({field: value}) for record in records])
        with pytest.raises(DatasetError, match=rf"(?s)record '.+' of .*{table}\.json: {field} is .*expected"):
            read_all(copied_tables)


@pytest.mark.parametrize(('table', 'field'), [
    ('sample_annotation', 'num_lidar_pts'), ('sample_annotation', 'attribute_tokens'), ('sample', 'next'),
    ('sample_annotation', 'next'), ('sample', 'scene_token'), ('sample', 'timestamp'),
    ('sample_data', 'filename'), ('sample_data', 'calibrated_sensor_token'), ('sample_data', 'is_key_frame'),
    ('scene', 'name'),
    ('scene', 'first_sample_token'), ('sensor', 'modality'), ('ego_pose', 'rotation'),
    ('instance', 'category_token'), ('sample_data', 'sample_token')])
def test_a_field_that_is_missing_is_named(copied_tables: Path, table: str, field: str) -> None:
    change_table(copied_tables, table, lambda records: records[0].pop(field))
    with pytest.raises(DatasetError, match=rf"record '.+' of .*{table}\.json lacks {field}; correct it"):
        read_all(copied_tables)


def test_what_has_an_obvious_default_may_be_missing(copied_tables: Path) -> None:
    for table, field in (('scene', 'description'), ('sample_annotation', 'num_radar_pts'), ('sample', 'prev'),
                         ('sample_annotation', 'visibility_token')):
        change_table(copied_tables, table,
                     lambda records, field=field: [record.pop(field) for record in records])
    (copied_tables / 'v1.0-mini' / 'map.json').unlink()
    (copied_tables / 'v1.0-mini' / 'log.json').unlink()
    frame = read_all(copied_tables)[0][0][0]
    assert frame.description == ''
    assert {item.visibility for item in frame.objects} == {0}


def test_whole_numbers_of_another_spelling_are_whole_numbers(copied_tables: Path) -> None:
    before = read_all(copied_tables)
    for table in ('sample', 'sample_data'):
        change_table(copied_tables, table, lambda records: [
            record.update(timestamp=float(record['timestamp'])) for record in records])
    change_table(copied_tables, 'sample_data', lambda records: [
        record.update(is_key_frame=1) for record in records])
    after = read_all(copied_tables)
    assert [frame.stamp_ns for frames, _ in after for frame in frames] == \
        [frame.stamp_ns for frames, _ in before for frame in frames]
    assert type(after[0][0][0].stamp_ns) is int


@pytest.mark.parametrize(('change', 'words'), [
    (lambda records: records[1].update(next=records[1]['token']), 'of scene-0001 .* form a circle'),
    (lambda records: records[1].update(next=records[0]['token']), 'of scene-0001 .* form a circle'),
    (lambda records: records[1].update(next=records[2]['token']), 'which is of scene'),
    (lambda records: records[1].update(timestamp=records[0]['timestamp'] - 1), 'not in time order'),
    (lambda records: records[1].update(timestamp=records[0]['timestamp'] + 1), 'after 1 microseconds'),
    (lambda records: records[1].update(next='nowhere'), "no record 'nowhere', which sample '.+' names"),
])
def test_samples_that_lead_astray_are_named(copied_tables: Path, change: Callable, words: str) -> None:
    change_table(copied_tables, 'sample', change)
    with pytest.raises(DatasetError, match=words):
        list(NuScenes(copied_tables).samples('scene-0001'))


def test_records_of_one_token_must_be_the_same(copied_tables: Path) -> None:
    change_table(copied_tables, 'sample', lambda records: records.append(dict(records[0])))
    assert read_all(copied_tables)
    change_table(copied_tables, 'sample', lambda records: records[-1].update(timestamp=7))
    with pytest.raises(DatasetError, match=r'sample\.json has two records .* that differ'):
        read_all(copied_tables)


def test_boxes_of_different_instances_do_not_follow_each_other(copied_tables: Path) -> None:
    change_table(copied_tables, 'sample_annotation', lambda records: records[0].update(
        next=records[1]['token']))
    with pytest.raises(DatasetError, match='which is of another instance'):
        read_all(copied_tables)


def test_a_sensor_has_one_key_frame_a_sample_and_a_camera_has_intrinsics(copied_tables: Path) -> None:
    shutil.copytree(copied_tables, copied_tables / 'again')
    change_table(copied_tables, 'sample_data', lambda records: records.append(
        {**records[0], 'token': 'twice'}))
    with pytest.raises(DatasetError, match='two key frames of'):
        read_all(copied_tables)
    change_table(copied_tables / 'again', 'calibrated_sensor', lambda records: [
        record.update(camera_intrinsic=[]) for record in records])
    with pytest.raises(DatasetError, match='camera_intrinsic of CAM_[A-Z_]+ is empty'):
        read_all(copied_tables / 'again')


def test_no_scene_is_an_error(copied_tables: Path) -> None:
    (copied_tables / 'v1.0-mini' / 'scene.json').write_text('[]')
    with pytest.raises(DatasetError, match=r'no scene in .*scene\.json'):
        _ = NuScenes(copied_tables).scenes


def test_two_scenes_of_one_name_are_an_error(copied_tables: Path) -> None:
    change_table(copied_tables, 'scene', lambda records: records[1].update(name=records[0]['name']))
    with pytest.raises(DatasetError, match="2 scenes of .* are named 'scene-0001'"):
        _ = NuScenes(copied_tables).scenes


@pytest.mark.parametrize(('content', 'words'), [
    ('version https://git-lfs.github.com/spec/v1\noid sha256:0', 'is a Git LFS pointer.*`git lfs pull`'),
    ('<!DOCTYPE html><title>Log in', 'is a web page'), ('', 'is empty'), ('[' * 100_000, 'not valid JSON'),
    ('[{"token": ""}]', 'record 0 of .* is not an object with a token'), ('[{"token": 7}]', 'record 0 of'),
])
def test_a_table_that_is_something_else_is_named(copied_tables: Path, content: str, words: str) -> None:
    (copied_tables / 'v1.0-mini' / 'sensor.json').write_text(content)
    with pytest.raises(DatasetError, match=rf'(?s)(?=.*sensor\.json).*{words}'):
        read_all(copied_tables)


def test_the_folder_of_a_version_chooses_it(copied_tables: Path) -> None:
    shutil.copytree(copied_tables / 'v1.0-mini', copied_tables / 'v1.0-trainval')
    with pytest.raises(DatasetError, match=r'or give its folder: .*v1\.0-mini'):
        NuScenes(copied_tables)
    chosen = NuScenes(copied_tables / 'v1.0-trainval')
    assert (chosen.root, chosen.version) == (copied_tables, 'v1.0-trainval')


def test_a_root_that_lies_deeper_is_named(copied_tables: Path) -> None:
    (copied_tables / 'outer').mkdir()
    shutil.move(copied_tables / 'v1.0-mini', copied_tables / 'outer' / 'inner' / 'v1.0-mini')
    with pytest.raises(DatasetError, match=r'not a nuScenes root: .*; .*/outer/inner is one'):
        NuScenes(copied_tables / 'outer')


def test_nothing_is_known_of_scenes_without_annotations(copied_tables: Path) -> None:
    first, second = NuScenes(copied_tables).scenes
    kept = {sample['token'] for sample in NuScenes(copied_tables).samples(first)}
    change_table(copied_tables, 'sample_annotation', lambda records: records.__setitem__(
        slice(None), [record for record in records if record['sample_token'] in kept]))
    root = NuScenes(copied_tables)
    assert (root.has_annotations(first), root.has_annotations(second)) == (True, False)
    assert [next(root.key_frames(scene)).annotated for scene in root.scenes] == [True, False]
    assert scene_questions(next(root.key_frames(first)))
    assert scene_questions(next(root.key_frames(second))) == []


def test_a_key_frame_without_boxes_in_an_annotated_scene_shows_nothing(copied_tables: Path) -> None:
    token = NuScenes(copied_tables).scene('scene-0001')['first_sample_token']
    change_table(copied_tables, 'sample_annotation', lambda records: records.__setitem__(
        slice(None), [{**record, 'prev': ''} for record in records if record['sample_token'] != token]))
    frame = NuScenes(copied_tables).key_frame(token)
    assert frame.annotated and not frame.objects
    assert {question.answer for question in scene_questions(frame)} == {'no', '0'}


@pytest.mark.parametrize(('change', 'words'), [
    ({'prev': 'nowhere'}, "has no record 'nowhere', which sample_data"),
    ({'prev': 'itself'}, 'which is not before it in time'),
    ({'prev': 'other'}, 'which is of CAM_'),
])
def test_a_broken_chain_of_sweeps_is_named(copied_tables: Path, change: dict[str, str], words: str) -> None:
    """It only affects those who ask for sweeps."""
    def broken(records: list[dict]) -> None:
        record = next(item for item in records if 'LIDAR' in item['filename'] and item['prev'])
        tokens = {'itself': record['token'],
                  'other': next(item['token'] for item in records if 'CAM' in item['filename'])}
        record['prev'] = tokens.get(change['prev'], change['prev'])

    change_table(copied_tables, 'sample_data', broken)
    frame = list(NuScenes(copied_tables).key_frames('scene-0001'))[1]
    with pytest.raises(DatasetError, match=words):
        frame.earlier('LIDAR_TOP', 1.)
