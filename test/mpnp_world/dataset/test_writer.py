"""A written scene: what is read back is what the sensors perceived, for our reader, bags and the devkit."""
from __future__ import annotations

import hashlib
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import cKDTree

pytest.importorskip('moderngl', reason='moderngl is not installed: the world cannot be drawn')
pytest.importorskip('embreex', reason='embreex is not installed: the world has no rays')

from mpnp_ros.bags.player import BagPlayer
from mpnp_ros.bags.writer import write_bag
from mpnp_ros.nuscenes.sensor_files import read_lidar, read_radar, stacked_sweeps
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.poses import rotation_about_z, wrap_angle
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.vocabulary import CATEGORIES
from mpnp_world.broadcast import Broadcast
from mpnp_world.dataset.frames import Sensors, SweepPlan, WorldFrame, WorldSweeps, scene_frames
from mpnp_world.dataset.generate import add_part, merge, prepare
from mpnp_world.dataset.writer import CHANNELS, SENSORS, VERSION, write_scene
from mpnp_world.scene.identity import Conditions, SceneIdentity
from mpnp_world.sensors.rig import CAMERAS, MICROPHONES, RADARS

SIZE, INTERVAL = (96, 54), 0.5
DAY, NIGHT = (SceneIdentity(3, Conditions(light)) for light in ('day', 'night'))


@pytest.fixture(scope='module')
def frames() -> dict[str, list[WorldFrame]]:
    """Two key frames by day and the same two at night, by the scene's name."""
    sensors = Sensors(SENSORS, SIZE)
    return {identity.name: list(scene_frames(identity.seed, identity.conditions, 2, INTERVAL, SENSORS,
                                             sensors)) for identity in (DAY, NIGHT)}


def write(root: Path, frames: dict[str, list[WorldFrame]]) -> NuScenes:
    """The frames as a nuScenes root."""
    prepare(root, {})
    for identity in (DAY, NIGHT):
        add_part(root, identity, write_scene(root, identity, frames[identity.name], SIZE, SENSORS))
    merge(root)
    return NuScenes(root)


