from __future__ import annotations

import importlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader

from mpnp_ros.bags.messages import message_types
from mpnp_ros.bags.writer import write_bag
from mpnp_ros.errors import BagError, DatasetError
from mpnp_ros.nuscenes.sensor_files import RADAR_DTYPE, read_lidar
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import scene_questions
from mpnp_ros.questions.key_frame import KeyFrame

TYPES = message_types()
EXTRA_STAMP = 1_600_000_000_250_000
"""Microseconds: between the two key frames of the stand-in."""


def read_all(path: Path) -> list[tuple[str, int, object]]:
    """Topic, log time and message of everything in a bag."""
    with Reader(path) as reader:
        return [(connection.topic, stamp, TYPES.deserialize_cdr(data, connection.msgtype))
                for connection, stamp, data in reader.messages()]


def header_of(message: object) -> object:
    """The first header in a message."""
    for name in ('transforms', 'markers'):
        if hasattr(message, name):
            return getattr(message, name)[-1].header
    return message.header


@pytest.fixture(scope='module')
def rich_root(small_root: NuScenes, tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    """The stand-in with a radar, a camera sweep between key frames and CAN bus data added."""
    root = tmp_path_factory.mktemp('rich') / 'root'
    shutil.copytree(small_root.root, root)
    tables = {name: json.loads((root / 'v1.0-mini' / f'{name}.json').read_text())
              for name in ('sensor', 'calibrated_sensor', 'sample_data')}
    tables['sensor'].append({'token': 'radar', 'channel': 'RADAR_FRONT', 'modality': 'radar'})
    tables['calibrated_sensor'].append({
        'token': 'radar', 'sensor_token': 'radar', 'translation': [3.4, 0, .5], 'rotation': [1, 0, 0, 0],
        'camera_intrinsic': []})
    first = tables['sample_data'][0]
    tables['sample_data'] += [
        {**first, 'token': 'radar', 'calibrated_sensor_token': 'radar', 'filename': 'samples/r.pcd'},
        {**first, 'token': 'sweep', 'timestamp': EXTRA_STAMP, 'is_key_frame': False}]
    for name, records in tables.items():
        (root / 'v1.0-mini' / f'{name}.json').write_text(json.dumps(records))
    points = np.zeros(2, RADAR_DTYPE)
    points['rcs'] = (-3.5, 12)
    header = f'FIELDS {" ".join(RADAR_DTYPE.names)}\nPOINTS 2\nDATA binary\n'
    (root / 'samples' / 'r.pcd').write_bytes(header.encode() + points.tobytes())
    (root / 'can_bus').mkdir()
    (root / 'can_bus' / 'scene-0001_ms_imu.json').write_text(json.dumps([
        {'utime': EXTRA_STAMP, 'q': [1, 0, 0, 0], 'rotation_rate': [0, 0, .1],
         'linear_accel': [0, .2, 9.8]}]))
    return NuScenes(root)


@pytest.fixture(scope='module')
def rich_bag(rich_root: NuScenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(rich_root, tmp_path_factory.mktemp('bags') / 'rich', ['scene-0001'], progress=False)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_real_key_frame_survives_the_round_trip(real_root: NuScenes, real_frame: KeyFrame, tmp_path: Path,
                                                storage: str) -> None:
    path = write_bag(real_root, tmp_path / 'bag', storage=storage, progress=False)
    messages = {topic: message for topic, _, message in read_all(path)}
    for channel, camera in real_frame.cameras.items():
        image = messages[f'/{channel.lower()}/image_rect/compressed']
        assert image.data.tobytes() == camera.path.read_bytes()
        assert (image.format, image.header.frame_id) == ('jpeg', channel.lower())
        info = messages[f'/{channel.lower()}/camera_info']
        np.testing.assert_array_equal(info.k.reshape(3, 3), camera.intrinsics)
        np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], camera.intrinsics)
        assert (info.width, info.height) == (1600, 900)
    cloud = messages['/lidar_top']
    assert cloud.data.tobytes() == real_frame.lidar.path.read_bytes()
    assert (cloud.width, cloud.point_step) == (len(read_lidar(real_frame.lidar.path)), 20)
    assert [(field.name, field.offset, field.datatype) for field in cloud.fields] == [
        ('x', 0, 7), ('y', 4, 7), ('z', 8, 7), ('intensity', 12, 7), ('ring', 16, 7)]
    assert len(messages['/markers/annotations'].markers) == 1 + 68


def test_stamps_are_those_of_the_sensors(real_root: NuScenes, real_frame: KeyFrame, tmp_path: Path) -> None:
    messages = read_all(write_bag(real_root, tmp_path / 'bag', progress=False))
    stamps = [stamp for _, stamp, _ in messages]
    assert stamps == sorted(stamps)
    for topic, stamp, message in messages:
        header = header_of(message)
        assert header.stamp.sec * 10**9 + header.stamp.nanosec == stamp, topic
    by_topic = {topic: stamp for topic, stamp, _ in messages}
    for channel, camera in real_frame.cameras.items():
        assert by_topic[f'/{channel.lower()}/image_rect/compressed'] == camera.stamp_ns
    assert by_topic['/labelled_questions'] == by_topic['/lidar_top'] == real_frame.stamp_ns