@pytest.fixture(scope='module')
def root(frames: dict[str, list[WorldFrame]], tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    """The root of both scenes."""
    return write(tmp_path_factory.mktemp('world') / 'root', frames)


@pytest.fixture(scope='module')
def pairs(root: NuScenes, frames: dict[str, list[WorldFrame]]) -> list[tuple[WorldFrame, KeyFrame]]:
    """Every key frame as perceived and as read back."""
    return [pair for name, scene in frames.items() for pair in zip(scene, root.key_frames(name), strict=True)]


def digest(folder: Path) -> str:
    """Of all names and bytes in a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        total.update(str(path.relative_to(folder)).encode())
        total.update(path.read_bytes() if path.is_file() else b'')
    return total.hexdigest()


def test_objects_are_read_back_as_they_are(pairs):
    for frame, read in pairs:
        wanted = frame.key_frame(SceneIdentity.of_name(read.scene))
        for name in ('token', 'stamp_ns', 'description'):
            assert getattr(read, name) == getattr(wanted, name)
        assert len(read.objects) == len(wanted.objects) > 20
        for first, other in zip(read.objects, wanted.objects, strict=True):
            for name in ('instance', 'category', 'attribute', 'num_lidar_pts', 'num_radar_pts', 'visibility'):
                assert getattr(first, name) == getattr(other, name)
            np.testing.assert_allclose(first.centre, other.centre, atol=1e-9)
            np.testing.assert_allclose(first.size, other.size)
            assert wrap_angle(first.yaw - other.yaw) == pytest.approx(0, abs=1e-9)


def test_velocities_follow_from_the_annotations(pairs):
    moving = [(first.velocity, other.velocity) for frame, read in pairs
              for first, other in zip(read.objects, frame.key_frame(DAY).objects, strict=True)
              if first.attribute in ('moving', 'with rider') and first.velocity]
    assert moving
    derived, true = map(np.array, zip(*moving, strict=True))
    assert np.median(np.linalg.norm(derived - true, axis=1)) < 1.


def test_sensor_files_are_read_back_as_they_are(pairs):
    for frame, read in pairs:
        np.testing.assert_array_equal(read_lidar(read.lidar.path), frame.sweep.points)
        assert set(read.radars) == set(RADARS)
        for channel, reading in read.radars.items():
            assert read_radar(reading.path).tobytes() == frame.radars[channel].points.tobytes()
        assert set(read.cameras) == set(CAMERAS)
        for channel, reading in read.cameras.items():
            image = np.asarray(Image.open(reading.path), float)
            assert reading.size == SIZE
            assert np.abs(image - frame.images[channel]).mean() < 12
            scale = np.array([[SIZE[0] / 1600], [SIZE[1] / 900], [1]])
            np.testing.assert_allclose(reading.intrinsics, CAMERAS[channel].intrinsics * scale)


def test_points_counted_on_an_object_lie_in_its_box(pairs):
    """Ties calibration, pose, sweep and annotations together."""
    counted = 0
    for _, read in pairs:
        points = read.lidar.extrinsics.apply(read_lidar(read.lidar.path)[:, :3])
        for item in read.objects:
            if item.num_lidar_pts < 5:
                continue
            local = (points - item.centre) @ rotation_about_z(item.yaw)
            inside = (np.abs(local) <= np.array(item.size) / 2 + .15).all(1).sum()
            assert inside >= .8 * item.num_lidar_pts, item
            counted += 1
    assert counted > 10


def test_twins_differ_in_what_cameras_see_only(root):
    day, night = (list(root.key_frames(identity.name)) for identity in (DAY, NIGHT))
    assert [frame.is_night for frame in day + night] == [False, False, True, True]
    for first, other in zip(day, night, strict=True):
        assert first.lidar.path.read_bytes() == other.lidar.path.read_bytes()
        assert first.token != other.token and first.stamp_ns != other.stamp_ns
        assert [item.num_lidar_pts for item in first.objects] == \
            [item.num_lidar_pts for item in other.objects]
        grey = [np.mean(Image.open(frame.cameras['CAM_FRONT'].path).convert('L')) for frame in (first, other)]
        assert grey[1] < grey[0] / 2


def test_categories_are_those_of_nuscenes_qa(pairs):
    assert {item.category for _, read in pairs for item in read.objects} <= set(CATEGORIES)


def test_sound_joins_without_a_gap(root, frames):
    for name, scene in frames.items():
        records = [record for record in json.loads((root.root / VERSION / 'sound.json').read_bytes())
                   if name in record['filename']]
        assert [record['sample_token'] for record in records] == [
            frame.token for frame in root.key_frames(name)]
        assert all(record['duration'] == INTERVAL for record in records)
        for record, frame in zip(records, scene, strict=True):
            with wave.open(str(root.root / record['filename'])) as file:
                assert (file.getnchannels(), file.getframerate()) == (len(MICROPHONES), 16000)
                samples = np.frombuffer(file.readframes(file.getnframes()), '<i2')
            heard = samples.reshape(-1, len(MICROPHONES)).T / 32767
            np.testing.assert_allclose(heard, frame.sound, atol=1e-4)
            assert samples.any()


def test_a_bag_of_it_has_all_that_the_live_world_has(root, tmp_path):
    player = BagPlayer(write_bag(root, tmp_path / 'bag', [NIGHT.name], progress=False))
    live = Broadcast(NIGHT.start, tuple(CHANNELS), SIZE, lambda frame: [])
    assert {name: topic.type_name for name, topic in player.topics.items()} == live.topics


def test_the_same_frames_are_the_same_bytes(root, frames, tmp_path):
    assert digest(write(tmp_path / 'again', frames).root) == digest(root.root)


@pytest.mark.filterwarnings('ignore')
def test_official_devkit_reads_it(root):
    devkit = pytest.importorskip('nuscenes.nuscenes', reason='nuscenes-devkit is not installed')
    official = devkit.NuScenes(root.version, str(root.root), verbose=False)
    for scene in root.scenes:
        for frame in root.key_frames(scene):
            sample = official.get('sample', frame.token)
            assert len(sample['anns']) == len(frame.objects)
            _, boxes, _ = official.get_sample_data(sample['data']['CAM_FRONT'])
            assert boxes
            assert set(sample['data']) == {*CAMERAS, *RADARS, 'LIDAR_TOP'}


@pytest.fixture(scope='module')
def moving(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[WorldFrame | WorldSweeps], NuScenes]:
    """Two key frames with the sweeps of the 0.2 s before each, as perceived and as a root."""
    scene = list(scene_frames(DAY.seed, DAY.conditions, 2, INTERVAL, CHANNELS, Sensors(CHANNELS, SIZE),
                              SweepPlan(tuple(CHANNELS), .2)))
    root = tmp_path_factory.mktemp('moving') / 'root'
    prepare(root, {})
    add_part(root, DAY, write_scene(root, DAY, scene, SIZE, CHANNELS))
    merge(root)
    return scene, NuScenes(root)


def test_sweeps_are_read_back_as_they_are(moving):
    """With their own times and poses, linked in time order, as belonging to the key frame that follows."""
    scene, root = moving
    second = list(root.key_frames(DAY.name))[1]
    for channel, count in {'LIDAR_TOP': 4, 'CAM_BACK': 2, 'RADAR_FRONT': 2}.items():
        sweeps = [item for item in scene if item.index == 1 and isinstance(item, WorldSweeps)
                  and (channel in item.images or channel in item.radars
                       or channel == 'LIDAR_TOP' and item.sweep)]
        read = second.earlier(channel, .3)
        assert len(read) == len(sweeps) == count
        for wanted, reading in zip(sweeps, reversed(read), strict=True):
            assert not reading.is_key_frame and reading.path.parts[-3:-1] == ('sweeps', channel)
            assert reading.stamp_ns == DAY.stamp(wanted.state.time) * 1000
            np.testing.assert_allclose(reading.ego_pose.translation, wanted.state.ego.pose.translation)
            if channel == 'LIDAR_TOP':
                np.testing.assert_array_equal(read_lidar(reading.path), wanted.sweep.points)
            elif channel == 'CAM_BACK':
                assert reading.size == Image.open(reading.path).size == SIZE
            else:
                assert read_radar(reading.path).tobytes() == wanted.radars[channel].points.tobytes()
        assert len(second.earlier(channel, .5)) == count + 1, 'the key frame before is among them'


def test_what_stands_coincides_in_stacked_sweeps(moving):
    """Up to half the distance between points; without the motion of the vehicle it would not."""
    _, root = moving
    frame = list(root.key_frames(DAY.name))[1]
    points = stacked_sweeps(frame, .5)
    assert sorted(set(points[:, 4].round(3).tolist())) == pytest.approx([0., .05, .1, .15, .2, .5])
    before = frame.earlier('LIDAR_TOP', .5)[-1]
    assert np.linalg.norm(frame.to_base(before).translation - frame.lidar.extrinsics.translation) > 1.
    now, old = points[points[:, 4] == 0, :3], points[points[:, 4] > .4, :3]
    unmoved = before.extrinsics.apply(read_lidar(before.path)[:, :3])
    gaps, without = [], []
    for item in frame.objects:
        if item.attribute == 'parked' and item.num_lidar_pts > 100 and item.distance < 20:
            nearest = cKDTree(now[above(item, now)])
            gaps += nearest.query(old[above(item, old)])[0].tolist()
            without += nearest.query(unmoved[above(item, unmoved)])[0].tolist()
    assert len(gaps) > 300
    assert np.median(gaps) < .1 and np.quantile(gaps, .9) < .3
    assert np.median(without) > .2


def above(item: AnnotatedObject, points: np.ndarray) -> np.ndarray:
    """Which points lie in a box or up to a metre beside it, and not on the ground."""
    local = (points - item.centre) @ rotation_about_z(item.yaw)
    return (np.abs(local) <= np.array(item.size) / 2 + (1., 1., -.3)).all(1)


@pytest.mark.filterwarnings('ignore')
def test_official_devkit_stacks_the_same_sweeps(moving):
    devkit = pytest.importorskip('nuscenes.nuscenes', reason='nuscenes-devkit is not installed')
    clouds = pytest.importorskip('nuscenes.utils.data_classes')
    _, root = moving
    frame = list(root.key_frames(DAY.name))[1]
    official = devkit.NuScenes(root.version, str(root.root), verbose=False)
    sample = official.get('sample', frame.token)
    cloud, ages = clouds.LidarPointCloud.from_file_multisweep(official, sample, 'LIDAR_TOP', 'LIDAR_TOP',
                                                              nsweeps=6, min_distance=1.)
    ours = stacked_sweeps(frame, .5)
    assert sorted(set(ages.ravel().round(3).tolist())) == pytest.approx(
        sorted(set(ours[:, 4].round(3).tolist())))
    near = np.hypot(*cloud.points[:2]) < 1.
    assert near.mean() < .01, 'the devkit leaves a square out, we a circle'
    assert len(ours) == (~near).sum()
    np.testing.assert_allclose(frame.lidar.extrinsics.apply(cloud.points.T[~near, :3]), ours[:, :3],
                               atol=1e-3)
    np.testing.assert_array_equal(cloud.points[3, ~near], ours[:, 3])