def test_transforms_lead_from_camera_to_map(real_root: NuScenes, real_frame: KeyFrame,
                                            tmp_path: Path) -> None:
    messages = read_all(write_bag(real_root, tmp_path / 'bag', progress=False))
    assert messages[0][0] == '/tf_static'
    mounted = {item.child_frame_id: item for item in messages[0][2].transforms}
    assert set(mounted) == {*(name.lower() for name in real_frame.cameras), 'lidar_top'}
    assert {item.header.frame_id for item in mounted.values()} == {'base_link'}
    translation = mounted['lidar_top'].transform.translation
    assert (translation.x, translation.y, translation.z) == pytest.approx((.943713, 0, 1.84023))
    moving = [item for topic, _, message in messages if topic == '/tf' for item in message.transforms]
    assert len(moving) == 7
    assert {(item.header.frame_id, item.child_frame_id) for item in moving} == {('map', 'base_link')}


def test_questions_travel_with_their_answers(real_root: NuScenes, real_frame: KeyFrame,
                                             tmp_path: Path) -> None:
    path = write_bag(real_root, tmp_path / 'bag', progress=False)
    messages = {topic: message for topic, _, message in read_all(path)}
    carried = messages['/labelled_questions']
    assert carried.sample_token == real_frame.token
    assert [(item.question.text, item.answer, item.type, item.hops) for item in carried.questions] == [
        (item.text, item.answer, item.type, item.hops) for item in scene_questions(real_frame)]
    assert len({item.question.id for item in carried.questions}) == len(carried.questions)
    assert all(len(item.question.choices) == 30 for item in carried.questions)
    assert '/labelled_questions' not in {topic for topic, _, _ in read_all(
        write_bag(real_root, tmp_path / 'mute', questions=None, progress=False))}


def test_sweeps_radar_and_imu(rich_bag: Path) -> None:
    messages = read_all(rich_bag)
    counts = Counter(topic for topic, _, _ in messages)
    assert counts['/cam_front_left/image_rect/compressed'] == 3
    assert counts['/cam_front/image_rect/compressed'] == counts['/lidar_top'] == 2
    assert counts['/tf_static'] == counts['/imu'] == counts['/radar_front'] == 1
    radar = next(message for topic, _, message in messages if topic == '/radar_front')
    assert [field.name for field in radar.fields] == list(RADAR_DTYPE.names)
    assert radar.data.view(RADAR_DTYPE)['rcs'].tolist() == [-3.5, 12]
    imu = next(message for topic, _, message in messages if topic == '/imu')
    assert (imu.linear_acceleration.z, imu.angular_velocity.z) == (9.8, .1)


def test_sweeps_have_their_poses_and_can_be_left_out(rich_root: NuScenes, rich_bag: Path,
                                                     tmp_path: Path) -> None:
    counts, stamps = {}, {}
    bare = write_bag(rich_root, tmp_path / 'bag', ['scene-0001'], progress=False, sweeps=False)
    for name, bag in (('with', rich_bag), ('without', bare)):
        messages = read_all(bag)
        counts[name] = Counter(topic for topic, _, _ in messages)
        stamps[name] = {stamp for topic, stamp, _ in messages if topic == '/tf'}
    assert stamps['with'] - stamps['without'] == {EXTRA_STAMP * 1000}
    assert counts['with'] - counts['without'] == Counter(
        ('/tf', '/odom', '/cam_front_left/image_rect/compressed', '/cam_front_left/camera_info'))
    assert not counts['without'] - counts['with']


def test_a_chosen_key_frame_comes_alone(rich_root: NuScenes, tmp_path: Path) -> None:
    frames = list(rich_root.key_frames('scene-0001'))
    messages = read_all(write_bag(rich_root, tmp_path / 'bag', progress=False, samples=[frames[1].token]))
    counts = Counter(topic for topic, _, _ in messages)
    pictures = [topic for topic in counts if topic.endswith('/image_rect/compressed')]
    assert len(pictures) == 6 and {counts[topic] for topic in (*pictures, '/lidar_top', '/tf_static')} == {1}
    assert counts['/labelled_questions'] == counts['/markers/annotations'] == 1
    assert not {'/imu', '/radar_front'} & counts.keys(), 'those belong to other moments of the scene'
    assert {stamp for _, stamp, _ in messages} == {
        frames[1].stamp_ns, *(reading.stamp_ns for reading in frames[1].readings)}
    carried = next(message for topic, _, message in messages if topic == '/labelled_questions')
    assert carried.sample_token == frames[1].token


def test_chosen_key_frames_of_other_scenes_and_unknown_ones_are_refused(small_root: NuScenes,
                                                                        tmp_path: Path) -> None:
    first = next(small_root.key_frames('scene-0001')).token
    with pytest.raises(BagError, match='none with the chosen samples'):
        write_bag(small_root, tmp_path / 'bag', ['scene-0002'], progress=False, samples=[first])
    with pytest.raises(DatasetError, match="no record 'nowhere'"):
        write_bag(small_root, tmp_path / 'bag', progress=False, samples=['nowhere'])
    assert not list(tmp_path.iterdir())


def test_odometry_is_the_speed_of_the_vehicle(small_root: NuScenes, tmp_path: Path) -> None:
    messages = read_all(write_bag(small_root, tmp_path / 'bag', ['scene-0001'], progress=False))
    speeds = [message.twist.twist.linear.x for topic, _, message in messages if topic == '/odom']
    assert len(speeds) == 12
    frames = list(small_root.key_frames('scene-0001'))
    driven = np.linalg.norm(frames[1].ego_pose.translation - frames[0].ego_pose.translation)
    assert speeds == pytest.approx([driven / .5] * len(speeds))


def test_metadata_is_what_rosbag2_reads(rich_bag: Path) -> None:
    information = yaml.safe_load((rich_bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert information['storage_identifier'] == 'mcap'
    assert information['version'] == 8
    assert information['relative_file_paths'] == ['rich.mcap']
    topics = [item['topic_metadata'] for item in information['topics_with_message_count']]
    profiles = {topic['name']: yaml.safe_load(topic['offered_qos_profiles'])[0] for topic in topics}
    assert profiles['/tf_static']['durability'] == QosDurability.TRANSIENT_LOCAL.value == 1
    assert {profiles[name]['durability'] for name in profiles if name != '/tf_static'} == {2}
    assert {profile['reliability'] for profile in profiles.values()} == {1}


def test_ros_reads_every_message(rich_bag: Path) -> None:
    """Padding bytes are undefined in ROS, so its bytes are compared after a round through rosbags."""
    serialization = pytest.importorskip('rclpy.serialization', reason='no ROS', exc_type=ImportError)
    pytest.importorskip('mpnp_ros.msg', reason='the messages are not built', exc_type=ImportError)
    read = set()
    with Reader(rich_bag) as reader:
        for connection, _, data in reader.messages():
            package, kind, name = connection.msgtype.split('/')
            try:
                message_class = getattr(importlib.import_module(f'{package}.{kind}'), name)
            except ImportError:
                continue
            message = serialization.deserialize_message(bytes(data), message_class)
            again = TYPES.deserialize_cdr(serialization.serialize_message(message), connection.msgtype)
            assert TYPES.serialize_cdr(again, connection.msgtype) == data, connection.topic
            read.add(connection.topic)
    assert {'/labelled_questions', '/lidar_top', '/cam_front/image_rect/compressed'} <= read


def test_scenes_follow_each_other_in_time(small_root: NuScenes, tmp_path: Path) -> None:
    names = ['scene-0002', 'scene-0001']
    stamps = [stamp for _, stamp, _ in read_all(write_bag(small_root, tmp_path / 'b', names, progress=False))]
    assert stamps == sorted(stamps)
    assert stamps[-1] - stamps[0] > 3_000 * 10**9


def test_existing_things_are_not_overwritten(real_root: NuScenes, tmp_path: Path) -> None:
    path = write_bag(real_root, tmp_path / 'bag', progress=False)
    before = (path / 'bag.mcap').read_bytes()
    with pytest.raises(BagError, match='exists already'):
        write_bag(real_root, path, progress=False)
    assert (path / 'bag.mcap').read_bytes() == before
    write_bag(real_root, path, questions=None, overwrite=True, progress=False)
    assert len((path / 'bag.mcap').read_bytes()) < len(before)
    (tmp_path / 'holiday').mkdir()
    with pytest.raises(BagError, match='is not a bag'):
        write_bag(real_root, tmp_path / 'holiday', overwrite=True, progress=False)
    assert sorted(item.name for item in tmp_path.iterdir()) == ['bag', 'holiday']


def test_failure_leaves_nothing_behind(rich_root: NuScenes, tmp_path: Path) -> None:
    root = tmp_path / 'root'
    shutil.copytree(rich_root.root, root)
    sweep = next((root / 'samples' / 'CAM_BACK').iterdir())
    sweep.unlink()
    with pytest.raises(DatasetError, match=sweep.name):
        write_bag(NuScenes(root), tmp_path / 'bags' / 'bag', progress=False)
    assert os.listdir(tmp_path / 'bags') == []


@pytest.mark.parametrize(('options', 'words'), [
    ({'storage': 'zip'}, "storage 'zip'; use one of: mcap, sqlite3"), ({'scenes': []}, 'no scene is chosen')])
def test_bad_choices_are_refused(small_root: NuScenes, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(BagError, match=words):
        write_bag(small_root, tmp_path / 'bag', progress=False, **options)
    with pytest.raises(DatasetError, match='no scene'):
        write_bag(small_root, tmp_path / 'bag', ['scene-9999'], progress=False)
